"""One stack on a wire whose other end the test plays by hand, on a virtual clock.

`Wire` keeps what a script should not have to say: addresses, initial sequence numbers, timestamps, the last ACK and
window of each peer. The peer's first sequence number lies just below 2³², so every trace crosses the wrap.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kit import build, relative
from kit.clock import Clock
from kit.oracle import Packet, decode, segments
from kit.script import ANY, IcmpSpec, SegmentSpec
from stack import Stack
from stack.config import Sysctl, sysctl_set
from stack.ip.addr import parse_addr
from stack.mib import mib_items
from stack.tcp.isn import IsnGenerator
from stack.tcp.options import TcpOptions
from stack.units import MSEC, Nanos

SECRET = bytes(range(32))
STACK4, PEER4 = parse_addr("10.64.0.2"), parse_addr("10.64.0.1")
STACK6, PEER6 = parse_addr("fd64::2"), parse_addr("fd64::1")
PORT = 80  # where the stack listens
ISN = 0xFFFF_FF00  # of the peer
PERIOD = 65521  # prime, so that no power of two shifts the pattern onto itself
_PATTERN = bytes((i * 31 + (i >> 8) * 7) & 0xFF for i in range(PERIOD))

ICMP4 = {
    "net-unreach": (3, 0),
    "host-unreach": (3, 1),
    "proto-unreach": (3, 2),
    "port-unreach": (3, 3),
    "frag-needed": (3, 4),
    "admin-prohibited": (3, 13),
    "ttl-exceeded": (11, 0),
    "quench": (4, 0),
}
ICMP6 = {
    "net-unreach": (1, 0),
    "admin-prohibited": (1, 1),
    "host-unreach": (1, 3),
    "port-unreach": (1, 4),
    "frag-needed": (2, 0),
    "ttl-exceeded": (3, 0),
}


def pattern(offset: int, length: int) -> bytes:
    """Bytes [offset, offset + length) of the stream that both sides send; a misplaced byte shows."""
    offset %= PERIOD
    whole = _PATTERN[offset : offset + length]
    while len(whole) < length:
        whole += _PATTERN[: length - len(whole)]
    return whole


class NearTheWrap(IsnGenerator):
    """Starts sequence numbers and timestamps just below 2³²."""

    def iss_and_ts_offset(self, flow: bytes, now: Nanos) -> tuple[int, int]:
        return 0xFFFF_FFF0, (-(now // MSEC) - 15) & 0xFFFF_FFFF


@dataclass(slots=True, eq=False)
class Peer:
    """The far end of one connection, as scripts number them."""

    port: int
    local_port: int = 0  # the stack's
    isn: int = ISN
    iss: int | None = None  # the stack's, once seen
    ack: int = 0  # last acknowledgment sent, relative
    win: int = 65535
    ts_offered: bool = False
    ts_base: int | None = None  # the stack's first TSval
    ts_seen: int = 0  # its latest, as on the wire
    last: Packet | None = None  # from the stack
    kinds: dict[int, bytes] = field(default_factory=dict)  # bodies of options that it sent last

    @property
    def timestamps(self) -> bool:
        """Both sides have sent the option."""
        return self.ts_offered and self.ts_base is not None


@dataclass(slots=True, eq=False)
class Emitted:
    """A packet that left the stack, and when."""

    at: Nanos
    packet: Packet


@dataclass(slots=True, eq=False)
class Wire:
    """A stack with one link; `sysctl` by Linux names. `conn` and `listener` are what `app` lines act on."""

    v6: bool = False
    mtu: int = 1500
    offload: bool = False
    wrap: bool = False  # the stack's own sequence numbers and timestamps wrap right away, too
    sysctl: dict[str, str] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    options: TcpOptions = field(default_factory=TcpOptions)
    peers: dict[int, Peer] = field(default_factory=dict)
    sent: list[Emitted] = field(default_factory=list)  # left the stack, not yet asked for by the script
    events: int = 0  # of `conn` and `listener`, gathered
    written: int = 0  # offset of the next byte the program sends
    taken: int = 0  # … and of the next it reads
    tap: Callable[[bytes], None] | None = None  # sees every packet, both ways
    stack: Stack = field(init=False)
    link: Any = field(init=False, default=None)
    conn: Any = None
    listener: Any = None

    def __post_init__(self) -> None:
        knobs = Sysctl()
        for name, value in self.sysctl.items():
            sysctl_set(knobs, name, value)
        self.stack = Stack(sysctl=knobs, secret=SECRET, now=self.clock.now)
        addrs = [(STACK4, 24), (STACK6, 64)]
        self.link = self.stack.add_link("tun0", addrs, mtu=self.mtu, offload=self.offload)
        if self.wrap:
            self.stack.tcp.isn = NearTheWrap(SECRET)

    @property
    def stack_addr(self) -> bytes:
        return STACK6 if self.v6 else STACK4

    @property
    def peer_addr(self) -> bytes:
        return PEER6 if self.v6 else PEER4

    @property
    def counters(self) -> dict[str, int]:
        return dict(mib_items(self.stack.mib))

    def peer(self, number: int) -> Peer:
        """Peer `number`, made at first mention."""
        return self.peers.setdefault(number, Peer(port=5000 + number, local_port=PORT))

    # --- time

    def flush(self) -> None:
        """What the driver does after a wake-up: hand out events, then let everything leave the stack."""
        stack, now = self.stack, self.clock.now
        while (event := stack.poll_event()) is not None:
            if event[0] is self.conn or event[0] is self.listener:
                self.events |= event[1]
        for _ in range(100_000):
            out = stack.poll_transmit(now)
            if out is None:
                break
            link, buffers = out
            assert link is self.link, f"left through {link.name}"
            for part in segments(decode(buffers, mtu=self.mtu).raw):
                self._note(decode(part))
        else:
            raise AssertionError("poll_transmit never ends")
        self.check()

    def _note(self, packet: Packet) -> None:
        """Queue an emitted packet and learn from it what the peer's next segments need."""
        if self.tap is not None:
            self.tap(packet.raw)
        self.sent.append(Emitted(self.clock.now, packet))
        peer = self._peer_of(packet)
        if peer is None:
            return
        peer.last = packet
        peer.local_port = packet.sport
        peer.kinds.update(packet.options)
        if packet.flags & build.SYN and packet.seq != peer.iss:
            peer.iss = packet.seq
            peer.ts_base = packet.timestamps[0] if packet.timestamps else None
        if packet.timestamps:
            peer.ts_seen = packet.timestamps[0]

    def _peer_of(self, packet: Packet) -> Peer | None:
        return next((peer for peer in self.peers.values() if packet.proto == 6 and peer.port == packet.dport), None)

    def check(self) -> None:
        """Every invariant of every connection, after each step."""
        for conn in list(self.stack.tcp.conns()):
            conn.check()

    def step(self, until: Nanos) -> bool:
        """Move to the next deadline if it is not after `until` and handle it; else move to `until`, and False."""
        due = self.stack.poll_timeout()
        if due is None or due > until:
            self.clock.advance_to(until)
            return False
        self.clock.advance_to(max(due, self.clock.now))
        self.stack.handle_timeout(self.clock.now)
        self.flush()
        return True

    def advance(self, until: Nanos) -> bool:
        """Run to `until`, or to the first emission before it. True if the stack emitted something."""
        storms = 0
        while not self.sent and self.clock.now <= until:
            before = self.clock.now
            if not self.step(until):
                break
            storms = storms + 1 if self.clock.now == before else 0
            assert storms < 1000, "a deadline that handle_timeout leaves standing"
        return bool(self.sent)

    def run_until(self, until: Nanos) -> None:
        """Run to `until`, whatever is emitted."""
        while self.clock.now < until and self.step(until):
            pass

    # --- packets to the stack

    def segment(self, spec: SegmentSpec) -> bytes:
        """The bytes of an `in` line; fills in what it left out."""
        peer = self.peer(spec.peer)
        seq = spec.seq if spec.seq is not None else (0 if spec.flags & build.SYN else 1)
        if spec.flags & build.ACK and spec.ack is not None:
            peer.ack = spec.ack
        if spec.win is not None:
            peer.win = spec.win
        options = self._options(spec, peer)
        if spec.flags & build.SYN:
            peer.ts_offered = any(name == "TS" for name, _ in spec.options or [])
            if not spec.flags & build.ACK:
                peer.ack = 1
        return build.tcp(
            (self.peer_addr, peer.port),
            (self.stack_addr, peer.local_port),
            spec.flags,
            peer.isn + seq,
            (peer.iss or 0) + peer.ack if spec.flags & build.ACK else 0,
            win=peer.win,
            options=options,
            payload=pattern(seq - 1 + (spec.flags & build.SYN > 0), spec.length),
            urg=spec.urg or 0,
            tos=spec.ecn or 0,
        )

    def _options(self, spec: SegmentSpec, peer: Peer) -> bytes:
        wanted = spec.options
        if wanted is None:
            auto = peer.timestamps and not spec.flags & (build.SYN | build.RST)
            wanted = [("nop", []), ("nop", []), ("TS", [ANY, ANY])] if auto else []
        out = b""
        for name, numbers in wanted:
            if name == "mss":
                out += build.opt_mss(numbers[0])
            elif name == "wscale":
                out += build.opt_wscale(numbers[0])
            elif name == "sackOK":
                out += build.opt_sack_ok()
            elif name == "nop":
                out += build.NOP
            elif name == "sack":
                edges = [(peer.iss or 0) + edge for edge in numbers]
                out += build.opt_sack(list(zip(edges[0::2], edges[1::2], strict=True)))
            elif name.startswith("kind "):
                kind = int(name[5:])
                known = peer.kinds.get(kind, bytes(40))
                out += bytes((kind, 2 + len(numbers))) + bytes(
                    known[i] if n == ANY else n for i, n in enumerate(numbers)
                )
            elif name == "TS":
                val, ecr = numbers
                val = self.peer_time() if val == ANY else val
                if spec.flags & build.ACK:
                    ecr = peer.ts_seen if ecr == ANY else ecr + (peer.ts_base or 0)
                else:
                    ecr = max(ecr, 0)
                out += build.opt_timestamps(val, ecr)
        return out

    def peer_time(self) -> int:
        """The peer's timestamp clock: milliseconds."""
        return self.clock.now // MSEC & 0xFFFFFFFF

    def icmp(self, spec: IcmpSpec) -> bytes:
        """The bytes of an `in icmp` line: an error about the last segment that the stack sent to that peer."""
        peer = self.peer(spec.peer)
        assert peer.last is not None, "nothing was sent that an ICMP error could be about"
        about = bytearray(peer.last.raw)
        if spec.about is not None:
            at = 10 + (40 if self.v6 else 20) + 4
            about[at : at + 4] = ((peer.iss or 0) + spec.about & 0xFFFFFFFF).to_bytes(4, "big")
        kind, code = (ICMP6 if self.v6 else ICMP4)[spec.kind]
        return build.icmp_about(bytes(about), self.peer_addr, kind, code, spec.mtu)

    def receive(self, packet: bytes) -> None:
        """Hand one packet to the stack, as the driver does; what it answers leaves with the next `flush`."""
        if self.tap is not None:
            self.tap(packet)
        self.stack.receive(packet, self.clock.now, self.link)

    # --- packets from the stack

    def show(self, packet: Packet) -> str:
        """One line in the words of the scripts."""
        peer = self._peer_of(packet)
        if peer is None:
            return f"protocol {packet.proto} to port {packet.dport}, {len(packet.payload)} bytes"
        number = next(n for n, p in self.peers.items() if p is peer)
        return f"@{number} " * (number != 1) + relative.show(packet, peer.iss or 0, peer.isn, peer.ts_base or 0)

    def differences(self, spec: SegmentSpec, packet: Packet) -> list[str]:
        """What an `out` line says and the packet does not; also bytes that are not those the program wrote."""
        peer = self.peer(spec.peer)
        if packet.proto != 6 or packet.dport != peer.port:
            return [f"not a segment to peer {spec.peer}"]
        wrong = relative.differences(spec, packet, peer.iss or 0, peer.isn, peer.ts_base or 0)
        offset = packet.seq - (peer.iss or 0) - 1 + (packet.flags & build.SYN > 0) & 0xFFFFFFFF
        if packet.payload and offset < self.written and packet.payload != pattern(offset, len(packet.payload)):
            wrong.append("payload")
        return wrong
