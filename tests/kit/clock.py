"""A clock that moves only when told to. Everything but live tests runs on one."""

from dataclasses import dataclass

from stack.units import MSEC, SEC, USEC, Nanos

UNITS = {"ns": 1, "us": USEC, "µs": USEC, "ms": MSEC, "s": SEC, "": SEC}


@dataclass(slots=True, eq=False)
class Clock:
    """Virtual monotonic time in nanoseconds. Starts at an odd value, so that nothing may take 0 for "never"."""

    now: Nanos = 1_000 * SEC + 7

    def advance_to(self, when: Nanos) -> None:
        """Jump forward to `when`; going back is a bug of the test."""
        assert when >= self.now, f"time ran backwards: {self.now} to {when}"
        self.now = when


def parse_time(text: str) -> Nanos:
    """Nanoseconds of `5ms`, `1.5s`, `10us`, `0`; a bare number counts seconds, as in packetdrill."""
    number = text.rstrip("nuµms")
    return round(float(number) * UNITS[text[len(number) :]])


def show_time(span: Nanos) -> str:
    """The shortest exact text of a span: `+5ms`, `+1.5s`, `+10us`."""
    for unit, size in (("s", SEC), ("ms", MSEC), ("us", USEC)):
        if abs(span) >= size:
            return f"{span / size:+.6g}{unit}"
    return f"{span:+d}" + ("ns" if span else "")
