"""TCP options on the wire, and the ones a program sets."""

import errno

import pytest

from stack.errors import Malformed, StackError
from stack.tcp.options import TcpOptions, check_option
from stack.wire.tcp_options import emit_sack, emit_syn_options, parse_sack, parse_syn_options, split_options


@pytest.mark.rfc("9293", "3.2", "MUST-4")
def test_end_of_list_ends_the_list():
    assert split_options(b"\x02\x04\x05\xb4\x00\x03\x03\x07") == [(2, b"\x05\xb4")]


@pytest.mark.rfc("9293", "3.2", "MUST-7")
@pytest.mark.parametrize("data", [b"\x02", b"\x02\x00", b"\x02\x01", b"\x02\x05\x00\x00", b"\x08\x0a\x00", b"\x01\xfe"])
def test_an_illegal_length_is_malformed(data):
    with pytest.raises(Malformed):
        split_options(data)


@pytest.mark.rfc("9293", "3.2", "MUST-6")
def test_unknown_options_are_skipped():
    opts = parse_syn_options(b"\xfd\x04\xf9\x89\x02\x04\x05\xb4")
    assert opts.mss == 1460
    assert opts.unknown == [(253, b"\xf9\x89")]


@pytest.mark.rfc("7323", "2.3")
def test_a_shift_above_14_is_taken_as_14():
    assert parse_syn_options(b"\x03\x03\x0f\x00").wscale == 14


def test_known_options_of_the_wrong_length_are_ignored():
    opts = parse_syn_options(b"\x02\x03\x05\x03\x04\x00\x00\x04\x03\x00")
    assert (opts.mss, opts.wscale, opts.sack_ok) == (None, None, False)


@pytest.mark.parametrize("wscale", [None, 0, 7, 14])
@pytest.mark.parametrize("sack_ok", [False, True])
@pytest.mark.parametrize("ts", [None, (1, 0), (2**32 - 1, 2**32 - 1)])
def test_syn_options_come_back(wscale, sack_ok, ts):
    data = emit_syn_options(1460, wscale, sack_ok, ts)
    assert len(data) % 4 == 0
    opts = parse_syn_options(data)
    assert (opts.mss, opts.wscale, opts.sack_ok) == (1460, wscale, sack_ok)
    assert (opts.ts_val, opts.ts_ecr) == (ts or (None, 0))


def test_sack_blocks_come_back():
    blocks = [(2**32 - 5, 5), (100, 200)]
    ((kind, body),) = split_options(emit_sack(blocks))
    assert kind == 5
    assert parse_sack(body) == blocks
    assert parse_sack(body[:-1]) == []


@pytest.mark.parametrize(("name", "value"), [("keepidle", 0), ("keepcnt", 128), ("maxseg", 40), ("tos", 256)])
def test_values_that_linux_refuses_are_einval(name, value):
    with pytest.raises(StackError) as caught:
        check_option(name, value)
    assert caught.value.errno == errno.EINVAL


def test_an_unknown_option_is_enoprotoopt():
    with pytest.raises(StackError) as caught:
        check_option("nodelai", 1)
    assert caught.value.errno == errno.ENOPROTOOPT


def test_a_copy_is_independent():
    first = TcpOptions(nodelay=True)
    second = first.copy()
    second.nodelay = False
    assert first.nodelay
