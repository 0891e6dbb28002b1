"""Errors of the stack. Misuse raises a `StackError` with the errno that a socket call would return."""

import errno
from errno import errorcode


class StackError(OSError):
    """A call that Linux would refuse with this errno."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(code, f"{why} [{errorcode.get(code, code)}]")


class UnknownSysctl(StackError):
    """No such sysctl, or not a value it takes."""

    def __init__(self, why: str, code: int = errno.ENOENT) -> None:
        super().__init__(code, why)


class Malformed(Exception):
    """Bytes that are not what they claim to be. Raised by parsers only, caught once in `Stack.receive`."""


class InvariantBroken(AssertionError):
    """A bug of ours, found by a `check()`."""
