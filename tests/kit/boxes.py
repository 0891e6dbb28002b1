"""Middleboxes for kit/mesh.py: what sits on real paths and changes TCP (RFC 8684 §3.7, RFC 6182 §4).

Each is a function of (side that sent it, wire, packet) that returns the packets to carry instead.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mptcp.options import DSS, KIND, MP_CAPABLE
from stack.checksum import finish, ones_sum
from stack.wire.tcp import ACK, FIN, PSH, RST, SYN
from stack.wire.tcp_options import NOP, TIMESTAMPS, split_options

IP = 10  # where the header begins, behind the virtio header
Box = Callable[[str, int, bytes], Sequence[bytes]]


@dataclass(slots=True)
class Parts:
    """One packet taken apart; `pack` puts it together with fresh lengths and checksums."""

    side: str
    wire: int
    ip: bytes
    fixed: bytes  # the first twenty bytes of the TCP header
    options: list[tuple[int, bytes]]  # without NOPs
    text: bytes

    @property
    def v6(self) -> bool:
        return len(self.ip) == 40

    @property
    def src(self) -> bytes:
        return self.ip[8:24] if self.v6 else self.ip[12:16]

    @property
    def dst(self) -> bytes:
        return self.ip[24:] if self.v6 else self.ip[16:]

    @property
    def flags(self) -> int:
        return self.fixed[13]

    @property
    def seq(self) -> int:
        return int.from_bytes(self.fixed[4:8], "big")

    def shifted(self, seq: int = 0, ack: int = 0) -> "Parts":
        """The same with other numbers."""
        fixed = bytearray(self.fixed)
        fixed[4:8] = ((self.seq + seq) & 0xFFFF_FFFF).to_bytes(4, "big")
        fixed[8:12] = ((int.from_bytes(fixed[8:12], "big") + ack) & 0xFFFF_FFFF).to_bytes(4, "big")
        return Parts(self.side, self.wire, self.ip, bytes(fixed), list(self.options), self.text)

    def flagged(self, flags: int) -> "Parts":
        """With these flags instead of its own."""
        self.fixed = self.fixed[:13] + bytes((flags,)) + self.fixed[14:]
        return self

    def has(self, subtype: int | None = None) -> bool:
        """True if it carries MPTCP, or that subtype of it."""
        return any(kind == KIND and subtype in (None, body[0] >> 4) for kind, body in self.options)

    def strip(self) -> "Parts":
        """Without MPTCP."""
        self.options = [each for each in self.options if each[0] != KIND]
        return self

    def pack(self) -> bytes:
        """The packet."""
        options = b"".join(bytes((kind, 2 + len(body))) + body for kind, body in self.options)
        options += bytes((NOP,)) * (-len(options) % 4)
        fixed = bytearray(self.fixed)
        fixed[12] = (20 + len(options)) // 4 << 4
        fixed[16:18] = b"\0\0"
        segment = bytes(fixed) + options + self.text
        ip = bytearray(self.ip)
        if self.v6:
            ip[4:6] = len(segment).to_bytes(2, "big")
        else:
            ip[2:4] = (20 + len(segment)).to_bytes(2, "big")
            ip[10:12] = b"\0\0"
            ip[10:12] = finish(ones_sum(bytes(ip))).to_bytes(2, "big")
        pseudo = self.src + self.dst + b"\0\6" + len(segment).to_bytes(2, "big")
        checksum = finish(ones_sum(pseudo) + ones_sum(segment)).to_bytes(2, "big")
        return bytes(IP) + bytes(ip) + segment[:16] + checksum + segment[18:]


def take_apart(side: str, wire: int, packet: bytes) -> Parts:
    """The parts of a TCP packet without IP options or extension headers."""
    if packet[IP] >> 4 == 6:
        tcp = IP + 40
        end = tcp + int.from_bytes(packet[IP + 4 : IP + 6], "big")
    else:
        tcp = IP + 20
        end = IP + int.from_bytes(packet[IP + 2 : IP + 4], "big")
    text = tcp + (packet[tcp + 12] >> 4) * 4
    options = split_options(packet[tcp + 20 : text])
    return Parts(side, wire, packet[IP:tcp], packet[tcp : tcp + 20], options, packet[text:end])


def strips(when: Callable[[Parts], Any]) -> Box:
    """MPTCP options are removed where `when` says so."""

    def box(side: str, wire: int, packet: bytes) -> Sequence[bytes]:
        parts = take_apart(side, wire, packet)
        return [parts.strip().pack() if parts.has() and when(parts) else packet]

    return box


def strips_after(count: int, side: str = "") -> Box:
    """From the packet with this number on (of one side only, if it is named)."""
    seen = 0

    def late(parts: Parts) -> bool:
        nonlocal seen
        seen += 1
        return seen > count and side in ("", parts.side)

    return strips(late)


def swallows_syns(side: str, wire: int, packet: bytes) -> Sequence[bytes]:
    """A black hole: SYNs with an unknown option vanish."""
    parts = take_apart(side, wire, packet)
    return [] if parts.flags & SYN and parts.has() else [packet]


def swallows_keys(side: str, wire: int, packet: bytes) -> Sequence[bytes]:
    """What would bring the client's key is lost."""
    parts = take_apart(side, wire, packet)
    return [] if side == "a" and parts.has(MP_CAPABLE) and not parts.flags & SYN else [packet]


