"""Goodput over a grid of wires, pinned in goodput.txt: a change shows up in review as a diff.

`NUSE_UPDATE=1 pytest tests/sim/test_goodput.py` writes the table anew.
"""

import os
from pathlib import Path

import pytest

from kit.link import Link
from kit.pair import Pair
from stack.units import MSEC

pytestmark = pytest.mark.long

TABLE = Path(__file__).parent / "goodput.txt"
RATE = 20_000_000
LOSSES = [0.0, 0.001, 0.01, 0.1]
RTTS = [10, 100]  # ms
QUEUES = [0.5, 2.0]  # of the bandwidth-delay product
CONTROLS = ["cubic", "reno", "bbr"]
SIZE = {10: 1_000_000, 100: 2_500_000}
TOLERANCE = 0.05  # other C libraries round a cube root differently

HEAD = f"""\
# Goodput in Mbit/s of one bulk connection over a wire of {RATE // 10**6} Mbit/s: loss × round trip × queue (in BDP).
# Written by: NUSE_UPDATE=1 pytest tests/sim/test_goodput.py
#
# loss    rtt   queue    cubic     reno      bbr
"""


def goodput(loss: float, rtt: int, queue: float, control: str) -> float:
    """Mbit/s; also insists that all arrived."""
    size = SIZE[rtt] if loss < 0.1 else SIZE[rtt] // 5
    bdp = RATE // 8 * rtt // 1000
    link = Link(rate=RATE, delay=rtt * MSEC // 2, queue=max(int(bdp * queue), 10_000), loss=loss, seed=5)
    back = Link(delay=rtt * MSEC // 2)
    pair = Pair(link, back, sysctl={"net.ipv4.tcp_congestion_control": control}, check_every=1000)
    report = pair.transfer(size)
    assert report.intact
    return report.goodput / 1e6


def rows() -> list[tuple[float, int, float]]:
    return [(loss, rtt, queue) for loss in LOSSES for rtt in RTTS for queue in QUEUES]


def pinned() -> dict[tuple[float, int, float], list[float]]:
    table = {}
    for line in TABLE.read_text().splitlines():
        if line and not line.startswith("#"):
            loss, rtt, queue, *cells = line.split()
            table[float(loss), int(rtt), float(queue)] = [float(cell) for cell in cells]
    return table


if "NUSE_UPDATE" in os.environ:

    def test_write_the_table():
        text = HEAD
        for loss, rtt, queue in rows():
            cells = "".join(f"{goodput(loss, rtt, queue, control):9.2f}" for control in CONTROLS)
            text += f"{loss:6.3f}  {rtt:5d}  {queue:6.1f}{cells}\n"
        TABLE.write_text(text)

else:

    @pytest.mark.parametrize("row", rows(), ids=lambda row: f"loss{row[0]}-rtt{row[1]}-queue{row[2]}")
    def test_goodput_is_what_the_table_says(row):
        got = [goodput(*row, control) for control in CONTROLS]
        assert got == pytest.approx(pinned()[row], rel=TOLERANCE)


@pytest.mark.rfc("5681", "3")
@pytest.mark.parametrize("loss", [0.0, 0.001, 0.01, 0.1])
def test_no_cell_falls_far_below_what_theory_allows(loss):
    """The lesser of the wire and the square-root law (1.22 · MSS / (RTT · √loss)), for those that are ruled by loss."""
    for row in rows():
        if row[0] != loss:
            continue
        _, rtt, _queue = row
        ideal = RATE / 1e6
        if loss:
            ideal = min(ideal, 1448 * 8 * 1.22 / (rtt / 1000 * loss**0.5) / 1e6)
        share = 0.7 if rtt == 10 or loss > 0.001 else 0.5  # slow start is most of a short transfer on a long wire
        if loss == 0.1:
            share = 0.5  # timeouts, which the law leaves out
        cubic, reno, bbr = pinned()[row]
        assert min(cubic, reno) > share * ideal, (row, ideal)
        assert bbr > (0.2 if loss == 0.1 and rtt == 10 else 0.6 if rtt == 10 else 0.09) * RATE / 1e6, row


def test_bbr_on_a_long_wire_with_a_short_queue_loses_to_its_start_alone():
    """13.2 of 20 Mbit/s in the table is what STARTUP costs, see docs/congestion-control.md; no timeout, nothing else.

    The first 2.5 MB take one second at the rate of the wire, four round trips in which the window doubles from ten
    segments to the 173 that the wire holds, and half a round trip at the end. Four times as much text comes to 17.
    """
    link = Link(rate=RATE, delay=50 * MSEC, queue=125_000, seed=5)
    pair = Pair(link, Link(delay=50 * MSEC), sysctl={"net.ipv4.tcp_congestion_control": "bbr"}, check_every=1000)
    report = pair.transfer(10_000_000)
    assert report.intact
    assert report.timeouts == 0
    assert report.retrans_segs == link.overflowed  # what the start put into the queue beyond its end, once each
    assert report.goodput > 17_000_000
    ideal = 2_500_000 * 8 / RATE * 1500 / 1448 + 4 * 0.1 + 0.05
    assert pinned()[(0.0, 100, 0.5)][2] == pytest.approx(2_500_000 * 8 / 1e6 / ideal, rel=0.05)


def test_ten_percent_loss_starves_nobody():
    """Five wires that lose every tenth packet: the slowest transfer has a third of the average, and a megabit."""
    shares = []
    for seed in range(5):
        link = Link(rate=RATE, delay=5 * MSEC, loss=0.1, seed=seed)
        report = Pair(link, Link(delay=5 * MSEC), check_every=1000).transfer(300_000)
        assert report.intact
        shares.append(report.goodput)
    assert min(shares) > sum(shares) / 5 / 3
    assert min(shares) > 1_000_000
