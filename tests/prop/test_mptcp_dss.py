"""What the quick ways of mptcp/dss.py read is what the thorough one does."""

from types import SimpleNamespace
from unittest import mock

import pytest
from hypothesis import assume, given, settings
from hypothesis.strategies import binary, booleans, builds, integers, just, none, one_of

from mptcp import dss, options
from mptcp.mib import MptcpMib
from stack.wire.tcp_options import TS_PREFIX

u16, u32, u64 = (integers(0, 2**bits - 1) for bits in (16, 32, 64))
mapping = builds(options.Mapping, u64, u32, integers(1, 2**16 - 1), one_of(none(), u16))
text = builds(options.Dss, u64, mapping, just(value=False), booleans())
bare = builds(options.Dss, u64, none(), just(value=False), booleans())
prio = builds(options.MpPrio, booleans())


def read(reader, raw):
    """What `reader` makes of a segment with these options: mappings and acknowledgments."""
    meta = SimpleNamespace(rcv_nxt=5 << 32, snd_una=7 << 33, paths=None, host=SimpleNamespace(mib=MptcpMib()))
    meta.say, meta.wake_subflows = lambda _: None, lambda: None
    sub = SimpleNamespace(meta=meta, sent=mock.Mock(), id=1, gone=False, plain=False, peer_bkup=None)
    conn = SimpleNamespace(tcb=SimpleNamespace(snd_una=1), passive=False)
    unknown = [(raw[at], raw[at + 2 : at + raw[at + 1]]) for at in positions(raw) if raw[at] == options.KIND]
    seg = SimpleNamespace(options=raw, unknown_options=lambda: unknown, flags=16, length=0)
    with (
        mock.patch.object(dss, "heard"),
        mock.patch.object(dss, "_mapped") as mapped,
        mock.patch.object(dss, "_acknowledged") as acknowledged,
    ):
        reader(sub, conn, seg, 0)
    maps = [each.args[2:6] for each in mapped.call_args_list]
    return maps, [each.args[2] for each in acknowledged.call_args_list], sub.peer_bkup


def positions(raw):
    """Where options begin that are not NOPs."""
    at = 0
    while at < len(raw):
        if raw[at] == 1:
            at += 1
            continue
        yield at
        at += raw[at + 1]


@pytest.mark.rfc("8684", "3.3")
@settings(max_examples=300)
@given(one_of(text, bare), one_of(none(), prio), one_of(none(), binary(min_size=8, max_size=8)))
def test_the_quick_ways_read_what_the_thorough_one_reads(option, other, stamps):
    raw = b"" if stamps is None else TS_PREFIX + stamps
    raw += options.pad(option.emit()) + (options.pad(other.emit()) if other else b"")
    assume(len(raw) <= 40)
    found = read(dss.take, raw)
    assert found == read(dss._take_any, raw)
    assert len(found[1]) == 1
