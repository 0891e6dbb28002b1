"""Opening a connection: both roles, what the SYNs negotiate, and everything that can go wrong on the way."""

import pytest


def own_mss(wire) -> int:
    return wire.mtu - (60 if wire.v6 else 40)


@pytest.mark.rfc("9293", "3.5")
@pytest.mark.rfc("7323", "2.2")
@pytest.mark.rfc("7323", "3.2")
@pytest.mark.rfc("2018", "2")
def test_client_offers_and_takes_every_option(wire):
    wire.play(f"""
        +0     app    connect
        +0     out    S   0:0 win 65535 <mss {own_mss(wire)},sackOK,TS val 0 ecr 0,nop,wscale 7>
        +0     check  state is SYN_SENT
        +10ms  in     S.  0:0 ack 1 win 65535 <mss 1400,sackOK,TS val 700 ecr 0,nop,wscale 8>
        +0     out    .   1:1 ack 1 <nop,nop,TS val 10 ecr 700>
        +0     check  state is ESTABLISHED and established and events == [CONNECTED]
        +0     check  snd_mss == 1388 and snd_wscale == 8 and rcv_wscale == 7
        +0     check  rtt == 10000
        +0     app    send 1388
        +0     out    P.  1:1389 ack 1 <nop,nop,TS val 10 ecr 700>
    """)


@pytest.mark.rfc("9293", "3.5")
@pytest.mark.rfc("7323", "2.2")
def test_server_offers_only_what_the_client_offered(wire):
    wire.play(
        f"""
        +0     app    listen
        +0     in     S   0:0 win 64240 <mss 1460,sackOK,TS val 700 ecr 0,nop,wscale 7>
        +0     out    S.  0:0 ack 1 <mss {own_mss(wire)},sackOK,TS val 0 ecr 700,nop,wscale 7>
        +10ms  in     .   1:1 ack 1
        +0     check  queued == 1 and events == [ACCEPTABLE]
        +0     app    accept
        +0     check  state is ESTABLISHED and queued == 0
    """
    )
    wire.play(f"""
        +0     in     @2 S   0:0 win 64240 <mss 1460>
        +0     out    @2 S.  0:0 ack 1 <mss {own_mss(wire)}>
        +0     in     @3 S   0:0 win 64240 <mss 1460,nop,nop,sackOK>
        +0     out    @3 S.  0:0 ack 1 <mss {own_mss(wire)},nop,nop,sackOK>
        +0     in     @4 S   0:0 win 64240 <mss 1460,nop,wscale 2>
        +0     out    @4 S.  0:0 ack 1 <mss {own_mss(wire)},nop,wscale 7>
        +0     in     @5 S   0:0 win 64240 <mss 1460,nop,nop,TS val 5 ecr 0>
        +0     out    @5 S.  0:0 ack 1 <mss {own_mss(wire)},nop,nop,TS val 0 ecr 5>
    """)


@pytest.mark.rfc("9293", "3.7.1", "MUST-15")
def test_without_an_mss_option_the_default_counts(wire):
    mss = 1220 if wire.v6 else 536
    wire.play(
        f"""
        +0     app    connect
        +0     out    S   0:0
        +10ms  in     S.  0:0 ack 1
        +0     out    .   1:1 ack 1
        +0     check  snd_mss == {mss}
        +0     app    send {mss}
        +0     out    .   1:{1 + mss}
    """
    )


@pytest.mark.rfc("9293", "3.7.1", "MUST-16")
def test_the_peer_mss_limits_our_segments(wire):
    wire.established(mss=700)
    wire.play("""
        +0     app    send 2000
        +0     out    .   1:1401/700
        +0     out    P.  1401:2001
    """)


@pytest.mark.wire(sysctl={"net.ipv4.tcp_min_snd_mss": "48"})
def test_a_tiny_mss_is_raised_to_the_floor(wire):
    wire.established(mss=1)
    wire.play(
        """
        +0     check  snd_mss == 48
        +0     app    send 96
        +0     out    .   1:97/48
    """
    )


@pytest.mark.wire(sysctl={"net.ipv4.tcp_sack": "0", "net.ipv4.tcp_timestamps": "0", "net.ipv4.tcp_window_scaling": "0"})
def test_sysctls_turn_options_off_in_both_roles(wire):
    wire.play(f"""
        +0     app    listen
        +0     in     S   0:0 <mss 1460,sackOK,TS val 700 ecr 0,nop,wscale 7>
        +0     out    S.  0:0 ack 1 <mss {own_mss(wire)}>
        +0     app    connect 2
        +0     out    @2 S 0:0 <mss {own_mss(wire)}>
    """)


