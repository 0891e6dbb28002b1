"""Initial sequence numbers: unpredictable per flow, rising in time."""

import pytest

from stack.tcp.isn import IsnGenerator
from stack.units import SEC


@pytest.mark.rfc("6528", "3")
def test_one_flow_rises_by_the_clock():
    isn = IsnGenerator(bytes(32))
    first, _ = isn.iss_and_ts_offset(b"flow", 0)
    later, _ = isn.iss_and_ts_offset(b"flow", SEC)
    assert (later - first) & 0xFFFFFFFF == pytest.approx(250_000, rel=0.05)


@pytest.mark.rfc("6528", "3")
@pytest.mark.rfc("7323", "5.4")
def test_flows_and_secrets_differ():
    values = {IsnGenerator(bytes([s]) * 32).iss_and_ts_offset(f, 0) for s in range(4) for f in (b"a", b"b", b"c")}
    assert len({iss for iss, _ in values}) == 12
    assert len({offset for _, offset in values}) == 12


def test_the_same_secret_replays():
    one, two = IsnGenerator(b"x" * 32), IsnGenerator(b"x" * 32)
    assert one.iss_and_ts_offset(b"f", 5) == two.iss_and_ts_offset(b"f", 5)
    assert one.port_offset(b"p") == two.port_offset(b"p")
