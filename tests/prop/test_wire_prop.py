"""parse(emit(x)) == x, and parsers raise nothing but Malformed."""

import contextlib

from hypothesis import given
from hypothesis.strategies import binary, booleans, integers, lists, none, one_of, tuples

from kit import build
from stack.errors import Malformed
from stack.wire import tcp
from stack.wire.tcp_options import emit_sack, emit_syn_options, parse_sack, parse_syn_options, split_options

u32 = integers(0, 2**32 - 1)
u16 = integers(0, 65535)


@given(mss=u16, wscale=one_of(none(), integers(0, 14)), sack_ok=booleans(), ts=one_of(none(), tuples(u32, u32)))
def test_syn_options_come_back(mss, wscale, sack_ok, ts):
    data = emit_syn_options(mss, wscale, sack_ok, ts)
    opts = parse_syn_options(data)
    assert (opts.mss, opts.wscale, opts.sack_ok) == (mss, wscale, sack_ok)
    assert (opts.ts_val, opts.ts_ecr) == (ts or (None, 0))
    assert len(data) % 4 == 0
    assert len(data) <= 40


@given(lists(tuples(u32, u32), min_size=1, max_size=4))
def test_sack_blocks_come_back(blocks):
    ((_, body),) = split_options(emit_sack(blocks))
    assert parse_sack(body) == blocks


@given(binary(max_size=40))
def test_options_raise_nothing_but_malformed(data):
    with contextlib.suppress(Malformed):
        split_options(data)
    with contextlib.suppress(Malformed):
        parse_syn_options(data)


@given(binary(max_size=80))
def test_a_tcp_header_raises_nothing_but_malformed(data):
    with contextlib.suppress(Malformed):
        tcp.parse(data, 0, len(data))


@given(
    seq=u32,
    ack=u32,
    flags=integers(0, 255),
    win=u16,
    urg=u16,
    payload=binary(max_size=100),
    ts=one_of(none(), tuples(u32, u32)),
    sack=lists(tuples(u32, u32), max_size=3),
)
def test_what_dpkt_builds_we_read(seq, ack, flags, win, urg, payload, ts, sack):
    options = build.NOP * 2 + build.opt_timestamps(*ts) if ts else b""
    if sack:
        options += build.NOP * 2 + build.opt_sack(sack)
    packet = build.tcp(
        (b"\x0a\0\0\1", 1), (b"\x0a\0\0\2", 2), flags, seq, ack, win=win, options=options, payload=payload, urg=urg
    )
    seg = tcp.parse(packet, 30, len(packet))
    assert (seg.seq, seg.ack, seg.flags, seg.wnd, seg.urg) == (seq, ack, flags, win, urg)
    assert bytes(seg.payload) == payload
    assert seg.length == len(payload)
    assert (seg.ts_val, seg.ts_ecr) == (ts or (-1, 0))
    assert (seg.sack or []) == sack