@pytest.mark.rfc("6298", "5.7")
@pytest.mark.rfc("9293", "3.8.3", "MUST-23")
def test_syns_are_repeated_with_doubling_gaps_then_connect_times_out(wire):
    wire.play("""
        +0     app    connect
        +0     out    S   0:0 <mss ?,sackOK,TS val 0 ecr 0,nop,wscale 7>
        +1s    out    S   0:0 <mss ?,sackOK,TS val 1000 ecr 0,nop,wscale 7>
        +2s    out    S   0:0
        +4s    out    S   0:0
        +8s    out    S   0:0
        +16s   out    S   0:0
        +32s   out    S   0:0
        +63s   quiet
        +1.1s  check  state is CLOSED and error is ETIMEDOUT and FAILED in events
        +0     check  conns == 0 and TcpExtTCPSynRetrans == 6 and TcpActiveOpens == 1 and TcpAttemptFails == 1
    """)


def test_syncnt_limits_the_repeats(wire):
    wire.options.syncnt = 1
    wire.play("""
        +0     app    connect
        +0     out    S   0:0
        +1s    out    S   0:0
        +2.1s  check  state is CLOSED and error is ETIMEDOUT
    """)


@pytest.mark.rfc("6298", "3")
def test_a_repeated_syn_gives_no_rtt_sample(wire):
    wire.play("""
        +0     app    connect
        +0     out    S   0:0
        +1s    out    S   0:0
        +10ms  in     S.  0:0 ack 1 <mss 1000>
        +0     out    .   1:1 ack 1
        +0     check  rtt == 0 and rto >= 1000000
    """)


@pytest.mark.rfc("9293", "3.10.7.3")
def test_refused(wire):
    wire.play("""
        +0     app    connect
        +0     out    S   0:0
        +5ms   in     R.  0:0 ack 1
        +0     check  state is CLOSED and error is ECONNREFUSED and FAILED in events and conns == 0
    """)


@pytest.mark.rfc("9293", "3.10.7.3")
def test_a_reset_that_acknowledges_nothing_of_ours_is_ignored_in_syn_sent(wire):
    wire.play("""
        +0     app    connect
        +0     out    S   0:0
        +5ms   in     R   0:0
        +0     in     R.  0:0 ack 0
        +0     in     R.  0:0 ack 2
        +0     quiet
        +0     check  state is SYN_SENT
    """)


@pytest.mark.rfc("9293", "3.10.7.3")
@pytest.mark.parametrize("ack", [0, 2, 70000])
def test_an_unacceptable_ack_in_syn_sent_is_answered_with_a_reset(wire, ack):
    wire.play(f"""
        +0     app    connect
        +0     out    S   0:0
        +5ms   in     S.  0:0 ack {ack} <mss 1000>
        +0     out    R   {ack}:{ack}
        +2ms   out    S   0:0                 # the old connection is gone now: ask again at once
        +0     check  state is SYN_SENT
        +5ms   in     S.  0:0 ack 1 <mss 1000>
        +0     out    .   1:1 ack 1
        +0     check  state is ESTABLISHED
    """)


def test_a_bare_ack_in_syn_sent_does_not_establish(wire):
    wire.play("""
        +0     app    connect
        +0     out    S   0:0
        +5ms   in     .   1:1 ack 1
        +0     quiet
        +0     check  state is SYN_SENT
    """)


@pytest.mark.rfc("9293", "3.5", "MUST-10")
@pytest.mark.parametrize("second", [".  1:1 ack 1", "S. 0:0 ack 1 <mss 1000>"])
def test_simultaneous_open(wire, second):
    wire.play(
        f"""
        +0     app    connect
        +0     out    S   0:0
        +5ms   in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
        +0     check  state is SYN_RECEIVED
        +5ms   in     {second}
        +0     quiet
        +0     check  state is ESTABLISHED and CONNECTED in events
        +0     app    send 10
        +0     out    P.  1:11 ack 1
        +5ms   in     P.  1:21 ack 11
        +0     out    .   11:11 ack 21
        +0     app    recv 20
    """
    )


@pytest.mark.rfc("9293", "3.10.7.4")
def test_a_repeated_syn_in_syn_received_gets_the_syn_ack_again(wire):
    wire.play("""
        +0     app    listen
        +0     in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
        +300ms in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
        +10ms  in     .   1:1 ack 1
        +0     app    accept
        +0     check  state is ESTABLISHED
    """)


@pytest.mark.rfc("6298", "5.7")
def test_syn_acks_are_repeated_then_forgotten(wire):
    wire.play("""
        +0     app    listen
        +0     in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
        +1s    out    S.  0:0 ack 1
        +2s    out    S.  0:0 ack 1
        +4s    out    S.  0:0 ack 1
        +8s    out    S.  0:0 ack 1
        +16s   out    S.  0:0 ack 1
        +31s   quiet
        +1.1s  check  conns == 0 and queued == 0
    """)


@pytest.mark.rfc("9293", "3.10.7.4")
def test_a_lost_final_ack_is_made_good_by_data(wire):
    wire.play("""
        +0     app    listen
        +0     in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
        +10ms  in     P.  1:101 ack 1
        +0..40ms out  .   1:1 ack 101
        +0     app    accept
        +0     check  state is ESTABLISHED and readable == 100
        +0     app    recv 100
    """)


