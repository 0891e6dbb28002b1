"""Packetization-layer path MTU discovery, RFC 4821, for paths whose ICMP errors never come.

As Linux, by net.ipv4.tcp_mtu_probing: 0 off; 1 only once a black hole is suspected, that is when tcp_retries1 time-outs
ran in a row, each further one halving the segment from tcp_base_mss on; 2 from the start, at tcp_base_mss. Then the
size is searched upwards: one full-sized probe of new text half-way between what works and what might, sent when nothing
is wrong and enough text and window are there to recover without a time-out (§7.3–7.4). A lost probe shrinks the search
and is no sign of congestion (§7.6.2).
"""

from typing import TYPE_CHECKING

from stack.tcp.castate import OPEN
from stack.units import SEC, Nanos

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn

NONE = -1


class MtuSearch:
    """What works (`low`), what might (`high`), both IP packet sizes, and the probe that is on its way."""

    __slots__ = ("again_at", "high", "low", "probe_end", "probe_mtu", "probe_start")

    def __init__(self, low: int, high: int, now: Nanos) -> None:
        self.low = low
        self.high = high
        self.probe_mtu = 0
        self.probe_start = self.probe_end = NONE
        self.again_at = now


def start(conn: "TcpConn", now: Nanos) -> None:
    """The connection is established: begin to search where that is wanted at once."""
    if conn.demux.sysctl.tcp_mtu_probing > 1:
        _enable(conn, now)


def _enable(conn: "TcpConn", now: Nanos) -> None:
    base = conn.demux.sysctl.tcp_base_mss + _headers(conn)
    high = min(conn.mtu, conn.tcb.peer_mss + _headers(conn))
    conn.mtu_search = MtuSearch(min(base, high), high, now)
    conn.sync_mss()


def _headers(conn: "TcpConn") -> int:
    return 60 if conn.v6 else 40


def on_timeout(conn: "TcpConn", now: Nanos) -> bool:
    """Retransmissions time out: suspect a black hole. True if segments are smaller from now on (§7.7)."""
    knobs = conn.demux.sysctl
    before = conn.tcb.mss_cache
    search = conn.mtu_search
    if search is None:
        _enable(conn, now)
    else:
        least = max(knobs.tcp_mtu_probe_floor, knobs.tcp_min_snd_mss)
        mss = max(min(knobs.tcp_base_mss, (search.low - _headers(conn)) // 2), least)
        search.low = mss + _headers(conn)
        search.probe_start = search.probe_end = NONE
        conn.sync_mss()
    return conn.tcb.mss_cache < before


def next_probe(conn: "TcpConn", unsent: int, room: int, usable: int, now: Nanos) -> int:
    """Text of a probe to send now, 0 for none. `room` is what cwnd leaves, `usable` what the peer's window does."""
    search, tcb, knobs = conn.mtu_search, conn.tcb, conn.demux.sysctl
    if search is None or search.probe_end != NONE or conn.recovery.ca != OPEN or conn.board.sacked_out:
        return 0
    mss = tcb.mss_cache
    if conn.cc.cwnd < 11 * mss or now < search.again_at:
        return 0
    if search.high - search.low < max(knobs.tcp_probe_threshold, 1):
        search.again_at = now + knobs.tcp_probe_interval * SEC  # found; look again in a while, the path may change
        search.high = min(conn.mtu, tcb.peer_mss + _headers(conn))
        return 0
    mtu = (search.low + search.high + 1) // 2
    size = mss + mtu - search.low
    if unsent < size + 3 * mss or usable < size or room < size + 2 * mss:
        return 0
    search.probe_mtu = mtu
    search.probe_start, search.probe_end = tcb.snd_nxt, tcb.snd_nxt + size
    return size


def on_ack(conn: "TcpConn", search: MtuSearch) -> None:
    """The probe arrived: that size works."""
    if search.probe_end != NONE and conn.tcb.snd_una >= search.probe_end:
        search.low = search.probe_mtu
        search.probe_start = search.probe_end = NONE
        conn.demux.mib.TcpExtTCPMTUPSuccess += 1
        conn.sync_mss()


def on_loss(conn: "TcpConn", search: MtuSearch) -> bool:
    """Recovery is about to begin. True if only the probe was lost: the search shrinks and no window is reduced."""
    if search.probe_end == NONE:
        return False
    lost_probe = conn.tcb.snd_una == search.probe_start
    search.high = search.probe_mtu - 1 if lost_probe else search.high
    search.probe_start = search.probe_end = NONE
    if lost_probe:
        conn.demux.mib.TcpExtTCPMTUPFail += 1
    return lost_probe
