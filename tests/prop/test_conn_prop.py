"""A connection under a peer that does anything: nothing raises, invariants hold, every packet out is a good one.

And header prediction is only a shortcut: with it and without it the connection ends up the same.
"""

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import binary, booleans, integers, lists, one_of, sampled_from, tuples

from kit import build
from kit.lawyer import Lawyer
from kit.trace import Trace
from stack.errors import StackError
from stack.seq import HALF32, MASK32
from stack.tcp import demux
from stack.tcp.input import _slow_path, segment_arrives, syn_sent_arrives
from stack.tcp.state import SYN_SENT
from stack.units import MSEC, SEC

near = one_of(integers(-3, 12), integers(0, 12).map(lambda n: n * 500), integers(-(2**31), 2**31))
flag_sets = one_of(sampled_from([16, 24, 17, 25, 4, 20, 2, 18, 0, 1, 8, 32 | 16, 64 | 16, 128 | 16]), integers(0, 255))
windows = sampled_from([0, 1, 100, 1000, 65535])
segments = tuples(
    flag_sets,
    near,  # from RCV.NXT
    near,  # from SND.UNA
    sampled_from([0, 0, 0, 1, 100, 500, 1000, 1400]),
    windows,
    sampled_from(["", "", "", "ts", "oldts", "sack", "dsack", "junk"]),
    tuples(near, near),
)
verbs = one_of(
    tuples(sampled_from(["send"]), integers(1, 5000)),
    tuples(sampled_from(["recv"]), integers(1, 5000)),
    tuples(sampled_from(["wait"]), sampled_from([1, MSEC, 40 * MSEC, 300 * MSEC, 3 * SEC])),
    tuples(sampled_from(["shutdown", "close", "abort", "shutdown_read"]), integers(0, 0)),
    tuples(sampled_from(["nodelay", "cork", "quickack"]), integers(0, 1)),
    tuples(sampled_from(["icmp"]), integers(60, 1500)),
)
steps = lists(one_of(segments.map(lambda s: ("segment", s)), verbs), max_size=40)

pytestmark = pytest.mark.long


class Player:
    """A wire whose peer sends what hypothesis thinks of."""

    def __init__(self, *, v6: bool = False, offload: bool = False, sack: bool = True, ts: bool = True) -> None:
        self.wire = Trace(v6=v6, offload=offload)
        self.lawyer = Lawyer(judges=self.wire.stack_addr)
        self.wire.tap = self.lawyer.sees
        self.wire.established(mss=1400, sack=sack, ts=ts, wscale=2, rcv_wnd=20000)
        self.emitted: list[bytes] = []

    def play(self, script: list[tuple]) -> None:
        for verb, argument in script:
            if verb == "segment":
                self.receive(*argument)
            else:
                with contextlib.suppress(StackError):
                    self.do(verb, argument)
            self.settle()
        self.wire.run_until(self.wire.clock.now + 200 * SEC)
        self.settle()

    def settle(self) -> None:
        self.wire.flush()
        self.emitted += [e.packet.raw for e in self.wire.sent]
        self.wire.sent.clear()

    def do(self, verb: str, argument: int) -> None:
        wire, conn = self.wire, self.wire.conn
        if verb == "send":
            wire.app_send(str(argument))
        elif verb == "recv":
            conn.consume(sum(map(len, conn.views(argument))) if conn.readable else 0)
        elif verb == "wait":
            wire.run_until(wire.clock.now + argument)
        elif verb in ("nodelay", "cork", "quickack"):
            conn.set_option(verb, argument)
        elif verb == "icmp":
            peer = wire.peer(1)
            about = build.icmp_about(peer.last.raw, wire.peer_addr, *((2, 0) if wire.v6 else (3, 4)), argument)
            wire.receive(about)
        else:
            getattr(conn, verb)()

    def receive(self, flags, seq, ack, size, win, kind, edges) -> None:
        wire, tcb = self.wire, self.wire.conn.tcb
        peer = wire.peer(1)
        una = tcb.snd_una
        options = b""
        if kind in ("ts", "oldts"):
            options = build.opt_timestamps(wire.peer_time() - (100_000 if kind == "oldts" else 0), peer.ts_seen)
        elif kind in ("sack", "dsack"):
            left = una + (edges[0] if kind == "sack" else -abs(edges[0]))
            options = build.opt_sack([(left, left + edges[1]), (una + 500, una + 1000)])
        elif kind == "junk":
            options = bytes((edges[0] & 0xFF, edges[1] & 0xFF, 7, 0))
        wire.receive(
            build.tcp(
                (wire.peer_addr, peer.port),
                (wire.stack_addr, peer.local_port),
                flags,
                tcb.rcv_nxt + seq,
                una + ack,
                win=win,
                options=options,
                payload=bytes(size),
            )
        )


