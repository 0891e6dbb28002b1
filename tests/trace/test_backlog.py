"""Half-open connections and the accept queue, as Linux bounds them: cookies, overflow, deferred accept."""

import pytest

from kit import build
from kit.wire import PORT
from stack.wire.tcp import SYN

pytestmark = pytest.mark.long

COOKIES = {"net.ipv4.tcp_syncookies": "2"}
NO_COOKIES = {"net.ipv4.tcp_syncookies": "0"}
NOT_WRAP = "v4 v6 offload"  # where `wrap` gives each moment a timestamp offset of its own


# ---------------------------------------------------------------------- requests


@pytest.mark.rfc("9293", "3.10.7.2")
def test_a_syn_is_remembered_lightly(wire):
    wire.play("""
        +0     app    listen
        +0     in     S   0:0 <mss 1000,sackOK,TS val 100 ecr 0,nop,wscale 7>
        +0     out    S.  0:0 ack 1 <mss ?,sackOK,TS val 0 ecr 100,nop,wscale ?>
        +0     check  conns == 1 and TcpPassiveOpens == 0
    """)
    assert type(next(wire.stack.tcp.conns())).__name__ == "Request"
    wire.play("""
        +10ms  in     .   1:1 ack 1
        +0     app    accept
        +0     check  state is ESTABLISHED and TcpPassiveOpens == 1 and rtt == 10000 and snd_wscale == 7
    """)


@pytest.mark.rfc("9293", "3.8.1")
@pytest.mark.rfc("6298", "5.5")
def test_a_syn_ack_goes_out_again_less_and_less_often(wire):
    wire.play("""
        +0     app    listen
        +0     in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
        +1s    out    S.  0:0 ack 1
        +2s    out    S.  0:0 ack 1
        +4s    out    S.  0:0 ack 1
        +8s    out    S.  0:0 ack 1
        +16s   out    S.  0:0 ack 1
        +33s   check  conns == 0 and TcpExtTCPSynRetrans == 5 and TcpRetransSegs == 5 and TcpExtTCPTimeouts == 5
        +0     in     .   1:1 ack 1
        +0     out    R   1:1
    """)


@pytest.mark.rfc("9293", "3.10.7.4")
def test_the_acknowledgment_of_something_else_is_reset(wire):
    wire.play("""
        +0     app    listen
        +0     in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
        +0     in     .   1:1 ack 2
        +0     out    R   2:2
        +0     in     .   1:1 ack 0
        +0     out    R   0:0
        +0     in     .   1:1 ack 1
        +0     check  queued == 1
    """)


@pytest.mark.rfc("5961", "3.2")
def test_a_reset_ends_a_request_only_at_the_right_place(wire):
    wire.play("""
        +0     app    listen
        +0     in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
        +0     in     R   100:100
        +0     out    .   1:1 ack 1                 # challenged
        +0     in     R   200000:200000
        +0     check  conns == 1 and TcpExtTCPChallengeACK == 1
        +0     in     R   1:1
        +0     check  conns == 0 and TcpExtEmbryonicRsts == 1 and TcpAttemptFails == 1
        +60s   quiet
    """)


@pytest.mark.rfc("7323", "5.3")
def test_an_old_timestamp_does_not_complete_the_handshake(wire):
    wire.play("""
        +0     app    listen
        +0     in     S   0:0 <mss 1000,TS val 1000 ecr 0>
        +0     out    S.  0:0 ack 1
        +0     in     .   1:1 ack 1 <nop,nop,TS val 900 ecr 0>
        +0     out    .   1:1 ack 1
        +0     check  queued == 0 and TcpExtPAWSEstab == 1
        +0     in     .   1:1 ack 1 <nop,nop,TS val 1001 ecr 0>
        +0     check  queued == 1
    """)


@pytest.mark.rfc("9293", "3.10.7.4")
def test_text_with_the_last_ack_is_taken(wire):
    wire.play("""
        +0     app    listen
        +0     in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
        +0     in     FP. 1:501 ack 1
        +0     out    .   1:1 ack 502
        +0     app    accept
        +0     check  state is CLOSE_WAIT and readable == 500
        +0     app    recv
    """)


def test_a_closed_listener_forgets_its_requests(wire):
    wire.play("""
        +0     app    listen
        +0     in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
        +0     app    unlisten
        +0     check  conns == 0
        +5s    in     .   1:1 ack 1
        +0     out    R   1:1
    """)


def test_old_requests_make_room_for_young_ones(wire):
    """A crowded backlog: requests are given up after two more SYN-ACKs instead of five, until half of it is free."""
    wire.play("+0 app listen 10")
    for number in range(1, 9):
        wire.play(f"+0 in @{number} S 0:0 <mss 1000>", loose=True)
    wire.play("+4s check conns == 8", loose=True)
    wire.play("+4s check conns == 5", loose=True)


