"""Fixtures and markers shared by all tests."""

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from kit.trace import Trace

WIRES = "v4 v6 offload wrap"
LIVE = Path(__file__).parent / "live"

# CI replays the same examples each time; `HYPOTHESIS_PROFILE=random` is for trusting a new test, `nightly` for hunting.
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("random", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("nightly", settings.get_profile("random"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure() -> None:
    """A shell ignores SIGINT and SIGQUIT for what it puts behind, nohup SIGHUP; our children would inherit that."""
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGQUIT: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    for number, handler in usual.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything under live/ is marked so, and skipped where it cannot run; scripts/test says so and fails."""
    missing = ""
    if os.geteuid() != 0:
        missing = "live tests need root"
    elif not Path("/dev/net/tun").exists():
        missing = "live tests need /dev/net/tun"
    for item in items:
        if item.path.is_relative_to(LIVE):
            item.add_marker(pytest.mark.live)
            if missing:
                item.add_marker(pytest.mark.skip(reason=missing))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each trace runs over IPv4, IPv6, with offload and across the wrap; mark `wire(only="v4 v6")` says less."""
    if "wire" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("wire")
        kinds = marker.kwargs.get("only", WIRES) if marker else WIRES
        metafunc.parametrize("wire", kinds.split(), indirect=True)


@pytest.fixture
def wire(request: pytest.FixtureRequest) -> "Trace":
    """One stack and its wire, the far end in the test's hand; `@pytest.mark.wire(sysctl={…}, mtu=…)` as for Wire."""
    from kit.trace import Trace  # here, so that tests of nuse/ need no working TCP

    marker = request.node.get_closest_marker("wire")
    keywords = {name: value for name, value in marker.kwargs.items() if name != "only"} if marker else {}
    kind = request.param
    return Trace(v6="6" in kind, offload="offload" in kind, wrap=kind == "wrap", **keywords)
