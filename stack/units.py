"""Time as the stack counts it: `Nanos`, a plain int of nanoseconds on some monotonic clock.

Nothing in `stack/` reads a clock; `now` is always an argument.
"""

Nanos = int

USEC = 1_000
MSEC = 1_000_000
SEC = 1_000_000_000
