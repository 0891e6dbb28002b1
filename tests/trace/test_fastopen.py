"""TCP Fast Open, RFC 7413, in both roles."""

import pytest

from kit.link import Link
from kit.pair import Pair
from kit.wire import PORT
from stack.tcp.options import TcpOptions
from stack.units import MSEC

SERVER = {"net.ipv4.tcp_fastopen": "3"}
COOKIE = "kind 34 " + " ".join(["?"] * 8)
GIVEN = "kind 34 1 2 3 4 5 6 7 8"
WRONG = "kind 34 9 9 9 9 9 9 9 9"


def listen(wire, qlen=5):
    wire.options.fastopen = qlen
    wire.play("+0 app listen")


def have_cookie(wire):
    """The peer gave us a cookie on an earlier connection."""
    wire.play(f"""
        +0     app    connectsend 100 9
        +0     out    @9 S 0:0 <mss ?,sackOK,TS val 0 ecr 0,nop,wscale ?,kind 34>
        +10ms  in     @9 S. 0:0 ack 1 <mss 1000,{GIVEN},nop,nop>
        +0     out    @9 P. 1:101 ack 1
        +10ms  in     @9 R. 1:1 ack 101
    """)
    wire.written = 0
    wire.events = 0


# ---------------------------------------------------------------------- server


@pytest.mark.rfc("7413", "4.1.2")
@pytest.mark.wire(sysctl=SERVER)
def test_a_client_that_asks_is_given_a_cookie(wire):
    listen(wire)
    wire.play(f"""
        +0     in     S   0:0 <mss 1000,kind 34,nop,nop>
        +0     out    S.  0:0 ack 1 <mss ?,{COOKIE},nop,nop>
        +0     check  TcpExtTCPFastOpenCookieReqd == 1
        +10ms  in     .   1:1 ack 1
        +0     check  queued == 1
    """)


@pytest.mark.rfc("7413", "4.2.2")
@pytest.mark.wire(sysctl=SERVER)
def test_text_in_the_syn_is_delivered_at_once_and_answered_before_the_handshake(wire):
    listen(wire)
    wire.play(f"""
        +0     in     @2 S 0:0 <mss 1000,kind 34,nop,nop>
        +0     out    @2 S. 0:0 ack 1 <mss ?,{COOKIE},nop,nop>
        +0     in     @2 R 1:1
    """)
    wire.peer(1).kinds = wire.peer(2).kinds
    wire.play(f"""
        +1s    in     S   0:100 win 20000 <mss 1000,{COOKIE},nop,nop>
        +0     out    S.  0:0 ack 101 <mss ?>
        +0     check  queued == 1 and TcpExtTCPFastOpenPassive == 1
        +0     app    accept
        +0     check  state is SYN_RECEIVED and readable == 100 and established
        +0     app    recv 100
        +0     app    send 500
        +0     out    P.  1:501 ack 101
        +10ms  in     .   101:101 ack 501
        +0     check  state is ESTABLISHED and send_queued == 0
        +5s    quiet
    """)


@pytest.mark.rfc("7413", "4.2.2")
@pytest.mark.wire(sysctl=SERVER)
def test_a_wrong_cookie_is_replaced(wire):
    listen(wire)
    wire.play(f"""
        +0     in     S   0:100 <mss 1000,{WRONG},nop,nop>
        +0     out    S.  0:0 ack 1 <mss ?,{COOKIE},nop,nop>
        +0     check  queued == 0 and TcpExtTCPFastOpenPassiveFail == 1
        +10ms  in     P.  1:101 ack 1
        +0     out    .   1:1 ack 101
        +0     app    accept
        +0     app    recv 100
    """)


@pytest.mark.rfc("7413", "4.2.2")
def test_a_listener_that_did_not_ask_for_it_ignores_the_option(wire):
    wire.play(f"""
        +0     app    listen
        +0     in     S   0:100 <mss 1000,{WRONG},nop,nop>
        +0     out    S.  0:0 ack 1 <mss ?>
    """)


