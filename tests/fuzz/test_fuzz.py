"""A few rounds of scripts/fuzz, always the same: any bytes into Stack.receive are worth no more than a counter."""

from collections import Counter

import pytest

from kit import fuzz, fuzz_mptcp


@pytest.mark.parametrize("number", range(6))
def test_a_flood_of_bad_packets_only_moves_counters(number):
    counted = fuzz.fuzz_round("ci", number)
    assert counted["malformed"] > 0
    assert counted["segments"] > 500


def test_forged_and_damaged_mptcp_breaks_no_invariant():
    counted = Counter()
    for number in range(6):
        counted.update(fuzz_mptcp.fuzz_round("ci", number))
    assert all(counted.values()), counted
