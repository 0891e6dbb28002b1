"""TIME-WAIT as a light object: who may follow, what is answered, what it costs. RFC 9293 §3.6.1, 6191, 1337."""

import gc
import tracemalloc

import pytest

from kit import build
from kit.script import SegmentSpec
from kit.wire import PORT
from stack.errors import StackError
from stack.wire.tcp import ACK, FIN, SYN

pytestmark = pytest.mark.long

NOT_WRAP = "v4 v6 offload"


def wait(wire, **options):
    """Our program closes first, and the connection ends in TIME-WAIT."""
    wire.established(**options)
    wire.play("""
        +0     app    close
        +0     out    F.  1:1 ack 1
        +10ms  in     F.  1:1 ack 2
        +0     out    .   2:2 ack 2
        +0     check  state is TIME_WAIT and conns == 1
    """)


@pytest.mark.rfc("9293", "3.6.1")
def test_the_connection_itself_is_gone(wire):
    wait(wire)
    assert type(next(wire.stack.tcp.conns())).__name__ == "TimeWait"
    wire.play("+61s check conns == 0 and TcpExtTW == 1")


def test_a_program_that_still_holds_it_is_told_of_the_end(wire):
    wire.established()
    wire.play("""
        +0     app    shutdown
        +0     out    F.  1:1 ack 1
        +10ms  in     FP. 1:101 ack 2
        +0     out    .   2:2 ack 102
        +0     check  state is TIME_WAIT and readable == 100
        +30s   app    recv 100
        +31s   check  state is CLOSED and conns == 0 and CLOSED in events
    """)


def test_the_last_ack_goes_out_though_the_program_closes_at_once(wire):
    wire.established()
    wire.play("""
        +0     app    shutdown
        +0     out    F.  1:1 ack 1
        +10ms  in     .   1:1 ack 2
    """)
    wire.receive(wire.segment(SegmentSpec(flags=FIN | ACK, seq=1, end=1)))
    wire.conn.close()
    wire.play("""
        +0     out    .   2:2 ack 2
        +0     check  conns == 1
    """)


@pytest.mark.rfc("1337", "3")
def test_a_reset_kills_it_as_in_linux(wire):
    wait(wire)
    wire.play("""
        +0     in     R   100:100                 # not exact
        +0     check  conns == 1
        +0     in     R   2:2
        +0     check  conns == 0
    """)


@pytest.mark.rfc("9293", "3.10.7.4")
def test_a_bare_ack_starts_the_minute_afresh(wire):
    wait(wire)
    wire.play("""
        +50s   in     .   2:2 ack 2
        +50s   check  conns == 1
        +11s   check  conns == 0
    """)


@pytest.mark.rfc("9293", "3.10.7.4")
def test_what_is_out_of_place_is_acknowledged_not_too_often(wire):
    wait(wire)
    wire.play("""
        +1s    in     .   2:2 ack 1
        +1s    in     .   1:1 ack 2
        +0     out    .   2:2 ack 2
        +100ms in     .   1:1 ack 2
        +100ms in     .   1:1 ack 2
        +0     check  TcpExtTCPACKSkippedTimeWait == 2
        +400ms in     .   1:1 ack 2
        +0     out    .   2:2 ack 2
        +0     in     P.  2:102 ack 2              # text always is
        +0     out    .   2:2 ack 2
    """)


@pytest.mark.rfc("7323", "5.3")
def test_an_old_timestamp_is_acknowledged_and_counted(wire):
    wait(wire, ts=True)
    wire.play("""
        +1s    in     F.  1:1 ack 2 <nop,nop,TS val 1 ecr 0>
        +0     out    .   2:2 ack 2
        +0     check  TcpExtPAWSTimewait == 1 and conns == 1
    """)


# ---------------------------------------------------------------------- who may follow


@pytest.mark.rfc("6191", "2")
@pytest.mark.wire(only=NOT_WRAP)
def test_a_syn_with_a_later_timestamp_opens_anew(wire):
    """Though its sequence number is an old one; our ISS lies beyond all that the old connection sent."""
    wait(wire, role="server", ts=True)
    old_iss = wire.peer(1).iss
    wire.play("""
        +1s    in     S   0:0 <mss 1000,TS val ? ecr 0>
        +0     out    S.  0:0 ack 1
        +0     check  conns == 1
        +10ms  in     .   1:1 ack 1
        +0     app    accept
        +0     check  state is ESTABLISHED
    """)
    assert (wire.peer(1).iss - old_iss) & 0xFFFFFFFF == 2 + 65535 + 2


@pytest.mark.wire(only=NOT_WRAP)
def test_who_saves_syns_gets_that_one_too(wire):
    """TCP_SAVE_SYN: the headers are those of the SYN that opened the new connection."""
    wait(wire, role="server", ts=True, save_syn=1)
    first = wire.conn.saved_syn
    wire.play("""
        +1s    in     S   0:0 <mss 1000,TS val ? ecr 0>
        +0     out    S.  0:0 ack 1
        +10ms  in     .   1:1 ack 1
        +0     app    accept
    """)
    saved = wire.conn.saved_syn
    size = 40 if wire.v6 else 20
    assert saved != first
    assert saved[size + 13] == SYN
    assert bytes((2, 4)) + (1000).to_bytes(2, "big") in saved[size + 20 :]
    assert len(saved) == size + (saved[size + 12] >> 4) * 4


