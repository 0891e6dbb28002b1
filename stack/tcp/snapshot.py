"""Fill a TcpInfo from a connection: the only reader of everybody's internals."""

from typing import TYPE_CHECKING

from stack.tcp import timers as T
from stack.tcp.castate import CA_NAMES
from stack.tcp.cc.base import INFINITE
from stack.tcp.info import TcpInfo
from stack.tcp.pacing import Pacer
from stack.units import MSEC, USEC, Nanos

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn

NO_SSTHRESH = 0x7FFF_FFFF
_SHOWN = (T.RTO, T.PERSIST, T.KEEPALIVE, T.TIMEWAIT)
_TIMER_WORDS = {T.RTO: "on", T.PERSIST: "persist", T.KEEPALIVE: "keepalive", T.TIMEWAIT: "timewait"}


def make_info(conn: "TcpConn", now: Nanos) -> TcpInfo:
    """As tcp_get_info() of Linux fills struct tcp_info."""
    tcb, counts, board, rtt, cc = conn.tcb, conn.counts, conn.board, conn.rtt, conn.cc
    mss = tcb.mss_cache
    options = [word for word, on in (("ts", tcb.ts_ok), ("sack", tcb.sack_ok), ("wscale", tcb.wscale_ok)) if on]
    if conn.ecn is not None:
        options += ["ecn", "ecnseen"] if conn.ecn.seen else ["ecn"]
        options += ["accecn"] if conn.ecn.accurate else []
    timer, timer_ms = _timer(conn, now)
    return TcpInfo(
        state=conn.state.name,
        ca_state=CA_NAMES[conn.recovery.ca],
        congestion=cc.name,
        retransmits=conn.recovery.retransmits,
        backoff=conn.recovery.backoff,
        options=options,
        snd_wscale=tcb.snd_wscale,
        rcv_wscale=tcb.rcv_wscale,
        rto=rtt.backed_off(conn.recovery.backoff) // USEC,
        ato=40_000,
        snd_mss=mss,
        rcv_mss=conn.rcv_mss,
        advmss=tcb.advmss,
        unacked=_segs(tcb.snd_nxt - tcb.snd_una, mss),
        sacked=_segs(board.sacked_out, mss),
        lost=_segs(board.lost_out, mss),
        retrans=_segs(board.retrans_out, mss),
        total_retrans=counts.total_retrans,
        pmtu=conn.mtu,
        rcv_ssthresh=conn.rcvbuf.size,
        rtt=rtt.srtt // USEC,
        rttvar=rtt.rttvar // USEC,
        snd_ssthresh=NO_SSTHRESH if cc.ssthresh >= INFINITE else cc.ssthresh // mss,
        snd_cwnd=max(cc.cwnd // mss, 1),
        reordering=conn.recovery.dupthresh,
        rcv_rtt=conn.rcvbuf.rcv_rtt // USEC,
        rcv_space=conn.rcvbuf.size,
        pacing_rate=_pacing_rate(conn),
        delivery_rate=counts.delivery_rate,
        min_rtt=rtt.min_rtt // USEC,
        bytes_sent=counts.bytes_sent,
        bytes_acked=counts.bytes_acked,
        bytes_received=counts.bytes_received,
        bytes_retrans=counts.bytes_retrans,
        segs_out=counts.segs_out,
        segs_in=counts.segs_in,
        data_segs_out=counts.data_segs_out,
        data_segs_in=counts.data_segs_in,
        delivered=_segs(counts.delivered, mss),
        notsent_bytes=conn.unsent,
        snd_wnd=tcb.snd_wnd,
        rcv_wnd=max(tcb.rcv_right_edge() - tcb.rcv_nxt, 0),
        dsack_dups=counts.dsack_dups,
        reord_seen=conn.recovery.reord_seen,
        rcv_ooopack=counts.rcv_ooopack,
        last_data_sent=(now - counts.last_data_sent) // MSEC,
        last_data_recv=(now - counts.last_data_recv) // MSEC,
        last_ack_recv=(now - counts.last_ack_recv) // MSEC,
        probes=conn.probes_out or conn.keepalive_sent,
        delivered_ce=0 if conn.ecn is None else conn.ecn.delivered_ce,
        delivery_rate_app_limited=int(counts.rate_app_limited),
        total_rto=counts.total_rto,
        total_rto_recoveries=counts.total_rto_recoveries,
        total_rto_time=counts.total_rto_time // MSEC,
        timer=timer,
        timer_ms=timer_ms,
    )


def _pacing_rate(conn: "TcpConn") -> int:
    """What is kept to; for connections that are not paced, what Linux would show all the same."""
    if conn.pacer is not None:
        return conn.pacer.rate
    knobs, cc = conn.demux.sysctl, conn.cc
    pacer = Pacer(0, knobs.tcp_pacing_ss_ratio, knobs.tcp_pacing_ca_ratio, 1)
    pacer.follow(cc.cwnd, cc.ssthresh, conn.in_flight(), conn.rtt.srtt)
    return pacer.rate


def _segs(size: int, mss: int) -> int:
    return -(-size // mss)


def _timer(conn: "TcpConn", now: Nanos) -> tuple[str, int]:
    """What `ss -o` shows: the nearest of the timers it has a word for."""
    kind = min(_SHOWN, key=conn.timers.at.__getitem__)
    at = conn.timers.at[kind]
    if at == T.NEVER:
        return "", 0
    return _TIMER_WORDS[kind], max(at - now, 0) // MSEC