# ---------------------------------------------------------------------- the accept queue


@pytest.mark.wire(sysctl={"net.ipv4.tcp_abort_on_overflow": "1"})
def test_abort_on_overflow_resets(wire):
    wire.play("""
        +0     app    listen 1
        +0     in     @1 S 0:0 <mss 1000>
        +0     out    @1 S. 0:0 ack 1
        +0     in     @2 S 0:0 <mss 1000>
        +0     out    @2 S. 0:0 ack 1
        +0     in     @1 . 1:1 ack 1
        +0     in     @2 . 1:1 ack 1
        +0     app    accept
        +0     in     @3 S 0:0 <mss 1000>
        +0     out    @3 S. 0:0 ack 1
        +0     in     @4 S 0:0 <mss 1000>
        +0     out    @4 S. 0:0 ack 1
        +0     in     @3 . 1:1 ack 1
        +0     in     @4 . 1:1 ack 1
        +0     out    @4 R 1:1
        +0     check  queued == 2 and TcpExtListenOverflows == 1 and TcpExtEmbryonicRsts == 1
        +60s   quiet
    """)


@pytest.mark.wire(sysctl={"net.core.somaxconn": "1"})
def test_somaxconn_caps_the_backlog(wire):
    wire.play("+0 app listen 1000")
    assert wire.listener.backlog == 1
    wire.listener.set_backlog(-1)
    assert wire.listener.backlog == 1


def test_a_connection_reset_before_accept_is_still_accepted(wire):
    wire.play("""
        +0     app    listen
        +0     in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
        +0     in     .   1:1 ack 1
        +0     in     P.  1:101 ack 1
        +0     in     R   101:101
        +0..40ms check queued == 1 and conns == 0
        +0     app    accept
        +0     check  error is ECONNRESET and state is CLOSED and readable == 100
        +0     app    recv 100
        +0     app    close
    """)


def test_a_listener_closes_over_a_dead_connection(wire):
    wire.play("""
        +0     app    listen
        +0     in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
        +0     in     .   1:1 ack 1
        +0     in     R   1:1
        +0     app    unlisten
        +0     check  conns == 0
    """)


@pytest.mark.wire(sysctl=NO_COOKIES)
def test_without_cookies_a_full_backlog_drops_syns(wire):
    wire.play("""
        +0     app    listen 0
        +0     in     @1 S 0:0 <mss 1000>
        +0     out    @1 S. 0:0 ack 1
        +0     in     @2 S 0:0 <mss 1000>
        +0     check  TcpExtTCPReqQFullDrop == 1 and TcpExtListenDrops == 1
    """)


# ---------------------------------------------------------------------- TCP_DEFER_ACCEPT


def test_deferred_accept_waits_for_text(wire):
    wire.options.defer_accept = 5
    wire.play("""
        +0     app    listen
        +0     in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
        +10ms  in     .   1:1 ack 1
        +0     check  queued == 0 and TcpExtTCPDeferAcceptDrop == 1
        +100ms in     P.  1:101 ack 1
        +0..40ms out  .   1:1 ack 101
        +0     check  queued == 1
        +0     app    accept
        +0     check  readable == 100
        +0     app    recv
    """)


def test_deferred_accept_gives_up_waiting(wire):
    """Three time-outs are five seconds: no SYN-ACK while text is awaited, one at the end, whose answer is accepted."""
    wire.options.defer_accept = 5
    wire.play("""
        +0     app    listen
        +0     in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
        +10ms  in     .   1:1 ack 1
        +6.99s out    S.  0:0 ack 1
        +10ms  in     .   1:1 ack 1
        +0     check  queued == 1
    """)


# ---------------------------------------------------------------------- cookies


@pytest.mark.rfc("4987", "3.6")
@pytest.mark.wire(sysctl=COOKIES)
def test_a_cookie_is_all_that_is_remembered(wire):
    wire.play("""
        +0     app    listen
        +0     in     S   0:0 <mss 1450,nop,nop,sackOK,nop,wscale 7>
        +0     out    S.  0:0 ack 1 <mss ?>           # without timestamps nothing else can be kept
        +0     check  conns == 0 and TcpExtSyncookiesSent == 1 and TcpExtTCPReqQFullDoCookies == 1
        +50s   in     .   1:1 ack 1
        +0     app    accept
        +0     check  state is ESTABLISHED and snd_mss == 1440 and snd_wscale == 0 and TcpExtSyncookiesRecv == 1
        +0     app    send 3000
        +0     out    .   1:1441
        +0     out    .   1441:2881
        +0     out    P.  2881:3001
    """)