def splits(*, copy: bool) -> Box:
    """Segments are cut in two; the second half has the options too, or not."""

    def box(side: str, wire: int, packet: bytes) -> Sequence[bytes]:
        first = take_apart(side, wire, packet)
        at = len(first.text) // 2 + 1
        if at < 200:
            return [packet]
        second = first.shifted(seq=at)
        first.text, second.text = first.text[:at], first.text[at:]
        first.flagged(first.flags & ~(FIN | PSH))
        return [first.pack(), (second if copy else second.strip()).pack()]

    return box


def coalesces() -> Box:
    """Small segments in a row become one, with the options of the first."""
    held: dict[tuple[str, int, bytes], Parts] = {}

    def box(side: str, wire: int, packet: bytes) -> Sequence[bytes]:
        parts = take_apart(side, wire, packet)
        key = (side, wire, parts.fixed[:4])
        before = held.pop(key, None)
        if before is not None and parts.text and before.seq + len(before.text) == parts.seq:
            before.text += parts.text
            return [before.flagged(before.flags | parts.flags).pack()]
        out = [before.pack()] if before is not None else []
        if 0 < len(parts.text) < 700:
            held[key] = parts
            return out
        return [*out, packet]

    return box


def renumbers(by: int = 0x1234_5678) -> Box:
    """A firewall that picks initial sequence numbers of its own for who connects; SACK blocks it leaves alone."""

    def box(side: str, wire: int, packet: bytes) -> Sequence[bytes]:
        parts = take_apart(side, wire, packet)
        return [(parts.shifted(seq=by) if side == "a" else parts.shifted(ack=-by)).pack()]

    return box


def rewrites(number: int) -> Box:
    """Text is changed in the segment with this number from `a` over wire 0, with a correct TCP checksum."""
    seen = 0

    def box(side: str, wire: int, packet: bytes) -> Sequence[bytes]:
        nonlocal seen
        parts = take_apart(side, wire, packet)
        if side == "a" and not wire and len(parts.text) > 500:
            seen += 1
            if seen == number:
                parts.text = parts.text[:100] + bytes(byte ^ 0x55 for byte in parts.text[100:104]) + parts.text[104:]
                return [parts.pack()]
        return [packet]

    return box


def changes_word(old: bytes, new: bytes, wire: int = -1) -> Box:
    """A gateway for some application changes a word of the text, of one length here, on one wire or all."""
    assert len(old) == len(new)

    def box(side: str, number: int, packet: bytes) -> Sequence[bytes]:
        parts = take_apart(side, number, packet)
        if old not in parts.text or wire not in (-1, number):
            return [packet]
        parts.text = parts.text.replace(old, new)
        return [parts.pack()]

    return box


def repeats_options() -> Box:
    """Each MPTCP option is there twice, where both fit."""

    def box(side: str, wire: int, packet: bytes) -> Sequence[bytes]:
        parts = take_apart(side, wire, packet)
        twice = parts.options + [each for each in parts.options if each[0] == KIND]
        if sum(2 + len(body) for _kind, body in twice) > 40:
            return [packet]
        parts.options = twice
        return [parts.pack()]

    return box


