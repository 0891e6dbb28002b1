"""A network that lets some packets overtake all others, ACKs too, and loses nothing."""

import pytest

from kit.link import Link
from kit.pair import Pair
from stack.units import MSEC

RATE = 500_000_000


@pytest.mark.rfc("8985", "3.3")
def test_early_packets_and_early_acks_cost_little():
    """A late ACK's old SACK blocks are no D-SACKs, or the reordering window would never widen (RFC 2883 §4)."""
    link = Link(rate=RATE, delay=5 * MSEC, reorder=0.02, reorder_by=-5 * MSEC, queue=1_500_000)
    back = Link(delay=5 * MSEC, reorder=0.02, reorder_by=-5 * MSEC, seed=3)
    pair = Pair(link, back, check_every=1000)
    report = pair.transfer(10_000_000)
    assert report.intact
    assert report.goodput > RATE // 2
    assert pair.a.mib.TcpExtTCPSackRecovery < 150
    assert report.timeouts == 0
