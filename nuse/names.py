"""Host names and socket addresses at the edge of the embedded API: text ↔ what the stack uses.

Resolution is deliberately small: literal addresses and /etc/hosts. A program that wants DNS asks a resolver over the
stack; the kernel's would go round it.
"""

import ipaddress
import socket
from pathlib import Path

from stack.ip.addr import ANY4, ANY6

HOSTS = Path("/etc/hosts")

SockAddr = tuple[bytes, int]


def show_for_asyncio(sockaddr: SockAddr | None) -> tuple[str, int] | tuple[str, int, int, int] | None:
    """(host, port), or for IPv6 (host, port, flowinfo, scope), as socket.getpeername() gives it."""
    if sockaddr is None:
        return None
    addr, port = sockaddr
    text = str(ipaddress.ip_address(addr))
    return (text, port) if len(addr) == 4 else (text, port, 0, 0)


def resolve(host: str | bytes | None, *, hosts: Path = HOSTS) -> list[bytes]:
    """The addresses of a host, IPv6 ones as they come. None or "" is any address. Raises socket.gaierror."""
    if not host:
        return [ANY6]
    name = host.decode() if isinstance(host, bytes) else host
    try:
        return [ipaddress.ip_address(name.partition("%")[0]).packed]
    except ValueError:
        pass
    found: list[bytes] = []
    try:
        lines = hosts.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        words = line.partition("#")[0].split()
        if len(words) > 1 and name.lower() in (word.lower() for word in words[1:]):
            try:
                addr = ipaddress.ip_address(words[0]).packed
            except ValueError:
                continue
            if addr not in found:
                found.append(addr)
    if not found:
        raise socket.gaierror(socket.EAI_NONAME, f"{name!r} is no address and not in {hosts}")
    return found


def any_of(addr: bytes) -> bytes:
    """The wildcard address of the same family."""
    return ANY4 if len(addr) == 4 else ANY6