def translates() -> Box:
    """NAT in front of `a`: on each wire it is seen at address .77, and each of its flows at another port."""
    ports: dict[bytes, bytes] = {}
    inside: dict[tuple[int, bytes], tuple[bytes, bytes]] = {}

    def box(side: str, wire: int, packet: bytes) -> Sequence[bytes]:
        parts = take_apart(side, wire, packet)
        if side == "a":
            port = parts.fixed[:2]
            new = ports.setdefault(port, (20_000 + len(ports)).to_bytes(2, "big"))
            inside[wire, new] = (parts.src, port)
            size = len(parts.src)
            parts.ip = parts.ip[: -size - 1] + b"\x4d" + parts.ip[-size:]
            parts.fixed = new + parts.fixed[2:]
            return [parts.pack()]
        known = inside.get((wire, parts.fixed[2:4]))
        if known is None:
            return []
        parts.ip = parts.ip[: -len(known[0])] + known[0]
        parts.fixed = parts.fixed[:2] + known[1] + parts.fixed[4:]
        return [parts.pack()]

    return box


@dataclass(slots=True)
class OldDataAcks:
    """Linux while a program sits in recv(): once `armed`, each segment of a side acknowledges the data as the last one
    before did. That ends `answers` octets of a keepalive later."""

    side: str
    answers: int
    armed: bool = False
    octets: int = 0
    told: bytes = b""

    def __call__(self, side: str, wire: int, packet: bytes) -> Sequence[bytes]:
        parts = take_apart(side, wire, packet)
        if side != self.side:
            if self.armed and len(parts.text) == 1:
                self.octets += 1
            return [packet]
        for index, (kind, body) in enumerate(parts.options):
            if kind == KIND and body[0] >> 4 == DSS and body[1] & 3 == 3:
                if not self.armed:
                    self.told = body[2:10]
                elif self.octets < self.answers:
                    parts.options[index] = kind, body[:2] + self.told + body[10:]
        return [parts.pack()]


@dataclass(slots=True)
class Forgets:
    """Once `armed`, each segment on the wire becomes a RST for whoever it is meant for: the box lost its flows."""

    wire: int
    armed: bool = False
    resets: int = 0

    def __call__(self, side: str, wire: int, packet: bytes) -> Sequence[bytes]:
        if not self.armed or wire != self.wire:
            return [packet]
        self.resets += 1
        parts = take_apart(side, wire, packet).strip()
        parts.fixed = parts.fixed[:13] + bytes((RST | ACK,)) + parts.fixed[14:]
        parts.text = b""
        return [parts.pack()]


@dataclass(slots=True)
class AcksEarly:
    """A proxy for performance beside one of the two: it acknowledges the text of that side on one wire itself, long
    before the text arrives, without any option but a timestamp, and passes it on."""

    side: str
    wire: int
    inject: Callable[[str, int, bytes], None]  # (to, wire, packet)
    armed: bool = True
    acks: int = 0
    nxt: int = 0
    told: tuple[bytes, bytes] = b"", b""  # window and timestamp that the other side said last

    def __call__(self, side: str, wire: int, packet: bytes) -> Sequence[bytes]:
        if wire != self.wire:
            return [packet]
        parts = take_apart(side, wire, packet)
        stamp = next((body[:4] for kind, body in parts.options if kind == TIMESTAMPS), b"")
        if side != self.side:
            self.told = parts.fixed[14:16], stamp
            behind = self.nxt - int.from_bytes(parts.fixed[8:12], "big") & 0xFFFF_FFFF
            if self.armed and not parts.flags & SYN and behind < 1 << 31:
                return [parts.shifted(ack=behind).pack()]  # it never acknowledges less than it did
        elif parts.flags & SYN:
            self.nxt = parts.seq + 1 & 0xFFFF_FFFF
        elif parts.text and parts.seq == self.nxt:
            self.nxt = parts.seq + len(parts.text) & 0xFFFF_FFFF
            if self.armed:
                self.acks += 1
                self.inject(side, wire, self._ack(parts, stamp))
        return [packet]

    def _ack(self, seen: Parts, stamp: bytes) -> bytes:
        window, other = self.told
        ip = seen.ip[: -2 * len(seen.src)] + seen.dst + seen.src
        fixed = seen.fixed[2:4] + seen.fixed[:2] + seen.fixed[8:12] + self.nxt.to_bytes(4, "big")
        options = [(TIMESTAMPS, other + stamp)] if stamp else []
        return Parts("", self.wire, ip, fixed + bytes((0x50, ACK)) + window + bytes(4), options, b"").pack()


def is_syn(parts: Parts) -> bool:
    return parts.flags & (SYN | ACK) == SYN


def is_syn_ack(parts: Parts) -> bool:
    return parts.flags & (SYN | ACK) == SYN | ACK


def is_third_ack(parts: Parts) -> bool:
    return parts.side == "a" and not parts.flags & SYN and parts.has(MP_CAPABLE)
