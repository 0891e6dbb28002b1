"""Which connection a token names, RFC 8684 §3.2, and the keys whose tokens nobody here uses yet.

A key that is drawn has a token that no connection of this host has, so MP_JOIN never finds two. If chance fails
MAX_TRIES times, there is no key, and the connection is plain TCP, as in Linux.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from mptcp.crypto import KEY_LEN, token

MAX_TRIES = 4  # Linux's MPTCP_TOKEN_MAX_RETRIES

T = TypeVar("T")


class TokenTable(Generic[T]):
    """Token → connection. `draw(n)` gives n random bytes."""

    def __init__(self, draw: Callable[[int], bytes]) -> None:
        self._draw = draw
        self._conns: dict[int, T] = {}

    def __len__(self) -> int:
        return len(self._conns)

    def claim(self, conn: T) -> bytes | None:
        """A new key for `conn`, which its token names from now on; None if only tokens in use came up."""
        for _ in range(MAX_TRIES):
            key = self._draw(KEY_LEN)
            if self.put(key, conn):
                return key
        return None

    def put(self, key: bytes, conn: T) -> bool:
        """Let the token of `key` name `conn`; False if it names another already."""
        return self._conns.setdefault(token(key), conn) is conn

    def get(self, wire: int) -> T | None:
        """The connection that a received token names."""
        return self._conns.get(wire)

    def release(self, key: bytes, conn: T) -> None:
        """The connection is gone; harmless if the token names another or none."""
        if self._conns.get(token(key)) is conn:
            del self._conns[token(key)]
