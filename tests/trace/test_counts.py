"""tcp_info counts wire packets, whatever arrived as one (Linux's tcp_segs_in)."""

import struct

import pytest

from kit import build
from stack.wire.tcp import ACK
from stack.wire.vnet import GSO_TCPV4, GSO_TCPV6, NEEDS_CSUM


@pytest.mark.wire(only="v4 v6")
def test_a_super_segment_counts_as_what_it_was_cut_into(wire):
    wire.established()
    before = wire.conn.info(wire.clock.now)
    peer = wire.peer(1)
    packet = build.tcp(
        (wire.peer_addr, peer.port),
        (wire.stack_addr, peer.local_port),
        ACK,
        peer.isn + 1,
        peer.iss + 1,
        win=65535,
        payload=bytes(2500),
    )
    kind, l3 = (GSO_TCPV6, 40) if wire.v6 else (GSO_TCPV4, 20)
    wire.receive(struct.pack("=BBHHHH", NEEDS_CSUM, kind, l3 + 20, 1000, l3, 16) + packet[10:])
    wire.flush()
    after = wire.conn.info(wire.clock.now)
    assert wire.conn.readable == 2500
    assert (after.segs_in - before.segs_in, after.data_segs_in - before.data_segs_in) == (3, 3)
    wire.sent.clear()
