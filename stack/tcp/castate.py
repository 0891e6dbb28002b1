"""What loss recovery remembers, and the states it is in: Linux's icsk_ca_state.

OPEN: all is well. DISORDER: SACKs or duplicate ACKs, nothing deemed lost yet. CWR: the network marked, or a tail was
lost and mended; the window comes down without loss. RECOVERY: fast recovery. LOSS: after a retransmission timeout.
In CWR and RECOVERY the window is PRR's (tcp/prr.py), elsewhere the congestion control's.
"""

from typing import TYPE_CHECKING

from stack.units import Nanos

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn

OPEN, DISORDER, CWR, RECOVERY, LOSS = range(5)
CA_NAMES = ("open", "disorder", "cwr", "recovery", "loss")

REDUCING = (CWR, RECOVERY)  # PRR brings the window down

NO_MARK = -1
NEW_FIRST, NEW_ONLY = 1, 2  # of send_new
RACK_PERSIST = 16  # recoveries that a widened reordering window lasts


class Recovery:
    """State of loss recovery; all sequence numbers unwrapped, all amounts bytes."""

    __slots__ = (
        "backoff",
        "ca",
        "counted_to",
        "dup_acks",
        "dupthresh",
        "ece",
        "fack",
        "frto",
        "high_seq",
        "limit",
        "lost_again",
        "marked",
        "originals",
        "prr_delivered",
        "prr_out",
        "rack_dsack",
        "rack_end",
        "rack_round",
        "rack_rtt",
        "rack_sent_at",
        "recover_fs",
        "reno_sacked",
        "reo_wnd_mult",
        "reo_wnd_persist",
        "reord_low",
        "reord_seen",
        "retrans_stamp",
        "retransmits",
        "retry_since",
        "send_new",
        "tlp_dsack",
        "tlp_high_seq",
        "tlp_resent",
        "undo_marker",
        "undo_retrans",
    )

    def __init__(self, dupthresh: int) -> None:
        self.ca = OPEN
        self.high_seq = 0  # snd_nxt when the episode began; it ends when that is acknowledged
        self.dupthresh = dupthresh  # tp->reordering: grows with what is seen
        self.dup_acks = 0
        self.reno_sacked = 0  # what duplicate ACKs of a peer without SACK say has left the network
        self.fack = 0  # highest sequence number SACKed
        self.reord_low = NO_MARK  # lowest text of this ACK that came later than what was sent after it
        self.reord_seen = 0
        # of the ACK at hand
        self.originals = False  # text outstanding at high_seq and never sent again was delivered
        self.marked = 0  # bytes deemed lost
        self.lost_again = False  # … of them retransmissions
        # PRR
        self.prr_delivered = self.prr_out = self.recover_fs = 0
        self.limit = 0  # its window
        # undo
        self.undo_marker = NO_MARK
        self.undo_retrans = -1  # bytes sent again and not reported as duplicates; 0: undo; −1: nothing sent again yet
        self.ece = False  # the network marked since the reduction: the window stays down, whatever else is undone
        self.retrans_stamp = -1  # our timestamp when the first retransmission of the episode left; −1 none
        # RACK
        self.rack_sent_at: Nanos = 0
        self.rack_end = 0
        self.rack_rtt: Nanos = 0
        self.rack_dsack = False  # a D-SACK that speaks of reordering
        self.rack_round = 0  # delivered count when the window was last widened
        self.reo_wnd_mult = 1
        self.reo_wnd_persist = RACK_PERSIST
        self.counted_to = 0  # without RACK: all holes below have been judged
        # TLP and RTO
        self.tlp_high_seq = NO_MARK
        self.tlp_resent = False
        self.tlp_dsack = False  # the probe's text came twice
        self.backoff = 0
        self.retransmits = 0  # timeouts since something was acknowledged
        self.retry_since: Nanos = 0  # when the first of them was
        self.frto = False  # the timeout may have been spurious
        self.send_new = 0  # F-RTO asks for new text before any of the old, until the next ACK

    def no_undo(self) -> None:
        """There is nothing to undo, or it may not be."""
        self.undo_marker = NO_MARK
        self.undo_retrans = -1


def window(conn: "TcpConn") -> int:
    """Bytes that may be in flight now."""
    rec = conn.recovery
    if rec.ca in REDUCING and not conn.cc.own_window:
        return rec.limit
    return conn.cc.cwnd
