"""Delivery rate samples: how fast the network delivered what one ACK is about.

draft-ietf-ccwg-bbr §4.1 (draft-cheng-iccrg-delivery-rate-estimation), as Linux's tcp_rate.c. Each record notes, when it
leaves, how much had been delivered and when; an ACK then compares. The interval is the longer of that in which the
flight was sent and that in which it was acknowledged, so that neither ACK compression nor a burst of sending looks
like bandwidth. A sample of text that left while the program, not the window, was the limit is marked `app_limited`.
"""

from typing import TYPE_CHECKING

from stack.tcp.scoreboard import Sent
from stack.units import SEC, Nanos

if TYPE_CHECKING:
    from stack.tcp.conn import Counts, TcpConn


def stamp(counts: "Counts", sent: Sent) -> None:
    """`sent` leaves again."""
    sent.delivered = counts.delivered
    sent.delivered_at = counts.delivered_at
    sent.window_at = counts.window_at
    sent.app_limited = counts.app_limited > 0


def note_delivery(conn: "TcpConn", newest: Sent, size: int, now: Nanos) -> None:
    """`size` bytes were delivered, of which `newest` was sent last; called before they are counted as delivered."""
    counts = conn.counts
    ack_span = now - newest.delivered_at
    send_span = newest.sent_at - newest.window_at
    counts.window_at = newest.sent_at
    counts.delivered_at = now
    delivered = counts.delivered + size
    if counts.app_limited and delivered > counts.app_limited:
        counts.app_limited = 0
    span = ack_span if ack_span > send_span else send_span
    got = delivered - newest.delivered
    if span < conn.rtt.min_rtt or span <= 0:  # both ends of the measurement were compressed, or one was retransmitted
        span = 0
    else:
        rate = got * SEC // span
        if not newest.app_limited or rate >= counts.delivery_rate:
            counts.delivery_rate = rate
            counts.rate_app_limited = newest.app_limited
    sample = conn.sample
    if sample is not None:
        sample.delivered = got
        sample.interval = span
        sample.prior_delivered = newest.delivered
        sample.app_limited = newest.app_limited
        sample.rtt = now - newest.sent_at if not newest.retrans else 0
