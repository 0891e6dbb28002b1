"""The namespace in which programs of `nuse run` live: one device that shows the stack's addresses, and no way out.

`ip addr`, getaddrinfo(AI_ADDRCONFIG) and netlink listeners see a sane host there: lo, nuse0 with the stack's addresses,
default routes of both versions. What a program sends past the shim comes out of nuse0 at the stack and goes no further.
"""

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from pyroute2 import IPRoute, NetlinkError, netns

from nuse.linkspec import LinkSpec
from nuse.refusal import Refused
from nuse.statedir import Journal

DEVICE = "nuse0"
TX_QUEUE = 10_000
IFA_F_NODAD = 0x02
RESOLV = Path("/etc/resolv.conf")
RESOLV_UPSTREAM = Path("/run/systemd/resolve/resolv.conf")  # the true servers behind systemd-resolved's 127.0.0.53


def netns_path(name: str) -> str:
    """The file that stands for the namespace `name`."""
    return f"/run/netns/{name}"


def resolv_path(name: str) -> Path:
    """Where `ip netns exec` and `nuse run` look for the namespace's resolv.conf."""
    return Path("/etc/netns") / name / "resolv.conf"


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """This thread is in the namespace `name` for the length of a with block."""
    netns.pushns(name)
    try:
        yield
    finally:
        netns.popns()


def make_netns(name: str, links: list[LinkSpec], journal: Journal, kept: Journal) -> list[str]:
    """Make the namespace and fill it, but for what `kept` says is there already. Returns warnings."""
    step = {"kind": "netns", "name": name}
    ours = step in kept.steps or step in journal.steps
    exists = name in netns.listnetns()
    if exists and ours and not _alive(name):
        netns.remove(name)
        exists = False
    if exists and not ours:
        raise Refused(
            f"network namespace {name!r} exists and is not ours: `ip netns del {name}`, or take another --name"
        )
    if not exists:
        if step not in kept.steps:
            journal.record(step)
        _create(name)
    with inside(name):
        _fill(links)
    return _make_resolv(name, links, journal, kept)


def _alive(name: str) -> bool:
    """Whether a namespace stands behind the name; a file alone is what a lost mount leaves."""
    return os.stat(netns_path(name)).st_dev == os.stat("/proc/self/ns/net").st_dev


def _create(name: str) -> None:
    try:
        netns.create(name)
    except OSError as exc:
        raise Refused(f"cannot make network namespace {name!r}: {exc.strerror or exc}") from None
    if name not in netns.listnetns():
        raise Refused(f"cannot make network namespace {name!r}: CAP_SYS_ADMIN is needed")


def _fill(links: list[LinkSpec]) -> None:
    """Give the namespace its lo and nuse0."""
    with IPRoute() as ip:
        ip.link("set", index=1, state="up")
        if not ip.link_lookup(ifname=DEVICE):
            ip.link("add", ifname=DEVICE, kind="tuntap", mode="tun")
        index = ip.link_lookup(ifname=DEVICE)[0]
        quiet_ipv6(DEVICE)
        ip.link("set", index=index, mtu=min(spec.mtu for spec in links), txqlen=TX_QUEUE, state="up")
        versions = set()
        for spec in links:
            for address in spec.stack:
                add_address(ip, index, str(address.ip), address.network.prefixlen)
                versions.add(address.version)
        for version in versions:
            family = socket.AF_INET if version == 4 else socket.AF_INET6
            with_exists(partial(ip.route, "add", dst="default", oif=index, family=family))


def add_address(ip: IPRoute, index: int, address: str, prefixlen: int) -> bool:
    """Put an address on a device; False if it was there."""
    flags = {"flags": IFA_F_NODAD} if ":" in address else {}
    return with_exists(partial(ip.addr, "add", index=index, address=address, prefixlen=prefixlen, **flags))


def with_exists(make: Callable[[], object]) -> bool:
    """Call `make`; False if what it makes exists already."""
    try:
        make()
    except NetlinkError as exc:
        if exc.code == errno.EEXIST:
            return False
        raise
    return True


def quiet_ipv6(device: str) -> None:
    """IPv6 on, whatever the default says, and no link-local chatter: a TUN has no neighbours to solicit."""
    conf = Path("/proc/sys/net/ipv6/conf") / device
    for knob, value in (("disable_ipv6", "0"), ("addr_gen_mode", "1"), ("accept_ra", "0")):
        with contextlib.suppress(OSError):
            (conf / knob).write_text(value)


def resolv_text(links: list[LinkSpec], sources: tuple[Path, ...] = (RESOLV, RESOLV_UPSTREAM)) -> str:
    """resolv.conf for the namespace: the host's, with name servers that can be reached from there.

    A name server on a loopback address is the host's own; the upstream list of systemd-resolved is better, and the
    host's address on the first link is the last resort (a dnsmasq or unbound that listens everywhere).
    """
    fallback = ""
    for source in sources:
        try:
            lines = source.read_text().splitlines()
        except OSError:
            continue
        usable = [line for line in lines if not _loopback_server(line)]
        if any(line.split()[:1] == ["nameserver"] for line in usable):
            return "\n".join(usable) + "\n"
        fallback = fallback or "".join(line + "\n" for line in usable)
    hosts = [gateway for spec in links for version in (4, 6) if (gateway := spec.gateway(version))]
    return fallback + (f"nameserver {hosts[0].ip}\n" if hosts else "")


def _loopback_server(line: str) -> bool:
    words = line.split()
    if len(words) < 2 or words[0] != "nameserver":
        return False
    try:
        return ipaddress.ip_address(words[1].partition("%")[0]).is_loopback
    except ValueError:
        return True


def _make_resolv(name: str, links: list[LinkSpec], journal: Journal, kept: Journal) -> list[str]:
    """Write /etc/netns/NAME/resolv.conf; a file that somebody else put there stays."""
    path = resolv_path(name)
    step = {"kind": "file", "path": str(path)}
    if path.exists() and step not in journal.steps:
        return []
    for directory in (path.parent.parent, path.parent):
        if not directory.is_dir() and {"kind": "dir", "path": str(directory)} not in kept.steps:
            journal.record({"kind": "dir", "path": str(directory)})
    journal.record(step)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(resolv_text(links))
    except OSError as exc:
        return [f"cannot write {path}: {exc.strerror}; programs keep the host's name servers"]
    return []