@pytest.mark.rfc("6191", "2")
@pytest.mark.wire(only=NOT_WRAP)
def test_a_syn_with_an_older_timestamp_does_not(wire):
    wait(wire, role="server", ts=True)
    wire.play("""
        +1s    in     S   100000:100000 <mss 1000,TS val 1 ecr 0>
        +0     out    .   2:2 ack 2
        +0     check  conns == 1 and TcpExtPAWSTimewait == 1
    """)


@pytest.mark.rfc("9293", "3.6.1")
def test_a_syn_where_nobody_listens_any_more_is_acknowledged(wire):
    wait(wire)
    wire.play("""
        +1s    in     S   100000:100000 <mss 1000>
        +0     out    .   2:2 ack 2
        +0     check  conns == 1
    """)


ONE_PORT = {"net.ipv4.ip_local_port_range": "40000 40000"}


@pytest.mark.rfc("6191", "2")
@pytest.mark.wire(sysctl=ONE_PORT | {"net.ipv4.tcp_tw_reuse": "1"}, only=NOT_WRAP)
def test_connect_may_follow_after_a_second(wire):
    wait(wire, ts=True)
    wire.play("""
        +500ms app    connect -> EADDRNOTAVAIL
        +600ms app    connect
        +0     out    S   0:0
        +0     check  TcpExtTWRecycled == 1 and conns == 1
        +10ms  in     S.  0:0 ack 1 <mss 1000>
        +0     out    .   1:1 ack 1
    """)


@pytest.mark.rfc("6191", "2")
@pytest.mark.wire(sysctl=ONE_PORT, only="v4 v6")
def test_by_default_connect_follows_over_loopback_only(wire):
    wait(wire, ts=True)
    wire.play("+2s app connect -> EADDRNOTAVAIL")


@pytest.mark.wire(sysctl=ONE_PORT | {"net.ipv4.tcp_tw_reuse": "1"}, only="v4 v6")
def test_without_timestamps_connect_waits_for_the_end(wire):
    wait(wire)
    wire.play("""
        +50s   app    connect -> EADDRNOTAVAIL
        +11s   app    connect
        +0     out    S   0:0
    """)


@pytest.mark.rfc("6191", "2")
@pytest.mark.wire(only="v4 v6")
@pytest.mark.parametrize("ts", [True, False])
def test_who_has_bound_the_port_itself_connects_at_once(wire, ts):
    """As Linux does, with timestamps, whatever tcp_tw_reuse says."""
    wait(wire, ts=ts)
    local, remote = wire.conn.local, wire.conn.remote
    tcp, now = wire.stack.tcp, wire.clock.now
    binding = tcp.bind(*local, reuseaddr=True)
    if not ts:
        with pytest.raises(StackError, match="exists"):
            tcp.connect(remote, now, binding=binding)
        return
    assert tcp.connect(remote, now, binding=binding).local == local
    assert wire.counters["TcpExtTWRecycled"] == 1


# ---------------------------------------------------------------------- how many


@pytest.mark.wire(sysctl={"net.ipv4.tcp_max_tw_buckets": "0"})
def test_one_too_many_closes_at_once(wire):
    wire.established()
    wire.play("""
        +0     app    close
        +0     out    F.  1:1 ack 1
        +10ms  in     F.  1:1 ack 2
        +0     out    .   2:2 ack 2
        +0     check  conns == 0 and TcpExtTCPTimeWaitOverflow == 1 and state is CLOSED
    """)
    wire.stack.check()


@pytest.mark.wire(only="v4")
def test_thousands_cost_six_hundred_bytes_each(wire):
    """Connections come, are closed by us, and go; only shadows stay, and all end in the sixty-first second."""
    wire.play("+0 app listen 4096")
    stack, link = wire.stack, wire.link

    def say(port, flags, seq, ack=0):
        packet = build.tcp((wire.peer_addr, port), (wire.stack_addr, PORT), flags, seq, ack)
        stack.receive(packet, wire.clock.now, link)
        return hear()

    def hear():
        answers = []
        while (out := stack.poll_transmit(wire.clock.now)) is not None:
            answers.append(int.from_bytes(bytes(out[1][0])[34:38], "big"))
        return answers

    count, before = 2000, 0
    for port in range(20_000, 20_100 + count):
        if port == 20_100:
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
        iss = say(port, SYN, 1000)[0]
        say(port, ACK, 1001, iss + 1)
        wire.listener.accept().close()
        stack.poll_event()
        hear()
        say(port, FIN | ACK, 1001, iss + 2)
        wire.clock.advance_to(wire.clock.now + 100_000)
    wire.play("+3s check TcpExtTW == 0", loose=True)  # old deadlines have left the heap
    gc.collect()
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert {type(each).__name__ for each in stack.tcp.conns()} == {"TimeWait"}
    assert used < 600 * count
    wire.play("+56s check TcpExtTW == 0", loose=True)
    wire.play("+2s check conns == 0", loose=True)