@pytest.mark.rfc("9293", "3.10.7.4")
@pytest.mark.parametrize("ack", [0, 2])
def test_a_wrong_ack_in_syn_received_is_answered_with_a_reset(wire, ack):
    wire.play(f"""
        +0     app    listen
        +0     in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
        +10ms  in     .   1:1 ack {ack}
        +0     out    R   {ack}:{ack}
        +0     in     .   1:1 ack 1
        +0     check  queued == 1
    """)


@pytest.mark.rfc("9293", "3.10.7.4")
def test_a_reset_in_syn_received_returns_to_listen(wire):
    wire.play("""
        +0     app    listen
        +0     in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
        +10ms  in     R   1:1
        +2s    quiet
        +0     check  conns == 0 and queued == 0 and TcpAttemptFails == 1
        +0     in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1
    """)


@pytest.mark.rfc("9293", "3.10.7.1")
def test_a_closed_port_answers_with_a_reset(wire):
    wire.play("""
        +0     in     S   0:0 <mss 1000>
        +0     out    R.  0:0 ack 1
        +0     in     .   1:1 ack 500
        +0     out    R   500:500
        +0     in     F   7:17
        +0     out    R.  0:0 ack 18
        +0     in     R   1:1
        +0     in     R.  1:1 ack 5
        +0     quiet
        +0     check  TcpOutRsts == 3 and conns == 0
    """)


@pytest.mark.rfc("9293", "3.10.7.2")
def test_a_listener_resets_acks_and_ignores_the_rest(wire):
    wire.play("""
        +0     app    listen
        +0     in     .   1:1 ack 500
        +0     out    R   500:500
        +0     in     S.  0:0 ack 500 <mss 1000>
        +0     out    R   500:500
        +0     in     R   0:0
        +0     in     P   1:11
        +0     in     F   1:1
        +0     quiet
        +0     check  conns == 0
    """)


def test_a_full_accept_queue_drops_syns_until_there_is_room(wire):
    wire.play("""
        +0     app    listen 1
        +0     in     @1 S 0:0 <mss 1000>
        +0     out    @1 S. 0:0 ack 1
        +0     in     @2 S 0:0 <mss 1000>
        +0     out    @2 S. 0:0 ack 1
        +0     in     @1 . 1:1 ack 1
        +0     in     @2 . 1:1 ack 1
        +0     check  queued == 2                  # backlog 1 holds two, as in Linux
        +0     in     @3 S 0:0 <mss 1000>
        +500ms quiet
        +0     check  TcpExtListenOverflows == 1 and TcpExtListenDrops == 1
        +0     app    accept
        +500ms in     @3 S 0:0 <mss 1000>
        +0     out    @3 S. 0:0 ack 1
        +0     in     @3 . 1:1 ack 1
        +0     check  queued == 2
    """)


@pytest.mark.wire(sysctl={"net.ipv4.tcp_max_syn_backlog": "2", "net.ipv4.tcp_syncookies": "0"})
@pytest.mark.rfc("4987", "3.2")
def test_half_open_connections_are_bounded(wire):
    wire.play("+0 app listen 100")
    for number in range(1, 40):
        wire.receive(wire.segment(_syn(number)))
        wire.flush()
    assert len(list(wire.stack.tcp.conns())) <= 3


def _syn(number):
    from kit.script import SegmentSpec

    return SegmentSpec(peer=number, flags=2, seq=0, end=0, options=[("mss", [1000])])


def test_closing_a_listener_resets_what_was_not_accepted(wire):
    wire.play("""
        +0     app    listen
        +0     in     @1 S 0:0 <mss 1000>
        +0     out    @1 S. 0:0 ack 1
        +0     in     @1 . 1:1 ack 1
        +0     app    unlisten
        +0     out    @1 R. 1:1 ack 1
        +0     in     @2 S 0:0 <mss 1000>
        +0     out    @2 R. 0:0 ack 1
        +0     check  conns == 0 and listeners == 0
    """)


@pytest.mark.rfc("5961", "4.2")
def test_a_syn_cannot_reset_an_established_connection(wire):
    wire.established()
    wire.play("""
        +0     in     S   0:0 <mss 1000>          # exactly the one that opened it
        +0     out    .   1:1 ack 1
        +1s    in     S   500:500 <mss 1000>      # in the window
        +0     out    .   1:1 ack 1
        +0     check  state is ESTABLISHED and TcpExtTCPSYNChallenge >= 1
    """)


def test_a_repeated_syn_ack_is_acknowledged_again(wire):
    wire.established()
    wire.play("""
        +1s    in     S.  0:0 ack 1 <mss 1000>
        +0     out    .   1:1 ack 1
        +0     check  state is ESTABLISHED
    """)
