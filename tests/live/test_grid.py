"""A dozen cells of the grid (scripts/grid runs all): transfers against the kernel in both roles over bad networks."""

import pytest

from live import grid

CELLS = grid.sample(12, "ci")


@pytest.mark.parametrize("cell", CELLS, ids=[grid.name_of(cell) for cell in CELLS])
def test_every_byte_arrives_both_ways(cell):
    facts = grid.run(cell)
    assert grid.passed(facts), facts
