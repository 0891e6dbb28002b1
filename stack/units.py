"""Time as the stack counts it: `Nanos`, a plain int of nanoseconds on some monotonic clock.

Nothing in `stack/` reads a clock; `now` is always an argument.
"""

Nanos = int

USEC = 1_000
MSEC = 1_000_000
SEC = 1_000_000_000


def sooner(a: Nanos | None, b: Nanos | None) -> Nanos | None:
    """The earlier of two deadlines; None is never."""
    if a is None or b is None:
        return b if a is None else a
    return a if a < b else b
