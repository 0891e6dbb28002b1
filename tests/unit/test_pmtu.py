"""The path MTU cache alone."""

import pytest

from stack.ip.pmtu import EXPIRES, LIMIT, MIN_PMTU4, PmtuCache, plateau
from stack.mib import Mib
from stack.units import SEC

V4, V6 = bytes((192, 0, 2, 1)), b"\x20\x01" + bytes(14)


@pytest.fixture
def cache():
    return PmtuCache(Mib())


def test_an_unknown_path_carries_what_its_link_carries(cache):
    assert cache.get(V4, 1500) == 1500


def test_a_lesson_is_remembered_for_ten_minutes(cache):
    assert cache.learn(V4, 1400, 1500, 0) == 1400
    assert cache.poll_timeout() == EXPIRES == 600 * SEC
    cache.handle_timeout(EXPIRES - 1)
    assert cache.get(V4, 1500) == 1400
    cache.handle_timeout(EXPIRES)
    assert cache.get(V4, 1500) == 1500
    assert cache.poll_timeout() is None


def test_a_path_never_carries_more_than_its_link(cache):
    cache.learn(V4, 1400, 1500, 0)
    assert cache.get(V4, 1000) == 1000


@pytest.mark.rfc("8201", "4")
@pytest.mark.parametrize(("dst", "floor"), [(V4, MIN_PMTU4), (V6, 1280)])
def test_a_lie_lowers_no_path_below_the_floor(cache, dst, floor):
    assert cache.learn(dst, 68, 1500, 0) == floor
    cache.check()


@pytest.mark.rfc("8201", "4")
def test_a_message_never_raises_the_path(cache):
    cache.learn(V4, 1400, 1500, 0)
    assert cache.learn(V4, 1450, 1400, 0) is None
    assert cache.get(V4, 1500) == 1400


@pytest.mark.rfc("1191", "7.1")
@pytest.mark.parametrize(("length", "next_lower"), [(1500, 1492), (1492, 1006), (65535, 32000), (600, 552), (100, 552)])
def test_a_router_that_names_no_mtu_is_answered_with_the_next_plateau(length, next_lower):
    assert plateau(length) == next_lower


def test_the_cache_is_bounded_and_forgets_the_oldest_first():
    mib = Mib()
    cache = PmtuCache(mib)
    for i in range(LIMIT + 10):
        cache.learn(i.to_bytes(4, "big"), 1400, 1500, i)
        if not i % 1000:
            cache.check()
    assert len(cache) == LIMIT
    assert mib.NusePmtuEvicted == 10
    assert cache.get((9).to_bytes(4, "big"), 1500) == 1500
    assert cache.get((10).to_bytes(4, "big"), 1500) == 1400


def test_a_lesson_learned_again_counts_as_the_newest(cache):
    cache.learn(V4, 1400, 1500, 0)
    cache.learn(V6, 1400, 1500, SEC)
    cache.learn(V4, 1300, 1400, 2 * SEC)
    cache.check()
    assert cache.poll_timeout() == SEC + EXPIRES
