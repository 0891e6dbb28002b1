"""Requirements of RFC 9293 that no trace elsewhere shows: one each, by its number in appendix B."""

import errno
import struct

import pytest

from kit import build
from kit.lan import BROADCAST4, PEER4, PEER6, US4, US6, Lan
from kit.wire import PORT
from stack.errors import StackError
from stack.ip.addr import parse_addr
from stack.wire.tcp import SYN

GROUP4, GROUP6 = parse_addr("224.0.0.1"), parse_addr("ff02::1")


@pytest.mark.rfc("9293", "3.9.2.3", "MUST-46")
@pytest.mark.parametrize("where", [BROADCAST4, parse_addr("255.255.255.255"), GROUP4, GROUP6], ids=lambda a: a.hex())
def test_no_connection_to_everybody(where):
    lan = Lan()
    with pytest.raises(StackError) as refused:
        lan.stack.tcp.connect((where, 80), lan.now)
    assert refused.value.errno == errno.ENETUNREACH, "as Linux says"


def syn_answer(src, dst):
    """What a listener's host answers to a SYN between these addresses."""
    lan = Lan()
    tcp = lan.stack.tcp
    for addr in (US4, US6):
        tcp.listen(tcp.bind(addr, PORT), 8)
    lan.give(build.tcp((src, 5000), (dst, PORT), SYN, 1, 0))
    return lan.stack.poll_transmit(lan.now)


@pytest.mark.rfc("9293", "3.9.2.3", "MUST-57")
def test_a_syn_to_everybody_is_dropped_silently():
    assert syn_answer(PEER4, US4) is not None
    assert syn_answer(PEER4, BROADCAST4) is None
    assert syn_answer(PEER4, GROUP4) is None
    assert syn_answer(PEER6, US6) is not None
    assert syn_answer(PEER6, GROUP6) is None


@pytest.mark.rfc("9293", "3.9.2.3", "MUST-63")
def test_a_syn_from_nobody_is_dropped_silently():
    for src in (GROUP4, BROADCAST4, parse_addr("127.0.0.1"), bytes(4), US4):
        assert syn_answer(src, US4) is None, src.hex()
    for src in (GROUP6, bytes(16), parse_addr("::1"), US6):
        assert syn_answer(src, US6) is None, src.hex()


@pytest.mark.rfc("9293", "3.1", "MUST-64")
@pytest.mark.rfc("9293", "3.1", "MUST-5")
def test_options_count_wherever_they_begin_and_on_any_segment(wire):
    wire.established(ts=True, sack=True)
    wire.play("""
        +0     app  send 2964
        +0     out  .   1:1977/988
        +0     out  P.  1977:2965
        +10ms  in   .   1:1 ack 1 <nop,nop,nop,TS val ? ecr ?,nop,sack 989:2965>
        +2500us out .   1:989
    """)


@pytest.mark.rfc("9293", "3.7.1", "MUST-65")
@pytest.mark.rfc("9293", "3.1", "MUST-68")
@pytest.mark.rfc("9293", "3.1", "MUST-69")
def test_mss_is_for_syns_and_padding_is_no_option(wire):
    wire.established(ts=True, sack=True, wscale=7)
    raw = []
    wire.tap = raw.append
    wire.play("""
        +0     app  send 100
        +0     out  P.  1:101
        +10ms  in   .   101:201 ack 101
        +0     out  .   101:101 ack 1 <nop,nop,TS val ? ecr ?,nop,nop,sack 101:201>
    """)
    assert not any(kind in (2, 3, 4) for each in wire.peers.values() for kind, _ in each.last.options)
    assert raw


@pytest.mark.rfc("9293", "3.9.1.2", "MUST-61")
def test_the_last_of_what_was_written_is_pushed(wire):
    wire.established()
    wire.play("""
        +0     app  send 2500
        +0     out  .   1:2001/1000
        +0     out  P.  2001:2501
    """)


@pytest.mark.rfc("9293", "3.8.6", "MUST-66")
def test_a_reset_is_heard_behind_a_closed_window(wire):
    wire.established(rcv_wnd=4096)
    wire.play(
        """
        +0     in   .   1:4001/1000 ack 1
        +0     in   P.  4001:4097 ack 1
        +1ms   check rcv_wnd == 0
        +0     in   R   4097:4097
    """,
        loose=True,
    )
    assert wire.conn.error == errno.ECONNRESET


@pytest.mark.rfc("9293", "3.5.3", "SHLD-2")
def test_a_reset_may_bring_text(wire):
    wire.established()
    wire.play("""
        +0     in   R   1:41
        +0     check readable == 0
    """)
    assert wire.conn.error == errno.ECONNRESET


@pytest.mark.rfc("9293", "3.8.6", "MUST-1")
def test_a_window_is_a_number_without_sign(wire):
    wire.established(wnd=40_000)
    wire.conn.cc.cwnd = 1 << 20
    wire.conn.send(bytes(50_000))
    wire.flush()
    sent = sum(len(each.packet.payload) for each in wire.sent)
    assert sent == 40_000
    wire.sent.clear()


@pytest.mark.rfc("9293", "3.9.1", "MUST-43")
@pytest.mark.rfc("9293", "3.9.1", "MUST-44")
@pytest.mark.rfc("9293", "3.9.1", "MUST-45")
def test_the_source_address_is_the_programs_or_the_routes():
    lan = Lan()
    second = parse_addr("10.64.0.3")
    lan.stack.add_addr(lan.link, second, 24)
    chosen = lan.stack.tcp.connect((PEER4, 80), lan.now)
    given = lan.stack.tcp.connect((PEER4, 80), lan.now, binding=lan.stack.tcp.bind(second, 0))
    assert (chosen.local[0], given.local[0]) == (US4, second)
    while (out := lan.stack.poll_transmit(lan.now)) is not None:
        packet = b"".join(out[1])
        conn = chosen if packet[22:26] == US4 else given
        assert packet[22:26] == conn.local[0]
        assert struct.unpack_from("!H", packet, 30)[0] == conn.local[1]


@pytest.mark.rfc("9293", "3.9.1.1", "MUST-41")
@pytest.mark.rfc("9293", "3.9.1.1", "MUST-42")
def test_listeners_do_not_disturb_one_another_nor_connections():
    lan = Lan()
    tcp = lan.stack.tcp
    first = tcp.listen(tcp.bind(US4, PORT), 8)
    lan.give(build.tcp((PEER4, 5000), (US4, PORT), SYN, 1, 0))
    second = tcp.listen(tcp.bind(US6, PORT), 8)
    lan.give(build.tcp((PEER6, 5000), (US6, PORT), SYN, 1, 0))
    first.close()
    assert [type(each).__name__ for each in tcp.conns()] == ["Request"], "the other one's stays"
    assert list(tcp.listeners()) == [second]