@pytest.mark.rfc("4987", "3.6")
@pytest.mark.rfc("7323", "5.4")
@pytest.mark.wire(sysctl=COOKIES, only=NOT_WRAP)
def test_timestamps_carry_the_options_of_the_syn(wire):
    wire.play("""
        +0     app    listen
        +0     in     SWE 0:0 <mss 1460,sackOK,TS val 5 ecr 0,nop,wscale 9>
        +0     out    SE. 0:0 ack 1 <mss ?,sackOK,TS val ? ecr 5,nop,wscale ?>
        +0     check  conns == 0
        +1s    in     P.  1:101 ack 1
        +0..40ms out  .   1:1 ack 101
        +0     app    accept
        +0     app    recv 100
        +0     check  snd_wscale == 9 and TcpExtSyncookiesRecv == 1
    """)
    assert {"ts", "sack", "wscale", "ecn"} <= set(wire.conn.info(wire.clock.now).options)


@pytest.mark.rfc("4987", "3.6")
@pytest.mark.wire(sysctl=COOKIES)
def test_a_cookie_goes_stale(wire):
    wire.play("""
        +0     app    listen
        +0     in     @1 S 0:0 <mss 1000>
        +0     out    @1 S. 0:0 ack 1
        +119s  in     @2 S 0:0 <mss 1000>
        +0     out    @2 S. 0:0 ack 1
        +2s    in     @1 . 1:1 ack 1
        +0     out    @1 R 1:1
        +0     check  TcpExtSyncookiesFailed == 1 and queued == 0
        +120s  in     @2 . 1:1 ack 1
        +0     out    @2 R 1:1
        +0     check  TcpExtSyncookiesFailed == 1        # nobody had one for so long: not even looked at
    """)


@pytest.mark.rfc("4987", "3.6")
@pytest.mark.wire(sysctl=COOKIES)
def test_a_guessed_cookie_is_reset(wire):
    wire.play("""
        +0     app    listen
        +0     in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
        +0     in     .   1:1 ack 5
        +0     out    R   5:5
        +0     in     .   2:2 ack 1
        +0     out    R   1:1
        +0     check  TcpExtSyncookiesFailed == 2 and conns == 0
        +0     in     .   1:1 ack 1
        +0     check  queued == 1
    """)


@pytest.mark.rfc("4987", "3.6")
@pytest.mark.wire(sysctl=COOKIES)
def test_a_cookie_does_not_get_past_a_full_accept_queue(wire):
    wire.play("""
        +0     app    listen 0
        +0     in     @1 S 0:0 <mss 1000>
        +0     out    @1 S. 0:0 ack 1
        +0     in     @2 S 0:0 <mss 1000>
        +0     out    @2 S. 0:0 ack 1
        +0     in     @1 . 1:1 ack 1
        +0     in     @2 . 1:1 ack 1
        +0     check  queued == 1 and TcpExtListenOverflows == 1 and conns == 1
        +0     app    accept
        +1s    in     @2 . 1:1 ack 1
        +0     check  queued == 1
    """)


@pytest.mark.rfc("4987", "3.6")
@pytest.mark.wire(only="v4 v6")
def test_a_flood_costs_nothing_and_a_client_still_gets_in(wire):
    """Fifty thousand SYNs from everywhere: the backlog fills, the rest are answered and forgotten."""
    wire.play("+0 app listen 128")
    source = wire.peer_addr[:-1]
    packets = [
        b"\2" + build.tcp((source + bytes([host]), 6000 + port), (wire.stack_addr, PORT), SYN, 1000 * port)[1:]
        for host in range(10, 60)
        for port in range(20)
    ]  # DATA_VALID: sums are not what this is about
    answers = 0
    for round_ in range(50):
        for packet in packets:
            at = 10 + (40 if wire.v6 else 20)
            port = int.from_bytes(packet[at : at + 2], "big") + 20 * round_
            wire.stack.receive(packet[:at] + port.to_bytes(2, "big") + packet[at + 2 :], wire.clock.now, wire.link)
        while wire.stack.poll_transmit(wire.clock.now) is not None:
            answers += 1
    assert answers == 50_000
    assert len(list(wire.stack.tcp.conns())) == 129
    wire.play("+0 check TcpExtSyncookiesSent > 49000")
    wire.play("""
        +0     in     S   0:0 <mss 1400,sackOK,TS val 7 ecr 0,nop,wscale 7>
        +0     out    S.  0:0 ack 1
        +10ms  in     .   1:1 ack 1
        +0     app    accept
        +0     check  state is ESTABLISHED and snd_wscale == 7
    """)
