"""Header prediction of Multipath TCP (mptcp/dss.py) only skips work: with it and without, the same packets leave."""

import pytest
from hypothesis import given, settings
from hypothesis.strategies import booleans, fixed_dictionaries, integers, sampled_from

from kit.link import Link
from kit.mesh import Mesh
from kit.pair import tell_owners
from mptcp import dss
from mptcp.subflow import Subflow
from stack.units import MSEC

M = 1_000_000

links = fixed_dictionaries(
    {
        "loss": sampled_from((0.0, 0.01, 0.05)),
        "reorder": sampled_from((0.0, 0.05)),
        "dup": sampled_from((0.0, 0.05)),
        "seed": integers(1, 1000),
        "delay": sampled_from((MSEC // 10, MSEC, 5 * MSEC, 20 * MSEC)),
    }
)


class WholeMesh(Mesh):
    """Super-segments travel uncut, as over a device with offload: then a mapping covers a packet."""

    def flush(self):
        for name, stack in (("a", self.a), ("b", self.b)):
            tell_owners(stack)
            while (out := stack.poll_transmit(self.clock.now)) is not None:
                self._put(name, int(out[0].name[3:]), b"".join(out[1]))


def packets(kind, specs, sizes):
    """All that was on the wires of a transfer, and when."""
    seen = []
    mesh = kind([Link(rate=50 * M, queue=1_000_000, **spec) for spec in specs])
    mesh.taps.append(lambda *packet: seen.append(packet))
    assert mesh.transfer(*sizes).intact
    return seen


@pytest.mark.long
@pytest.mark.rfc("8684", "3.3")
@settings(max_examples=150, deadline=None)
@given(sampled_from((Mesh, WholeMesh)), links, links, booleans(), integers(1, 1_500_000), integers(0, 200_000))
def test_prediction_only_skips_work(kind, first, second, two, there, back):
    specs = [first, second] if two else [first]
    taken = []

    def counted(*args):
        taken.append(dss.predicted(*args))
        return taken[-1]

    quick, Subflow.takes = Subflow.takes, counted
    try:
        seen = packets(kind, specs, (there, back))
        Subflow.takes = lambda *_: False
        assert seen == packets(kind, specs, (there, back))
    finally:
        Subflow.takes = quick
    if (
        kind is WholeMesh
        and there > 100_000
        and not any(first[word] or second[word] for word in ("loss", "reorder", "dup"))
    ):
        assert sum(taken) > len(taken) // 2
