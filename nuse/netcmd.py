"""Changing a running stack's routes, addresses and MTUs, in the words of ip-route(8) and ip-link(8).

    route add|del|replace [TYPE] PREFIX|default [via ADDR] [dev LINK] [src ADDR] [metric N] [mtu N] [advmss N]

A TUN is point to point, so a gateway is checked and shown but sends packets nowhere else. What is refused raises
StackError with a line in `ip`'s manner.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass

from stack.errors import StackError
from stack.host import Stack
from stack.ip.addr import parse_addr, show_addr
from stack.ip.link import Link
from stack.ip.route import REFUSALS, Entry, network

ROUTE_USAGE = (
    "route add|del|replace [blackhole|unreachable|prohibit|throw] PREFIX|default"
    " [via ADDR] [dev LINK] [src ADDR] [metric N] [mtu N] [advmss N]"
)
METRIC6 = 1024  # of IPv6 routes that name none, as in Linux


@dataclass(slots=True)
class Words:
    """A route as it was spelled; None for what was not said."""

    kind: str = "unicast"
    prefix: bytes = b""
    length: int = 0
    via: bytes | None = None
    src: bytes | None = None
    dev: str | None = None
    metric: int | None = None
    mtu: int = 0
    advmss: int = 0


def change_route(stack: Stack, verb: str, words: Sequence[str]) -> None:
    """Obey `route VERB WORDS…`. Raises StackError: EINVAL, EEXIST, ESRCH, ENODEV, ENETUNREACH."""
    said = parse_route(words)
    if verb in ("del", "delete"):
        kind = said.kind if said.kind != "unicast" else ""
        link = _link(stack, said.dev) if said.dev is not None else None
        stack.routes.delete(said.prefix, said.length, metric=said.metric, link=link, kind=kind)
    elif verb == "add":
        stack.routes.add(_entry(stack, said))
    elif verb in ("replace", "change"):
        entry = _entry(stack, said)
        try:
            old = stack.routes.delete(entry.prefix, entry.length, metric=entry.metric)
        except StackError:
            if verb == "change":
                raise
            old = None
        try:
            stack.routes.add(entry)
        except StackError:
            if old is not None:
                stack.routes.add(old)
            raise
    else:
        raise StackError(errno.EINVAL, f"usage: {ROUTE_USAGE}")


def parse_route(words: Sequence[str]) -> Words:
    """The words after the verb. Raises StackError EINVAL."""
    said = Words()
    rest = list(words)
    if rest and rest[0] in ("unicast", *REFUSALS):
        said.kind = rest.pop(0)
    if not rest or len(rest) % 2 == 0:
        raise StackError(errno.EINVAL, f"usage: {ROUTE_USAGE}")
    where = rest.pop(0)
    for word, value in zip(rest[::2], rest[1::2], strict=True):
        if word in ("via", "src"):
            setattr(said, word, _addr(value))
        elif word == "dev":
            said.dev = value
        elif word in ("metric", "mtu", "advmss"):
            setattr(said, word, _number(word, value))
        else:
            raise StackError(errno.EINVAL, f"{word!r} is none of via, dev, src, metric, mtu, advmss")
    family = len(said.via or said.src or bytes(4))
    said.prefix, said.length = (bytes(family), 0) if where == "default" else _prefix(where)
    if any(len(addr) != len(said.prefix) for addr in (said.via, said.src) if addr is not None):
        raise StackError(errno.EINVAL, "addresses of one family are wanted")
    return said


def _entry(stack: Stack, said: Words) -> Entry:
    if network(said.prefix, said.length) != said.prefix:
        raise StackError(errno.EINVAL, f"{show_addr(said.prefix)}/{said.length} has bits beyond its prefix")
    metric = said.metric if said.metric is not None else METRIC6 if len(said.prefix) == 16 else 0
    if said.kind != "unicast":
        link = stack.lo if said.dev is None else _link(stack, said.dev)
        return Entry(said.prefix, said.length, link, metric, None, said.kind)
    if said.src is not None and not stack.routes.is_local(said.src):
        raise StackError(errno.EINVAL, f"src {show_addr(said.src)} is not an address of this stack")
    where = said.prefix, said.length, _next_hop(stack, said)
    return Entry(*where, metric, said.via, mtu=said.mtu, advmss=said.advmss, src=said.src)


def _next_hop(stack: Stack, said: Words) -> Link:
    """The link that is named, or the one whose prefix holds the gateway. Raises StackError."""
    link = _link(stack, said.dev) if said.dev is not None else None
    if said.via is None:
        if link is None:
            raise StackError(errno.ENODEV, "a route wants `dev LINK` or `via ADDR`")
        return link
    for each in [link] if link is not None else stack.links.values():
        for addr, length in each.addrs:
            if len(addr) == len(said.via) and network(addr, length) == network(said.via, length):
                return each
    raise StackError(errno.ENETUNREACH, f"gateway {show_addr(said.via)} is on none of the links")


def change_link(stack: Stack, link: Link, verb: str, words: Sequence[str]) -> None:
    """Obey `mtu N` and `addr add|del ADDR/LENGTH`. Raises StackError."""
    if verb == "mtu" and len(words) == 1:
        stack.set_link_mtu(link, _number("mtu", words[0]))
    elif verb == "addr" and len(words) == 2 and words[0] == "add":
        stack.add_addr(link, *_prefix(words[1]))
    elif verb == "addr" and len(words) == 2 and words[0] in ("del", "delete"):
        stack.remove_addr(link, _prefix(words[1])[0])
    else:
        raise StackError(errno.EINVAL, "usage: link LINK up|down|mtu N|addr add|del ADDR/LENGTH|impair …")


def _link(stack: Stack, name: str) -> Link:
    link = stack.links.get(name)
    if link is None:
        raise StackError(errno.ENODEV, f"no link {name!r}; there are {' '.join(sorted(stack.links))}")
    return link


def _addr(text: str) -> bytes:
    try:
        return parse_addr(text)
    except ValueError:
        raise StackError(errno.EINVAL, f"{text!r} is no address") from None


def _prefix(text: str) -> tuple[bytes, int]:
    host, slash, length = text.partition("/")
    addr = _addr(host)
    bits = _number("a prefix length", length) if slash else len(addr) * 8
    if bits > len(addr) * 8:
        raise StackError(errno.EINVAL, f"{text!r}: a prefix has at most {len(addr) * 8} bits")
    return addr, bits


def _number(what: str, text: object) -> int:
    if not (isinstance(text, int) or (isinstance(text, str) and text.isascii() and text.isdigit())):
        raise StackError(errno.EINVAL, f"{what} wants a number, not {text!r}")
    return int(text)
