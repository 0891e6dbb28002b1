"""ICMP errors about a connection: hard and soft ones, path MTU, forgeries."""

import pytest


@pytest.mark.rfc("1122", "4.2.3.9")
@pytest.mark.rfc("5461", "2")
@pytest.mark.parametrize(
    ("kind", "error"),
    [("net-unreach", "ENETUNREACH"), ("host-unreach", "EHOSTUNREACH"), ("port-unreach", "ECONNREFUSED")],
)
def test_an_unreachable_ends_connect_as_in_linux(wire, kind, error):
    wire.play(f"""
        +0     app    connect
        +0     out    S   0:0
        +5ms   in     icmp {kind}
        +0     check  state is CLOSED and error is {error} and FAILED in events
        +10s   quiet
    """)


@pytest.mark.rfc("5927", "5.2")
@pytest.mark.parametrize("kind", ["net-unreach", "host-unreach", "port-unreach", "ttl-exceeded"])
def test_an_established_connection_survives_errors(wire, kind):
    wire.established()
    wire.play(f"""
        +0     app    send 100
        +0     out    P.  1:101
        +5ms   in     icmp {kind}
        +0     check  state is ESTABLISHED
        +5ms   in     .   1:1 ack 101
        +1s    quiet
    """)


@pytest.mark.wire(sysctl={"net.ipv4.tcp_retries2": "2"})
@pytest.mark.rfc("1122", "4.2.3.9")
def test_a_soft_error_explains_a_timeout(wire):
    wire.established()
    wire.play("""
        +0     app    send 100
        +0     out    P.  1:101
        +5ms   in     icmp host-unreach
        +200ms..210ms out P. 1:101
        +420ms out    P.  1:101
        +840ms out    P.  1:101
        +1700ms check  state is CLOSED and error is EHOSTUNREACH
    """)


@pytest.mark.rfc("5927", "4.1")
def test_an_error_about_what_is_not_in_flight_is_ignored(wire):
    wire.play("""
        +0     app    connect
        +0     out    S   0:0
        +5ms   in     icmp port-unreach about 5000
        +0     check  state is SYN_SENT
    """)


@pytest.mark.rfc("1191", "6.4")
@pytest.mark.rfc("8201", "5.4")
def test_a_smaller_path_mtu_cuts_segments_and_resends_at_once(wire):
    wire.established(mss=1400)
    header = 60 if wire.v6 else 40
    mss = 1300 - header
    wire.play(f"""
        +0     app    send 1400
        +0     out    P.  1:1401
        +5ms   in     icmp frag-needed mtu 1300
        +0     out    .   1:{1 + mss}
        +0     out    P.  {1 + mss}:1401
        +0     check  snd_mss == {mss} and pmtu == 1300
        +10ms  in     .   1:1 ack 1401
        +0     app    send {2 * mss}
        +0     out    .   1401:{1401 + 2 * mss}/{mss}
    """)


@pytest.mark.rfc("1191", "6.4")
def test_a_path_mtu_is_no_loss_and_costs_no_window(wire):
    wire.established(mss=1400)
    wire.play(
        """
        +0     app    send 14000
        +5ms   in     icmp frag-needed mtu 1300
        +10ms  in     .   1:1 ack 14001
        +0     check  state is ESTABLISHED and snd_cwnd >= 10 and TcpExtTCPTimeouts == 0
    """,
        loose=True,
    )


@pytest.mark.rfc("5927", "7.2")
def test_a_path_mtu_about_what_is_not_in_flight_is_ignored(wire):
    wire.established(mss=1400)
    wire.play("""
        +0     app    send 1400
        +0     out    P.  1:1401
        +5ms   in     icmp frag-needed mtu 1300 about 100000
        +0     quiet
        +0     check  snd_mss == 1400
    """)


@pytest.mark.rfc("1191", "3")
@pytest.mark.rfc("8201", "4")
def test_an_absurdly_small_path_mtu_is_not_believed(wire):
    wire.established(mss=1400)
    floor = 1280 - 60 if wire.v6 else 48
    wire.play(
        f"""
        +0     app    send 1400
        +5ms   in     icmp frag-needed mtu 60
        +0     check  snd_mss >= {floor} and state is ESTABLISHED
    """,
        loose=True,
    )


@pytest.mark.rfc("1191", "3")
def test_a_larger_path_mtu_changes_nothing(wire):
    wire.established(mss=1400)
    wire.play("""
        +0     app    send 1400
        +0     out    P.  1:1401
        +5ms   in     icmp frag-needed mtu 9000
        +0     quiet
        +0     check  snd_mss == 1400
    """)


@pytest.mark.rfc("1191", "6.3")
def test_a_new_connection_knows_the_path_mtu(wire):
    wire.established(mss=1400)
    header = 60 if wire.v6 else 40
    wire.play(
        """
        +0     app    send 1400
        +5ms   in     icmp frag-needed mtu 1300
        +5ms   in     .   1:1 ack 1401
    """,
        loose=True,
    )
    wire.sent.clear()
    wire.written = 0
    wire.play(f"""
        +0     app    connect 2
        +0     out    @2 S 0:0
        +5ms   in     @2 S. 0:0 ack 1 <mss 1400>
        +0     out    @2 . 1:1 ack 1
        +0     check  snd_mss == {1300 - header}
    """)


@pytest.mark.rfc("6633", "3")
@pytest.mark.wire(only="v4 offload")
def test_a_source_quench_is_ignored(wire):
    wire.established()
    wire.play("""
        +0     app    send 10000
        +0     out    .   1:10001/1000
        +5ms   in     icmp quench
        +0     check  snd_cwnd == 10
    """)
