"""Properties of the MPTCP option: what is emitted is read back, and no bytes do worse than Malformed."""

import contextlib

import pytest
from hypothesis import given
from hypothesis.strategies import binary, booleans, builds, integers, lists, none, one_of

from mptcp import options
from stack import Malformed

key, nonce, u16, u32, u64 = (
    binary(min_size=8, max_size=8),
    binary(min_size=4, max_size=4),
    integers(0, 2**16 - 1),
    integers(0, 2**32 - 1),
    integers(0, 2**64 - 1),
)
u8 = integers(0, 255)
address = one_of(binary(min_size=4, max_size=4), binary(min_size=16, max_size=16))


def maps(width, wide):
    return builds(options.Mapping, width, u32, u16, one_of(none(), u16), integers(wide, wide).map(bool))


def dss(ack, ack_wide):
    mapped = builds(
        options.Dss, one_of(none(), ack), one_of(maps(u64, 1), maps(u32, 0)), booleans(), integers(1, 1).map(bool)
    )
    bare = builds(options.Dss, ack, none(), integers(0, 0).map(bool), integers(ack_wide, ack_wide).map(bool))
    return one_of(mapped, bare)


any_option = one_of(
    builds(options.MpCapable, u8),
    builds(options.MpCapable, u8, key),
    builds(options.MpCapable, u8, key, key),
    builds(options.MpCapable, u8, key, key, u16, one_of(none(), u16)),
    builds(options.MpJoinSyn, u8, u32, nonce, booleans()),
    builds(options.MpJoinSynAck, u8, key, nonce, booleans()),
    builds(options.MpJoinAck, binary(min_size=20, max_size=20)),
    dss(u64, 1),
    dss(u32, 0),
    builds(options.AddAddr, u8, address, u16, one_of(none(), key)),
    builds(options.RemoveAddr, lists(u8, min_size=1, max_size=8).map(tuple)),
    builds(options.MpPrio, booleans()),
    builds(options.MpFail, u64),
    builds(options.MpFastclose, key),
    builds(options.MpTcprst, u8, booleans()),
)


@pytest.mark.rfc("8684", "3")
@given(any_option)
def test_what_is_emitted_is_read_back(option):
    wire = option.emit()
    assert wire[0] == options.KIND
    assert wire[1] == len(wire) <= 40
    assert len(options.pad(wire)) % 4 == 0
    assert options.parse(wire[2:]) == option


@given(binary(max_size=38))
def test_no_bytes_do_worse_than_malformed(body):
    with contextlib.suppress(Malformed):
        again = options.parse(body).emit()
        assert options.parse(again[2:]) == options.parse(body)
