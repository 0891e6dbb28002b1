"""Waiting for more of the window before sending: few large packets instead of many small ones.

Each ACK opens the window by two segments or so. Who sends those at once gets an ACK for them alone, and stays in that
rhythm: a packet each way for every three kilobytes. Linux waits a little where an ACK must come soon anyway
(tcp_tso_should_defer): until a third of the window may go, or a millisecond's worth, or one packet's.
"""

from typing import TYPE_CHECKING

from stack.tcp.castate import RECOVERY
from stack.units import MSEC, Nanos

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn

MAX_BURST = 3  # segments that are worth a packet, with tcp_tso_win_divisor 0


def should_wait(conn: "TcpConn", limit: int, mss: int, now: Nanos) -> bool:
    """There is more text than the `limit` bytes that windows allow now, and it is better to let them grow first.

    Never while something was lost, after a pause of a millisecond, or in the first half of a round trip since the
    oldest text outstanding was sent: then the next ACK may be far.
    """
    counts = conn.counts
    if conn.recovery.ca >= RECOVERY or now - counts.last_data_sent > MSEC:
        return False
    cwnd, srtt = conn.cc.cwnd, conn.rtt.srtt
    divisor = conn.demux.sysctl.tcp_tso_win_divisor
    enough = min(cwnd, conn.tcb.snd_wnd) // divisor if divisor else MAX_BURST * mss
    if limit >= enough or not srtt or limit * srtt >= cwnd * MSEC:
        return False
    head = conn.board.first()
    return head is not None and now - head.sent_at >= srtt // 2
