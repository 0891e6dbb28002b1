"""A few rounds of scripts/fuzz, always the same: any bytes into Stack.receive are worth no more than a counter."""

import pytest

from kit.fuzz import fuzz_round


@pytest.mark.parametrize("number", range(6))
def test_a_flood_of_bad_packets_only_moves_counters(number):
    counted = fuzz_round("ci", number)
    assert counted["malformed"] > 0
    assert counted["segments"] > 500
