"""Fixtures of the organs below TCP."""

import pytest

from kit.lan import ENDS, Lan


@pytest.fixture
def lan():
    return Lan()


@pytest.fixture(params=["v4", "v6"])
def ends(request):
    """Peer and us."""
    return ENDS[request.param]
