"""A window that was not used proves nothing: congestion window validation in Linux's form.

RFC 7661 in spirit: the window grows only where it was the limit (tcp_is_cwnd_limited), shrinks towards what the program
used once that has lasted an RTO (tcp_cwnd_application_limited, from RFC 2861), and by half an RTO of idleness after
that (tcp_cwnd_restart, RFC 5681 §4.1). The latter two obey tcp_slow_start_after_idle, as in Linux.
"""

from typing import TYPE_CHECKING

from stack.tcp.castate import OPEN
from stack.tcp.state import ESTABLISHED
from stack.units import Nanos

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn


def before_burst(conn: "TcpConn", now: Nanos) -> None:
    """Text is about to leave and nothing is in flight: after an idle RTO the window is no longer a measurement."""
    idle = now - conn.counts.last_data_sent
    if not conn.counts.bytes_sent:
        return
    conn.cc.on_tx_start(idle, now)
    if (
        idle >= conn.rtt.rto
        and conn.state is ESTABLISHED
        and conn.recovery.ca == OPEN
        and conn.demux.sysctl.tcp_slow_start_after_idle
        and not conn.cc.own_window
    ):
        conn.cc.on_idle(idle, conn.rtt.rto)


def program_is_the_limit(conn: "TcpConn", flight: int, now: Nanos) -> None:
    """Nothing more to send though the window would allow it."""
    counts = conn.counts
    counts.app_limited = counts.delivered + max(flight, 1)
    conn.cwnd_limited = False
    if not counts.cwnd_checked_at:
        counts.cwnd_checked_at = now
    counts.cwnd_used = max(counts.cwnd_used, flight)
    if now - counts.cwnd_checked_at < conn.rtt.rto:
        return
    cc = conn.cc
    if (
        counts.cwnd_used < cc.cwnd
        and conn.recovery.ca == OPEN
        and conn.demux.sysctl.tcp_slow_start_after_idle
        and not cc.own_window
    ):
        cc.on_unused(counts.cwnd_used)
    counts.cwnd_used = 0
    counts.cwnd_checked_at = now


def window_is_the_limit(conn: "TcpConn", now: Nanos) -> None:
    """More would have been sent."""
    conn.cwnd_limited = True
    conn.counts.cwnd_used = 0
    conn.counts.cwnd_checked_at = now
