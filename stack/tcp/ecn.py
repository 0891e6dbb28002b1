"""Explicit Congestion Notification, RFC 3168 §6.1: what one connection marks, echoes and answers.

`conn.ecn` is None where it was not negotiated. New text is sent as ECT(0); retransmissions and bare ACKs are not
(§6.1.5, §6.1.4). A CE mark is echoed in every ACK until the peer says CWR; an echo makes recovery reduce the window
once a round trip, and the next new text says CWR. Who asks and who agrees is in tcp/accecn.py.

Where the congestion control is DCTCP, `DctcpEcn` echoes instead what RFC 8257 §3.2 wants: each ACK says of all that it
acknowledges afresh whether it was marked.
"""

from typing import TYPE_CHECKING

from stack.tcp.recovery import enter_cwr
from stack.units import Nanos
from stack.wire.tcp import CWR, ECE, SYN, Segment

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn

NOT_ECT, ECT1, ECT0, CE = range(4)


class Ecn:
    """State of a connection that negotiated ECN."""

    __slots__ = ("cwr_due", "delivered_ce", "echo", "owed", "reply", "seen")

    accurate = False

    def __init__(self) -> None:
        self.echo = False  # ECE in every ACK, until the peer's CWR
        self.cwr_due = False  # the window was reduced: say so with the next new text
        self.seen = False  # the peer sends ECT
        self.delivered_ce = 0  # segments of ours that came through marked, as far as we were told
        self.reply = 0  # of AccECN: flags of the ACK of a SYN-ACK, until it is sent
        self.owed: list[tuple[int, bool]] = []  # of DCTCP: ACK numbers and echoes to send before anything else

    def on_segment(self, conn: "TcpConn", seg: Segment) -> None:
        """Receiver's half, §6.1.3: CWR ends the echo, CE begins it; both are acknowledged at once."""
        if seg.flags & CWR:
            self.echo = False
            if seg.length:
                conn.ack_due = True
        if not seg.length:
            return
        if seg.ecn == CE:
            self.seen = True
            conn.demux.mib.IpExtInCEPkts += 1
            if not self.echo:
                conn.quick_acks = max(conn.quick_acks, 2)
                conn.ack_due = True
            self.echo = True
        elif seg.ecn:
            self.seen = True

    def marks(self, conn: "TcpConn", seg: Segment, delivered: int) -> int:
        """Sender's half, §6.1.2: packets that an ACK, news of `delivered` bytes, says were marked: all or none."""
        if seg.flags & (ECE | SYN) != ECE:
            return 0
        marks = -(-delivered // conn.tcb.mss_cache) or 1
        self.delivered_ce += marks
        return marks

    def flags_for(self, flags: int, fresh: bool) -> int:
        """Flags of a segment about to leave; `fresh` if it carries text for the first time."""
        if flags & SYN:
            return flags
        if self.echo:
            flags |= ECE
        if fresh and self.cwr_due:
            self.cwr_due = False
            flags |= CWR
        return flags

    def ect(self, fresh: bool, l4s: bool) -> int:
        """The ECN field that it leaves with; ECT(1) needs better feedback than this (RFC 9331 §4.2)."""
        return ECT0 if fresh else NOT_ECT

    def one_by_one(self) -> bool:
        """Must text leave in wire packets?"""
        return False

    def option(self, conn: "TcpConn", room: int, now: Nanos) -> bytes:
        """Of a segment without text: none."""
        return b""

    def on_syn_ack_again(self, conn: "TcpConn", seg: Segment) -> None:
        """A SYN for an established connection: no matter."""

    def on_established(self, conn: "TcpConn", seg: Segment) -> None:
        """The ACK of our SYN-ACK: says nothing."""


class DctcpEcn(Ecn):
    """DCTCP.CE of RFC 8257 §3.2 is `echo`: whether the last text was marked. CWR means nothing.

    When it changes, what was not acknowledged yet is so at once, with the echo it came under, and then the new text too
    (figure 1). As in Linux also retransmissions and bare ACKs are ECN-capable: a switch for DCTCP drops what is not.
    """

    __slots__ = ()

    def on_segment(self, conn: "TcpConn", seg: Segment) -> None:
        """The state machine of figure 1; called before RCV.NXT moves."""
        if not seg.length:
            return
        marked = seg.ecn == CE
        if seg.ecn:
            self.seen = True
            conn.demux.mib.IpExtInCEPkts += marked
        if marked is self.echo:
            return
        nxt = conn.tcb.rcv_nxt
        if nxt > (self.owed[-1][0] if self.owed else conn.tcb.last_ack_sent):
            self.owed.append((nxt, self.echo))
        self.echo = marked
        conn.ack_due = True

    def ect(self, fresh: bool, l4s: bool) -> int:
        """All of it."""
        return ECT0


def classic(needs_ecn: bool) -> Ecn:
    """For a connection that negotiated RFC 3168, with a congestion control that needs ECN or with another."""
    return DctcpEcn() if needs_ecn else Ecn()


def on_new_cc(ecn: Ecn, needs_ecn: bool) -> Ecn:
    """The program chose another congestion control: with DCTCP the echo is another."""
    if ecn.accurate or isinstance(ecn, DctcpEcn) is needs_ecn:
        return ecn
    new = classic(needs_ecn)
    new.cwr_due, new.seen, new.delivered_ce = ecn.cwr_due, ecn.seen, ecn.delivered_ce
    return new


def accepts(syn: Segment, tcp_ecn: int, needs_ecn: bool) -> bool:
    """Do we agree to what this SYN asks for? Not if it is marked itself, which no ECN-setup SYN is."""
    return syn.flags & (ECE | CWR) == ECE | CWR and syn.ecn == NOT_ECT and bool(tcp_ecn or needs_ecn)


def on_marks(conn: "TcpConn", ecn: Ecn, now: Nanos) -> None:
    """Text of ours was marked: the window shrinks, at most once a round trip."""
    if enter_cwr(conn, now):
        ecn.cwr_due = True
