"""What TCP writes into the IP header."""

import pytest


def last(wire):
    return wire.peer(1).last


@pytest.mark.rfc("1191", "3")
@pytest.mark.wire(only="v4 offload")
def test_dont_fragment_is_set(wire):
    wire.established()
    assert last(wire).df


@pytest.mark.wire(only="v4 offload", sysctl={"net.ipv4.ip_no_pmtu_disc": "1"})
def test_dont_fragment_can_be_turned_off(wire):
    wire.established()
    assert not last(wire).df


def test_the_default_ttl_is_64_and_options_change_it(wire):
    wire.established()
    assert last(wire).ttl == 64
    wire.play("""
        +0     app    setopt ttl 7
        +0     app    setopt tos 184
        +0     app    send 10
        +0     out    P.  1:11
    """)
    assert (last(wire).ttl, last(wire).tos & 0xFC) == (7, 184)


@pytest.mark.wire(sysctl={"net.ipv4.ip_default_ttl": "33"})
def test_the_default_ttl_is_a_sysctl(wire):
    wire.established()
    assert last(wire).ttl == 33


@pytest.mark.rfc("6437", "3")
@pytest.mark.wire(only="v6")
def test_a_flow_keeps_its_label(wire):
    wire.play("""
        +0     app    connect
        +0     out    S   0:0
    """)
    label = last(wire).ident
    assert label
    wire.play("""
        +10ms  in     S.  0:0 ack 1 <mss 1000>
        +0     out    .   1:1 ack 1
        +0     app    send 10
        +0     out    P.  1:11
    """)
    assert last(wire).ident == label


@pytest.mark.rfc("6528", "3")
@pytest.mark.wire(only="v4 v6 offload")
def test_two_connections_have_unlike_sequence_numbers(wire):
    wire.play("""
        +0     app    connect 1
        +0     out    @1 S 0:0
        +0     app    connect 2
        +0     out    @2 S 0:0
    """)
    assert abs(wire.peer(1).iss - wire.peer(2).iss) > 1000
    assert wire.peer(1).last.timestamps[0] != wire.peer(2).last.timestamps[0]


@pytest.mark.wire(only="offload")
def test_a_super_segment_leaves_whole(wire):
    """One packet of many segments for the device to cut: what makes Python fast enough."""
    wire.established(mss=1460)
    seen = []
    transmit = wire.stack.poll_transmit

    class Recorder:
        """Stands where the driver stands."""

        def __getattr__(self, name):
            return getattr(stack, name)

        def poll_transmit(self, now):
            out = transmit(now)
            if out is not None:
                seen.append(sum(map(len, out[1])))
            return out

    stack, wire.stack = wire.stack, Recorder()
    wire.play("""
        +0     app    send 14600
        +0     out    .   1:14601/1460
    """)
    assert seen == [10 + 40 + 14600]
