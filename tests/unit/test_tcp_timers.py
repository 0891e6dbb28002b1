"""The table of deadlines."""

from stack.tcp import timers
from stack.tcp.timers import NEVER, Timers


def test_nothing_runs_at_first():
    assert Timers().earliest() == NEVER


def test_the_earliest_counts_and_moves_with_re_arming():
    table = Timers()
    table.arm(timers.RTO, 50)
    table.arm(timers.DELACK, 30)
    assert table.earliest() == 30
    table.arm(timers.DELACK, 80)
    assert table.earliest() == 50
    table.stop(timers.RTO)
    assert table.earliest() == 80
    assert table.pending(timers.DELACK)
    assert not table.pending(timers.RTO)


def test_stop_all():
    table = Timers()
    for kind in range(len(timers.NAMES)):
        table.arm(kind, kind)
    table.stop_all()
    assert table.earliest() == NEVER
