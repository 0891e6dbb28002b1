"""The minimum or maximum of the last while, in constant space: Kathleen Nichols' filter, as Linux's lib/win_minmax.c.

Keeps the best, second and third best sample, each from a later part of the window, so that when the best grows too old
the next is at hand. Time may be any rising number: nanoseconds, or rounds.
"""


class Windowed:
    """One filter. `sign` is +1 for the maximum, −1 for the minimum."""

    __slots__ = ("_s0", "_s1", "_s2", "_sign", "_t0", "_t1", "_t2", "window")

    def __init__(self, sign: int, window: int) -> None:
        self._sign = sign
        self.window = window
        self.reset(0, 0)

    @property
    def best(self) -> int:
        """The extreme of the window; 0 before the first sample."""
        return self._s0

    def reset(self, value: int, at: int) -> int:
        """Forget all but `value`."""
        self._s0 = self._s1 = self._s2 = value
        self._t0 = self._t1 = self._t2 = at
        return value

    def update(self, value: int, at: int) -> int:
        """Take a sample; returns the extreme of the window."""
        sign = self._sign
        if not self._s0 or sign * value >= sign * self._s0 or at - self._t2 > self.window:
            return self.reset(value, at)
        if sign * value >= sign * self._s1:
            self._s1 = self._s2 = value
            self._t1 = self._t2 = at
        elif sign * value >= sign * self._s2:
            self._s2, self._t2 = value, at
        return self._age(value, at)

    def _age(self, value: int, at: int) -> int:
        """minmax_subwin_update(): shift up when the best is too old; refresh the others by a quarter and a half."""
        age = at - self._t0
        if age > self.window:
            self._s0, self._t0, self._s1, self._t1 = self._s1, self._t1, self._s2, self._t2
            self._s2, self._t2 = value, at
            if at - self._t0 > self.window:
                self._s0, self._t0, self._s1, self._t1 = self._s1, self._t1, self._s2, self._t2
                self._s2, self._t2 = value, at
        elif self._t1 == self._t0 and age > self.window // 4:
            self._s1 = self._s2 = value
            self._t1 = self._t2 = at
        elif self._t2 == self._t1 and age > self.window // 2:
            self._s2, self._t2 = value, at
        return self._s0
