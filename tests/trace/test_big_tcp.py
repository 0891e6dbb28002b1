"""BIG TCP: super-segments of more than 64 KB, where the device takes them and the peer is near."""

import pytest

from kit.oracle import decode, joined

pytestmark = pytest.mark.wire(only="offload offload6")
LARGE = 480 << 10


def first_flight(wire, rtt, gso_max=LARGE):
    """Packets of 600 kB sent at once on an open window, after one round trip of `rtt`."""
    wire.established(mss=1000, wscale=7, rtt=rtt)
    wire.link.gso_max = gso_max
    wire.conn.cc.cwnd = 1 << 20
    wire.play("""
        +0     in   .  1:1 ack 1 win 8000
    """)
    wire.conn.send(bytes(600_000))
    packets = []
    while (out := wire.stack.poll_transmit(wire.clock.now)) is not None:
        packets.append(joined(out[1]))
    return packets


@pytest.mark.rfc("2675", "2")
def test_a_near_peer_gets_packets_of_half_a_megabyte(wire):
    raw = first_flight(wire, "500us")
    big = decode(raw[0])
    assert len(big.payload) == 491_000, "whole segments, within the device's limit"
    assert big.gso_size == 1000
    length = raw[0][12:14] if big.version == 4 else raw[0][14:16]
    assert length == b"\0\0", "Linux's mark of a length beyond the field; in IPv6 the jumbo payload option says it"
    assert [len(decode(each).payload) for each in raw[1:]] == [109_000]


@pytest.mark.parametrize(("rtt", "gso_max"), [("2ms", LARGE), ("500us", 65535)])
def test_a_far_peer_or_a_plain_device_does_not(wire, rtt, gso_max):
    raw = first_flight(wire, rtt, gso_max)
    assert max(map(len, raw)) < 65_536
    assert sum(len(decode(each).payload) for each in raw) == 600_000


def test_what_is_lost_of_it_goes_again_alone(wire):
    wire.established(mss=1000, wscale=7, sack=True, rtt="500us")
    wire.link.gso_max = LARGE
    wire.conn.cc.cwnd = 1 << 20
    wire.play("""
        +0     in   .   1:1 ack 1 win 8000
        +0     app  send 200000
        +0     out  .   1:199001/1000
        +0     out  P.  199001:200001
        +500us in   .   1:1 ack 50001 <nop,nop,sack 51001:200001>
        +0     out  .   50001:51001
        +500us in   .   1:1 ack 200001
    """)
