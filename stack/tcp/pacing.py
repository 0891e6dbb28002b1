"""Pacing: text leaves no faster than a rate, in super-segments of about a millisecond, as Linux does it without fq.

A connection is paced if its congestion control asks for it (BBR), or if the program set SO_MAX_PACING_RATE; others send
in bursts as the ACKs come. The clock (`next_at`, tcp_wstamp_ns) moves on by what each packet takes at the rate; up to
half of that may be made up for if the packet left late. Without a rate of the congestion control's own it follows the
window: tcp_pacing_ss_ratio percent of cwnd/srtt in slow start, tcp_pacing_ca_ratio after it.
"""

from stack.units import SEC, Nanos

UNLIMITED = 1 << 62
BURST_SHIFT = 10  # a super-segment is 1/1024 s of the rate (sk_pacing_shift)


class Pacer:
    """One connection's. Rates are bytes a second."""

    __slots__ = ("_ca_ratio", "_min_segs", "_ss_ratio", "limit", "next_at", "rate")

    def __init__(self, limit: int, ss_ratio: int, ca_ratio: int, min_segs: int) -> None:
        self.limit = limit or UNLIMITED  # SO_MAX_PACING_RATE
        self.rate = self.limit
        self.next_at: Nanos = 0
        self._ss_ratio = ss_ratio
        self._ca_ratio = ca_ratio
        self._min_segs = min_segs

    def set_rate(self, rate: int) -> None:
        """The congestion control says so."""
        self.rate = min(rate, self.limit)

    def follow(self, cwnd: int, ssthresh: int, flight: int, srtt: Nanos) -> None:
        """tcp_update_pacing_rate()."""
        if not srtt:
            self.rate = self.limit
            return
        ratio = self._ss_ratio if cwnd < ssthresh // 2 else self._ca_ratio
        self.rate = min(max(cwnd, flight) * ratio * SEC // (100 * srtt), self.limit)

    def burst(self, mss: int, most: int) -> int:
        """Bytes for one super-segment, a multiple of the MSS: tcp_tso_autosize()."""
        size = max(min(self.rate >> BURST_SHIFT, most) // mss, self._min_segs) * mss
        return min(size, max(most, mss))

    def on_sent(self, size: int, now: Nanos) -> None:
        """`size` bytes leave at `now`: tcp_update_skb_after_send()."""
        if self.rate >= UNLIMITED or not self.rate:
            return
        took = size * SEC // self.rate
        late = now - self.next_at
        if late > 0:
            self.next_at = now + took - min(took // 2, late)
        else:
            self.next_at += took
