"""Fixtures and markers shared by all tests."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

LIVE = Path(__file__).parent / "live"

# CI replays the same examples every time; `HYPOTHESIS_PROFILE=random` is for the nightly run and for trusting a test.
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("random", deadline=None, max_examples=500, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


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
