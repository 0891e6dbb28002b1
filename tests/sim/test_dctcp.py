"""What DCTCP is for: behind a queue that marks early, the link is full and the queue short (RFC 8257 §1, §3.3–3.4)."""

import pytest

from kit.link import Link
from kit.pair import Pair
from stack.units import MSEC, SEC, USEC

pytestmark = pytest.mark.long

RATE = 100_000_000
THRESHOLD = 20_000  # bytes queued above which the link marks; a bandwidth-delay product is 12,500
SIZE = 6_000_000


def run(control: str, offload: bool = True) -> tuple[float, list[int]]:
    """Share of the link that was used, and the bytes queued whenever a packet came to the link, after 100 ms."""
    link = Link(rate=RATE, delay=500 * USEC, queue=400_000, mark_over=THRESHOLD)
    sysctl = {"net.ipv4.tcp_congestion_control": control, "net.ipv4.tcp_ecn": "1"}
    pair = Pair(link, Link(delay=500 * USEC), sysctl=sysctl, check_every=1000, offload=offload)
    depths: list[int] = []

    def look(name: str, _packet: bytes, now: int) -> None:
        if name == "a" and now > 100 * MSEC + start:
            depths.append(max(link._free_at - now, 0) * RATE // (8 * SEC))

    start = pair.clock.now
    pair.taps.append(look)
    report = pair.transfer(SIZE)
    assert report.intact
    assert report.retrans_segs == 0
    return report.goodput / RATE, sorted(depths)


@pytest.mark.rfc("8257", "3.3")
@pytest.mark.rfc("8257", "3.4")
def test_behind_a_marking_queue_the_link_is_full_and_the_queue_short() -> None:
    share, depths = run("dctcp")
    assert share > 0.93
    median, worst = depths[len(depths) // 2], depths[-1]
    assert median < 1.5 * THRESHOLD
    assert worst < 5 * THRESHOLD


@pytest.mark.rfc("8257", "3.3")
def test_the_queue_is_steadier_than_with_a_cut_by_a_fixed_share() -> None:
    """The proportional cut keeps the queue near the threshold; a fixed one swings about it."""
    _share, dctcp = run("dctcp")
    _share, reno = run("reno")

    def spread(depths: list[int]) -> int:
        return depths[len(depths) * 9 // 10] - depths[len(depths) // 10]

    assert spread(dctcp) < spread(reno)
