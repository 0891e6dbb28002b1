"""Explicit Congestion Notification, RFC 3168 §6.1: what one connection marks, echoes and answers.

`conn.ecn` is None where it was not negotiated. New text is sent as ECT(0); retransmissions and bare ACKs are not
(§6.1.5, §6.1.4). A CE mark is echoed in every ACK until the peer says CWR; an echo makes recovery reduce the window
once a round trip, and the next new text says CWR. As Linux: tcp_ecn 2 accepts what the peer asks for, 1 asks as well,
and with tcp_ecn_fallback a SYN that had to be sent again asks no more (§6.1.1.1).
"""

from typing import TYPE_CHECKING

from stack.tcp.recovery import enter_cwr
from stack.tcp.state import SYN_RECEIVED
from stack.units import Nanos
from stack.wire.tcp import ACK, CWR, ECE, SYN, Segment

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn

NOT_ECT, ECT1, ECT0, CE = range(4)
ASK = 1  # net.ipv4.tcp_ecn: ask and accept; 2 only accepts


class Ecn:
    """State of a connection that negotiated ECN."""

    __slots__ = ("cwr_due", "delivered_ce", "echo", "seen")

    def __init__(self) -> None:
        self.echo = False  # ECE in every ACK, until the peer's CWR
        self.cwr_due = False  # the window was reduced: say so with the next new text
        self.seen = False  # the peer sends ECT
        self.delivered_ce = 0  # segments of ours that came through marked, as far as we were told


def syn_flags(conn: "TcpConn") -> int:
    """ECN-setup SYN or SYN-ACK, §6.1.1."""
    if conn.passive or conn.state is SYN_RECEIVED:
        return ECE if conn.ecn is not None else 0
    knobs = conn.demux.sysctl
    if knobs.tcp_ecn != ASK and not conn.cc.needs_ecn:
        return 0
    if conn.syn_retries and knobs.tcp_ecn_fallback:
        conn.ecn_asked = False
        return 0
    conn.ecn_asked = True
    return ECE | CWR


def on_syn(conn: "TcpConn", seg: Segment) -> None:
    """The peer's SYN or SYN-ACK: did it ask, did it agree?"""
    asked = seg.flags & (ECE | CWR)
    if seg.flags & ACK:
        if conn.ecn_asked and asked == ECE:
            conn.ecn = Ecn()
    elif accepts(seg, conn.demux.sysctl.tcp_ecn, conn.cc.needs_ecn):
        conn.ecn = Ecn()


def accepts(syn: Segment, tcp_ecn: int, needs_ecn: bool) -> bool:
    """Do we agree to what this SYN asks for? Not if it is marked itself, which no ECN-setup SYN is."""
    return syn.flags & (ECE | CWR) == ECE | CWR and syn.ecn == NOT_ECT and bool(tcp_ecn or needs_ecn)


def on_segment(conn: "TcpConn", ecn: Ecn, seg: Segment) -> None:
    """Receiver's half, §6.1.3: CWR ends the echo, CE begins it; both are acknowledged at once."""
    if seg.flags & CWR:
        ecn.echo = False
        if seg.length:
            conn.ack_due = True
    if not seg.length:
        return
    if seg.ecn == CE:
        ecn.seen = True
        conn.demux.mib.IpExtInCEPkts += 1
        if not ecn.echo:
            conn.quick_acks = max(conn.quick_acks, 2)
            conn.ack_due = True
        ecn.echo = True
    elif seg.ecn:
        ecn.seen = True


def on_echo(conn: "TcpConn", ecn: Ecn, acked: int, now: Nanos) -> None:
    """Sender's half, §6.1.2: an ACK with ECE; the window shrinks at most once a round trip."""
    ecn.delivered_ce += -(-acked // conn.tcb.mss_cache) or 1
    if enter_cwr(conn, now):
        ecn.cwr_due = True


def flags_for(ecn: Ecn, flags: int, fresh: bool) -> int:
    """Flags of a segment about to leave; `fresh` if it carries text for the first time."""
    if flags & SYN:
        return flags
    if ecn.echo:
        flags |= ECE
    if fresh and ecn.cwr_due:
        ecn.cwr_due = False
        flags |= CWR
    return flags
