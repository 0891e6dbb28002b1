"""The table of tokens: no two connections answer to one."""

import pytest

from mptcp.crypto import KEY_LEN, token
from mptcp.token import MAX_TRIES, TokenTable

KEYS = [bytes((n,)) * KEY_LEN for n in range(1, 9)]


def table(keys):
    """A table that draws these keys, and the list of those not yet drawn."""
    left = list(keys)
    return TokenTable(lambda size: left.pop(0)[:size]), left


@pytest.mark.rfc("8684", "3.1")
def test_a_key_whose_token_is_in_use_is_drawn_again():
    tokens, left = table([KEYS[0], KEYS[0], KEYS[1]])
    assert tokens.claim("one") == KEYS[0]
    assert tokens.claim("two") == KEYS[1]
    assert not left
    assert tokens.get(token(KEYS[0])) == "one"
    assert tokens.get(token(KEYS[1])) == "two"


@pytest.mark.rfc("8684", "3.1")
def test_after_some_collisions_there_is_no_key():
    tokens, left = table([KEYS[0]] * (1 + MAX_TRIES) + [KEYS[1]])
    assert tokens.claim("one") == KEYS[0]
    assert tokens.claim("two") is None
    assert left == [KEYS[1]]
    assert len(tokens) == 1


@pytest.mark.rfc("8684", "3.2")
def test_a_token_that_names_nobody_finds_nobody():
    tokens, _left = table([])
    assert tokens.get(token(KEYS[0])) is None


def test_only_its_owner_releases_a_token():
    tokens, _left = table(KEYS)
    key = tokens.claim("one")
    assert not tokens.put(key, "two")
    tokens.release(key, "two")
    assert tokens.get(token(key)) == "one"
    tokens.release(key, "one")
    tokens.release(key, "one")
    assert not len(tokens)