@pytest.mark.rfc("7413", "5.1")
@pytest.mark.wire(sysctl={"net.ipv4.tcp_fastopen": "0x203"})
def test_only_so_many_wait_for_their_handshake(wire):
    listen(wire, qlen=1)
    wire.play("""
        +0     in     @1 S 0:10 <mss 1000>
        +0     out    @1 S. 0:0 ack 11
        +0     in     @2 S 0:10 <mss 1000>
        +0     out    @2 S. 0:0 ack 1
        +0     check  TcpExtTCPFastOpenListenOverflow == 1 and queued == 1
        +0     in     @1 . 11:11 ack 1
        +0     in     @3 S 0:10 <mss 1000>
        +0     out    @3 S. 0:0 ack 11
        +0     check  queued == 2
    """)


@pytest.mark.wire(sysctl={"net.ipv4.tcp_fastopen": "0x603"})
def test_all_listeners_without_a_cookie(wire):
    wire.play("""
        +0     app    listen
        +0     in     S   0:10 <mss 1000>
        +0     out    S.  0:0 ack 11
        +1s    out    S.  0:0 ack 11                # the handshake is not over
        +0     in     R   11:11
        +0     app    accept
        +0     check  error is ECONNRESET and readable == 10
    """)


@pytest.mark.wire(sysctl={"net.ipv4.tcp_fastopen": "0x603"})
def test_a_handshake_that_never_completes_times_out(wire):
    wire.play("""
        +0     app    listen
        +0     in     S   0:10 <mss 1000>
        +0     out    S.  0:0 ack 11
        +0     app    accept
    """)
    wire.play("+70s check error is ETIMEDOUT and conns == 0", loose=True)


# ---------------------------------------------------------------------- client


@pytest.mark.rfc("7413", "4.2.1")
def test_text_rides_in_the_syn_once_there_is_a_cookie(wire):
    have_cookie(wire)
    wire.play(f"""
        +0     app    connectsend 300
        +0     out    S   0:300 <mss ?,sackOK,TS val ? ecr 0,nop,wscale ?,{GIVEN},nop,nop>
        +10ms  in     S.  0:0 ack 301 <mss 1000>
        +0     out    .   301:301 ack 1
        +0     check  state is ESTABLISHED and send_queued == 0 and TcpExtTCPFastOpenActive == 1 and bytes_acked == 300
        +0     app    send 100
        +0     out    P.  301:401 ack 1
    """)


@pytest.mark.rfc("7413", "4.2.1")
def test_text_that_is_not_acknowledged_goes_out_again(wire):
    have_cookie(wire)
    wire.play("""
        +0     app    connectsend 300
        +0     out    S   0:300
        +10ms  in     S.  0:0 ack 1 <mss 1000>
        +0     out    P.  1:301 ack 1
        +0     check  TcpExtTCPFastOpenActiveFail == 1
        +10ms  in     .   1:1 ack 301
        +0     check  send_queued == 0
    """)


@pytest.mark.rfc("7413", "4.2.1")
def test_part_of_the_text_acknowledged(wire):
    have_cookie(wire)
    wire.play("""
        +0     app    connectsend 300
        +0     out    S   0:300
        +10ms  in     S.  0:0 ack 201 <mss 1000>
        +0     out    P.  201:301 ack 1
    """)


@pytest.mark.rfc("7413", "4.1.3")
def test_no_more_than_the_servers_mss_goes_into_the_syn(wire):
    have_cookie(wire)
    if wire.offload:
        return  # the rest leaves as one
    wire.play("""
        +0     app    connectsend 3000
        +0     out    S   0:960
        +10ms  in     S.  0:0 ack 961 <mss 1000>
        +0     out    .   961:1961 ack 1
        +0     out    .   1961:2961 ack 1
        +0     out    P.  2961:3001 ack 1
    """)


@pytest.mark.rfc("7413", "4.2.1")
def test_a_syn_sent_again_has_neither_text_nor_cookie(wire):
    have_cookie(wire)
    wire.play("""
        +0     app    connectsend 300
        +0     out    S   0:300
        +1s    out    S   0:0 <mss ?,sackOK,TS val ? ecr 0,nop,wscale ?>
        +10ms  in     S.  0:0 ack 1 <mss 1000>
        +0     out    P.  1:301 ack 1
    """)