@given(script=steps, v6=booleans(), offload=booleans(), sack=booleans(), ts=booleans())
@settings(max_examples=settings.default.max_examples * 3 // 2, suppress_health_check=list(HealthCheck))
def test_no_peer_and_no_program_can_break_a_connection(script, v6, offload, sack, ts):
    Player(v6=v6, offload=offload, sack=sack, ts=ts).play(script)


@given(packets=lists(binary(max_size=120), max_size=20), v6=booleans())
@settings(max_examples=settings.default.max_examples)
def test_arbitrary_bytes_are_counted_and_dropped(packets, v6):
    player = Player(v6=v6)
    wire = player.wire
    for junk in packets:
        wire.receive(junk)
        wire.receive(bytes(10) + bytes([0x60 if v6 else 0x45]) + junk)
        player.settle()
    assert wire.conn.state.name == "ESTABLISHED"


@given(at=integers(10, 90), bit=integers(0, 7), size=integers(0, 40), v6=booleans())
def test_a_flipped_bit_never_gets_through(at, bit, size, v6):
    """Whatever bit the wire flips in a segment, the program reads nothing wrong."""
    player = Player(v6=v6)
    wire = player.wire
    from kit.script import SegmentSpec

    packet = bytearray(wire.segment(SegmentSpec(flags=24, seq=1, end=1 + size, ack=1)))
    if at < len(packet):
        packet[at] ^= 1 << bit
        wire.receive(bytes(packet))
        player.settle()
        header = 10 + (40 if v6 else 20)
        covered = at >= header or (at < 10 + 20 and not v6)
        if covered:
            assert wire.conn.readable == 0


def slow_segment_arrives(conn, seg, now):
    """segment_arrives without its fast path."""
    conn.counts.segs_in += seg.packets
    if seg.length:
        conn.counts.data_segs_in += seg.packets
    conn.demux.mark(conn)
    seg.seq = conn.tcb.rcv_nxt + (((seg.seq - conn.tcb.rcv_nxt) & MASK32) ^ HALF32) - HALF32
    seg.ack = conn.tcb.snd_una + (((seg.ack - conn.tcb.snd_una) & MASK32) ^ HALF32) - HALF32
    if conn.state is SYN_SENT:
        syn_sent_arrives(conn, seg, now)
    else:
        _slow_path(conn, seg, now)


def fields_of(tcb):
    return {name: getattr(tcb, name) for name in type(tcb).__dataclass_fields__}


likely = tuples(
    sampled_from([16, 16, 24, 17]),
    sampled_from([0, 0, 0, 0, -500, 500]),
    sampled_from([0, 0, 500, 1400, 1400, 2800]),
    sampled_from([0, 0, 1, 500, 1400]),
    windows,
    sampled_from(["ts", "ts", "ts", "", "sack"]),
    tuples(near, near),
)


@given(script=lists(one_of(likely.map(lambda s: ("segment", s)), verbs), max_size=30), ts=booleans(), sack=booleans())
@settings(max_examples=settings.default.max_examples * 3 // 2, suppress_health_check=list(HealthCheck))
def test_header_prediction_changes_nothing(script, ts, sack):
    with_it = Player(ts=ts, sack=sack)
    with_it.play(script)
    with pytest.MonkeyPatch.context() as patch:
        assert demux.segment_arrives is segment_arrives
        patch.setattr(demux, "segment_arrives", slow_segment_arrives)
        without = Player(ts=ts, sack=sack)
        without.play(script)
    one, two = with_it.wire.conn, without.wire.conn
    assert one.state is two.state
    assert fields_of(one.tcb) == fields_of(two.tcb)
    assert one.readable == two.readable
    assert with_it.emitted == without.emitted
