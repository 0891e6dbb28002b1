"""Rules that say which sockets the stack serves and which the kernel: words of [shim] rules and `nuse run --rule`.

    VERDICT [tcp|udp|ping|raw] [program NAME] [to PREFIX | listen [PREFIX]] [port N[-M]]

VERDICT is `stack`, `kernel`, or for streams `mptcp` (upgraded) and `tcp` (not upgraded), both on the stack. NAME is a
program's name or path, with * and ?. `to` and `port` are of the other end, with `listen` of our own. The first rule
that fits decides, and the stack has what none fits.

A rule without `to`, `listen` and `port` decides when the socket is made; the others when connect, sendto, listen or a
UDP socket's bind tell the address. Until then the socket is the stack's, and is exchanged if the kernel is to have it.
"""

import fnmatch
import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network

STACK, KERNEL, MPTCP, TCP = "stack", "kernel", "mptcp", "tcp"
VERDICTS = (STACK, KERNEL, MPTCP, TCP)
KINDS = ("tcp", "udp", "ping", "raw")
TO, LISTEN = "to", "listen"
PORT_MOST = 65535
LOOPBACK_PREFIXES = ("127.0.0.0/8", "::1")
LOOPBACK_RULES = tuple(f"kernel {side} {prefix}" for side in (TO, LISTEN) for prefix in LOOPBACK_PREFIXES)


class RuleError(ValueError):
    """A rule that is none; the message says why."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `side` empty: it does not ask for an address."""

    verdict: str
    kind: str = ""
    program: str = ""
    side: str = ""
    prefix: Prefix | None = None
    ports: tuple[int, int] = (0, PORT_MOST)

    def is_about(self, kind: str, names: Callable[[], Iterable[str]]) -> bool:
        """The kind of socket and the program fit."""
        if self.kind not in ("", kind) or (self.verdict in (MPTCP, TCP) and kind != "tcp"):
            return False
        return not self.program or any(fnmatch.fnmatchcase(name, self.program) for name in names())

    def fits(self, side: str, addr: bytes, port: int) -> bool:
        """The address fits."""
        if side != self.side or not self.ports[0] <= port <= self.ports[1]:
            return False
        if self.prefix is None:
            return True
        address = ipaddress.ip_address(addr)
        return address.version == self.prefix.version and address in self.prefix


def parse_rule(text: str) -> Rule:
    """Raises RuleError."""
    verdict, *words = text.split() or [""]
    if verdict not in VERDICTS:
        raise RuleError(f"rule {text!r}: begins with {', '.join(VERDICTS)}")
    found: dict[str, object] = {}

    def note(name: str, value: object) -> None:
        if name in found:
            raise RuleError(f"rule {text!r}: says {name} twice")
        found[name] = value

    while words:
        word = words.pop(0)
        if word in KINDS:
            note("kind", word)
        elif word == LISTEN and (not words or words[0] in (*KINDS, "port", "program")):
            note("side", LISTEN)
        elif word in ("program", "port", TO, LISTEN):
            if not words:
                raise RuleError(f"rule {text!r}: something belongs after {word!r}")
            value = words.pop(0)
            if word == "program":
                note("program", value)
            elif word == "port":
                note("ports", _ports(text, value))
            else:
                note("side", word)
                note("prefix", _prefix(text, value))
        else:
            raise RuleError(f"rule {text!r}: {word!r} is none of {', '.join(KINDS)}, program, to, listen, port")
    if "ports" in found:
        found.setdefault("side", TO)
    if found.get("kind") not in (None, "tcp") and verdict in (MPTCP, TCP):
        raise RuleError(f"rule {text!r}: {verdict} is for streams")
    if found.get("kind") in ("ping", "raw") and "ports" in found:
        raise RuleError(f"rule {text!r}: {found['kind']} has no ports")
    return Rule(verdict, **found)  # type: ignore[arg-type]


def rules_of(words: Iterable[str], loopback: str) -> tuple[Rule, ...]:
    """Rules in their order, then those of `loopback`, "stack" or "kernel". Raises RuleError."""
    return tuple(parse_rule(text) for text in (*words, *(LOOPBACK_RULES if loopback == KERNEL else ())))


def _ports(text: str, value: str) -> tuple[int, int]:
    first, dash, last = value.partition("-")
    try:
        low, high = int(first), int(last if dash else first)
    except ValueError:
        raise RuleError(f"rule {text!r}: {value!r} is no port") from None
    if not 0 <= low <= high <= PORT_MOST:
        raise RuleError(f"rule {text!r}: {value!r} is no range of ports")
    return low, high


def _prefix(text: str, value: str) -> Prefix:
    try:
        return ipaddress.ip_network(value, strict=False)
    except ValueError as error:
        raise RuleError(f"rule {text!r}: {error}") from None


def decide(
    rules: Sequence[Rule], kind: str, names: Callable[[], Iterable[str]], side: str, addr: bytes = b"", port: int = 0
) -> str | None:
    """The verdict about an address; with no `side` yet that about the socket, None if it depends on the address."""
    for rule in rules:
        if not rule.is_about(kind, names):
            continue
        if not rule.side:
            return rule.verdict
        if not side:
            return None
        if rule.fits(side, addr, port):
            return rule.verdict
    return STACK
