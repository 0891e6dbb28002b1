"""Whatever the paths: every scheduler delivers everything, and who waits is always woken by an ACK."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.paths import SimPath, Transfer
from mptcp.sched import SCHEDULERS, make_scheduler
from stack.units import MSEC

pytestmark = pytest.mark.long

TOTAL = 200_000

path_facts = st.tuples(
    st.sampled_from([50_000, 500_000, 5_000_000]),  # bytes a second
    st.integers(1, 500),  # ms
    st.integers(1, 200),  # segments of cwnd
    st.integers(1, 100),  # weight
)


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
@settings(max_examples=20)
@given(
    facts=st.lists(path_facts, min_size=1, max_size=4),
    window=st.sampled_from([1000, 20_000, 1 << 30]),
    write_rate=st.sampled_from([0, 400_000]),
)
def test_all_arrives_and_nobody_waits_for_ever(name, facts, window, write_rate):
    paths = [
        SimPath(n, rate, rtt * MSEC, cwnd=segs * 1000, weight=weight)
        for n, (rate, rtt, segs, weight) in enumerate(facts)
    ]
    done = Transfer(paths, make_scheduler(name), TOTAL, window=window, write_rate=write_rate).run()
    assert done.snd_una == TOTAL
    assert done.timeouts == 0
    carried = sum(path.carried for path in paths)
    assert carried >= TOTAL if SCHEDULERS[name].duplicates else carried == TOTAL