@pytest.mark.rfc("7413", "4.2.1")
def test_an_acknowledgment_beyond_the_text_is_reset(wire):
    have_cookie(wire)
    wire.play("""
        +0     app    connectsend 300
        +0     out    S   0:300
        +10ms  in     S.  0:0 ack 302 <mss 1000>
        +0     out    R   302:302
    """)


def test_fastopen_connect_waits_for_text(wire):
    have_cookie(wire)
    wire.options.fastopen_connect = True
    wire.play("""
        +0     app    connect
        +0     check  CONNECTED in events
        +1s    app    send 50
        +0     out    S   0:50
        +10ms  in     S.  0:0 ack 51 <mss 1000>
        +0     out    .   51:51 ack 1
    """)


def test_fastopen_connect_without_a_cookie_asks_for_one(wire):
    wire.options.fastopen_connect = True
    wire.play(f"""
        +0     app    connect
        +0     out    S   0:0 <mss ?,sackOK,TS val 0 ecr 0,nop,wscale ?,kind 34>
        +10ms  in     S.  0:0 ack 1 <mss 1000,{GIVEN},nop,nop>
        +0     out    .   1:1 ack 1
    """)


@pytest.mark.wire(sysctl={"net.ipv4.tcp_fastopen": "0"})
def test_switched_off_it_is_an_ordinary_connect(wire):
    wire.play("""
        +0     app    connectsend 100
        +0     out    S   0:0 <mss ?,sackOK,TS val 0 ecr 0,nop,wscale ?>
        +10ms  in     S.  0:0 ack 1 <mss 1000>
        +0     out    P.  1:101 ack 1
    """)


@pytest.mark.rfc("7413", "7.2")
@pytest.mark.wire(sysctl={"net.ipv4.tcp_fastopen_blackhole_timeout_sec": "60"})
def test_a_black_hole_pauses_it(wire):
    have_cookie(wire)
    wire.play("""
        +0     app    connectsend 100
        +0     out    S   0:100
        +1s    out    S   0:0
        +2s    out    S   0:0
        +4s    out    S   0:0
        +0     check  TcpExtTCPFastOpenBlackhole == 1 and TcpExtTCPFastOpenActiveFail == 1
        +0     app    close
    """)
    wire.written = 0
    wire.play("""
        +1s    app    connectsend 100 2
        +0     out    @2 S 0:0 <mss ?,sackOK,TS val ? ecr 0,nop,wscale ?>
        +0     app    close
    """)
    wire.written = 0
    wire.play("""
        +61s   app    connectsend 100 3
        +0     out    @3 S 0:100
    """)


# ---------------------------------------------------------------------- both


@pytest.mark.rfc("7413", "1")
def test_two_stacks_save_a_round_trip():
    """The answer is there after one round trip instead of two, the second time."""
    pair = Pair(Link(delay=50 * MSEC), sysctl={"net.ipv4.tcp_fastopen": "3"})
    addr = next(addr for addr, _ in pair.b.links["tun0"].addrs if len(addr) == 4)
    listener = pair.b.tcp.listen(pair.b.tcp.bind(addr, PORT), 16, TcpOptions(fastopen=8))
    took = []
    for _ in range(2):
        start = pair.clock.now
        client = pair.a.tcp.connect((addr, PORT), start, data=b"question")
        pair.flush()
        served = []

        def answered(served=served, client=client):
            if not served and (conn := listener.accept()) is not None:
                served.append(conn)
            if served and served[0].readable == 8 and not served[0].send_queued and not client.readable:
                served[0].send(b"answer")
                pair.flush()
            return client.readable == 6

        assert pair.run(answered)
        took.append((pair.clock.now - start) // MSEC)
        client.close()
        served[0].close()
        pair.flush()
    assert took[0] == pytest.approx(200, abs=5)
    assert took[1] == pytest.approx(100, abs=5)
    assert pair.a.mib.TcpExtTCPFastOpenActive == pair.b.mib.TcpExtTCPFastOpenPassive == 1
