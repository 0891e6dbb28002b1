"""Receive-buffer autotuning: dynamic right-sizing, as Linux's tcp_rcv_space_adjust does it.

Once per round trip it compares what the program took with what it took the round trip before, and makes the buffer
twice that plus room for growth, so the window never limits a sender that the program keeps up with. The round trip is
measured without timestamps: the time a whole window takes to arrive. Deviation: the buffer counts text only, as
overhead is bounded elsewhere (tcp/recvq.py), so the window is all of it. And where a window arrives within a
millisecond the buffer stops at NEAR_RCVBUF: a larger one only makes the host queue more than the cache holds.
"""

from stack.tcp.rtt import NEAR
from stack.units import Nanos

NEAR_RCVBUF = 3 << 20


class ReceiveBuffer:
    """The size of the receive buffer in bytes."""

    __slots__ = ("_at", "_rtt_at", "_seq", "_space", "auto", "limit", "rcv_rtt", "rtt_seq", "size")

    def __init__(self, size: int, limit: int, auto: bool) -> None:
        self.size = size
        self.limit = limit
        self.auto = auto
        self.rcv_rtt: Nanos = 0
        self._space = 0  # bytes the program took in the last round trip
        self._seq = 0  # what the program had taken when this round began
        self._at: Nanos = 0
        self.rtt_seq = 0  # where the window that is being timed ends
        self._rtt_at: Nanos = 0

    def start(self, rcv_nxt: int, wnd: int, srtt: Nanos, mss: int, now: Nanos) -> None:
        """The connection is established."""
        self.rcv_rtt = srtt
        self._space = max(10 * mss, min(wnd, self.size))
        self._seq = rcv_nxt
        self._at = now
        self.rtt_seq = rcv_nxt + wnd
        self._rtt_at = now

    def on_text(self, rcv_nxt: int, taken: int, wnd: int, mss: int, now: Nanos) -> None:
        """In-order text arrived; the program has consumed everything below sequence number `taken`."""
        if rcv_nxt >= self.rtt_seq:
            sample = max(now - self._rtt_at, 1)
            self.rcv_rtt = min(self.rcv_rtt, sample) if self.rcv_rtt else sample
            self.rtt_seq = rcv_nxt + wnd
            self._rtt_at = now
        if not self.rcv_rtt or now - self._at < self.rcv_rtt:
            return
        copied = taken - self._seq
        if copied > self._space:
            if self.auto:
                want = 2 * copied + 16 * mss
                want += 2 * (want * (copied - self._space) // self._space)
                limit = self.limit if self.rcv_rtt >= NEAR else min(self.limit, NEAR_RCVBUF)
                self.size = max(self.size, min(want, limit))
            self._space = copied
        self._seq = taken
        self._at = now
