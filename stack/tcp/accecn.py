"""Accurate ECN, RFC 9768: how many packets and bytes came marked, not only that one did.

Three header flags, AE, CWR and ECE, are one number, ACE. On a SYN 7 asks for it; a SYN-ACK says with which ECN field
the SYN arrived, and the ACK of that says the same of the SYN-ACK (§3.1.2, §3.2.2.1). From then on ACE is the low three
bits of the count of CE packets, from 5. `AccEcn` is in `conn.ecn` where `Ecn` is otherwise, and answers the same
questions. AccECN options (§3.2.3) count bytes by ECN field, and tell how often ACE wrapped where an ACK covers much.

A mark reduces the window as a classic echo does, by enter_cwr, once a round trip; there is no CWR to send. As Linux,
whatever is not a SYN is sent as ECT(0). Where feedback shows a broken path, we still count but send no ECT.

Left out: options on segments with text (pure ACKs bring them), AccECN behind a SYN cookie (classic ECN instead). ACKs
that acknowledge nothing new are taken for late, so their ACE is not looked at. tcp_ecn 3–5 are of the Linux that has
AccECN in full; 6.18 knows the rest of it, but refuses these values.
"""

from typing import TYPE_CHECKING

from stack.tcp.ecn import CE, ECT0, ECT1, NOT_ECT, Ecn, accepts, classic
from stack.tcp.state import SYN_RECEIVED
from stack.units import Nanos
from stack.wire.tcp import ACE, ACK, CWR, ECE, SYN, Segment
from stack.wire.tcp_options import ACCECN0, ACCECN1, NOP

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn

ASKS, ASKS_CLASSIC = (3,), (1, 4)  # values of net.ipv4.tcp_ecn
ACCEPTS = (3, 4, 5)
NEVER, SPARINGLY = 0, 1  # of net.ipv4.tcp_ecn_option
ACE_SHIFT = 6
HANDSHAKE = (0b010, 0b011, 0b100, 0b110)  # ACE for each ECN field, tables 2 and 3
CLASSIC = (0b001, 0b101)  # a SYN-ACK of RFC 3168, with whatever in the old NS bit
CEP_INIT = 5
LOW24, HALF24 = 0xFF_FFFF, 0x80_0000
ORDERS = {ACCECN0: (ECT0, CE, ECT1), ACCECN1: (ECT1, CE, ECT0)}
FULL_OPTION, SHORT_OPTION = 12, 8  # bytes, padded: three counters or two
DEMANDS = 2  # ACKs that carry the option after something changed
DATA_MARKS, ACK_MARKS = 2, 3  # §3.2.2.5.1: marks that call for an ACK at once, on text and without


class AccEcn(Ecn):
    """State of a connection that negotiated Accurate ECN. Byte counters are indexed by ECN field."""

    __slots__ = (
        "deaf",
        "delivered_bytes",
        "demand",
        "estimate",
        "ignore_options",
        "last_ecn",
        "mute",
        "option_at",
        "option_heard",
        "pending",
        "received_bytes",
        "received_ce",
        "sends_ect",
        "syn_ecn",
        "unheard",
    )

    accurate = True

    def __init__(self, syn_ecn: int) -> None:
        super().__init__()
        self.syn_ecn = syn_ecn  # how the peer's SYN or SYN-ACK came
        # receiver's half
        self.received_ce = 0  # packets, r.cep − 5
        self.received_bytes = [0, 1, 1, 0]
        self.pending = 0  # CE packets since the last ACK
        self.last_ecn = NOT_ECT  # of the last text
        self.demand = 0
        self.option_at: Nanos = 0
        self.mute = False  # our option seems to stop packets
        # sender's half
        self.sends_ect = True
        self.deaf = False  # feedback is mangled
        self.unheard = True  # no counter has come yet
        self.delivered_bytes = [0, 1, 1, 0]
        self.option_heard = False
        self.ignore_options = False
        self.estimate = NOT_ECT  # the field that text arrived with of late; 0: not known

    # ------------------------------------------------------------------ handshake

    def on_syn_ack(self, seg: Segment) -> None:
        """The client's view: what became of our SYN, which was not ECN-capable, and how the SYN-ACK came (§3.2.2.1)."""
        self.sends_ect = seg.flags >> ACE_SHIFT & 7 == HANDSHAKE[NOT_ECT]
        self.reply = HANDSHAKE[seg.ecn] << ACE_SHIFT
        if seg.ecn == CE:
            self.received_ce = self.pending = 1
        self._hear_option(seg, 0)

    def on_syn_ack_again(self, conn: "TcpConn", seg: Segment) -> None:
        """Our ACK was lost: it says the same again."""
        if not conn.passive and seg.flags & ACK and seg.seq == conn.tcb.irs:
            self.reply = HANDSHAKE[seg.ecn] << ACE_SHIFT

    def on_established(self, conn: "TcpConn", seg: Segment) -> None:
        """The server's view of the ACK of its SYN-ACK, which was not ECN-capable (§3.2.2.1, table 4)."""
        ace = seg.flags >> ACE_SHIFT & 7
        if not ace:
            self._distrust()
        elif not seg.length and ace in HANDSHAKE and ace != HANDSHAKE[NOT_ECT]:
            self.sends_ect = False
            self.delivered_ce += ace == HANDSHAKE[CE]
        if conn.syn_retries:  # §3.2.3.2.2
            self.mute = True

    def _distrust(self) -> None:
        """The counter was zeroed on the way (§3.2.2.4): nothing ECN-capable any more, and feedback says nothing."""
        self.sends_ect = False
        self.deaf = True

    # ------------------------------------------------------------------ receiver

    def on_segment(self, conn: "TcpConn", seg: Segment) -> None:
        """Count; a change of the field, or a few marks, are acknowledged at once (§3.2.2.5.1)."""
        field = seg.ecn
        if field == CE:
            conn.demux.mib.IpExtInCEPkts += 1
            self.received_ce += seg.packets
            self.pending += seg.packets
        if not seg.length:
            if self.pending >= ACK_MARKS:
                conn.ack_due = True
            return
        if field:
            self.seen = True
            self.received_bytes[field] += seg.length
        if field != self.last_ecn:
            self.last_ecn = field
            self.demand = DEMANDS
            conn.ack_due = True
        elif self.pending >= DATA_MARKS:
            conn.ack_due = True

    def flags_for(self, flags: int, fresh: bool) -> int:
        """ACE of a segment about to leave."""
        if flags & SYN:
            return flags
        self.pending = 0
        if self.reply:
            reply, self.reply = self.reply, 0
            return flags | reply
        return flags | (CEP_INIT + self.received_ce & 7) << ACE_SHIFT

    def ect(self, fresh: bool, l4s: bool) -> int:
        """ECT(0) on all but SYNs, retransmissions and bare ACKs included, as Linux; ECT(1) for a scalable control."""
        if not self.sends_ect:
            return NOT_ECT
        return ECT1 if l4s else ECT0

    def one_by_one(self) -> bool:
        """CWR is set in ACE: who cuts a super-segment would clear it on all pieces but the first."""
        return bool(CEP_INIT + self.received_ce & CWR >> ACE_SHIFT)

    def option(self, conn: "TcpConn", room: int, now: Nanos) -> bytes:
        """An AccECN option for a segment without text, if one is due and fits (§3.2.3.3).

        tcp_ecn_option 2: whenever it fits; 1: after a change, and tcp_ecn_option_beacon times a round trip.
        """
        knobs = conn.demux.sysctl
        if knobs.tcp_ecn_option == NEVER or self.mute or room < SHORT_OPTION:
            return b""
        if knobs.tcp_ecn_option == SPARINGLY and not self.demand:
            beacon = knobs.tcp_ecn_option_beacon
            if not beacon or now - self.option_at < conn.rtt.srtt // beacon:
                return b""
        self.demand = max(self.demand - 1, 0)
        self.option_at = now
        return self.syn_option(3 if room >= FULL_OPTION else 2)

    def syn_option(self, fields: int = 3) -> bytes:
        """The option itself; the field that text came with last goes first."""
        kind = ACCECN1 if self.last_ecn == ECT1 else ACCECN0
        body = b"".join((self.received_bytes[each] & LOW24).to_bytes(3, "big") for each in ORDERS[kind][:fields])
        padding = -(2 + len(body)) % 4
        return bytes((NOP,) * padding) + bytes((kind, 2 + len(body))) + body

    # ------------------------------------------------------------------ sender

    def marks(self, conn: "TcpConn", seg: Segment, delivered: int) -> int:
        """How many packets of ours does this ACK, which is news of `delivered` bytes, say met congestion?

        §3.2.2.5.2: where the ACK covers more packets than ACE counts, the most that fits, unless the byte counters
        know better.
        """
        if not delivered or seg.flags & SYN:
            return 0
        ace = seg.flags >> ACE_SHIFT & 7
        if self.unheard:
            self.unheard = False
            if not ace:
                self._distrust()
        if self.deaf:
            return 0
        marked_bytes = self._hear_option(seg, delivered)
        mss = conn.tcb.mss_cache
        packets = -(-delivered // mss)
        marks = (ace - CEP_INIT - self.delivered_ce) & 7
        if packets > 7 and marked_bytes:
            safe = packets - ((packets - marks) & 7)
            if marked_bytes > 0:
                behind = -(-marked_bytes // mss) - marks
                safe = min(safe, marks + max(behind + 4, 0) // 8 * 8)
            marks = safe
        self.delivered_ce += marks
        return marks

    def _hear_option(self, seg: Segment, delivered: int) -> int:
        """Bytes newly known to have come through marked; −1 if there is no telling.

        No option means that nothing changed since the last one (§3.2.3.3), so that bytes go on as they did.
        """
        if seg.accecn is None or self.ignore_options:
            if not self.estimate or self.ignore_options:
                return -1
            self.delivered_bytes[self.estimate] += delivered
            return delivered if self.estimate == CE else 0
        kind, body = seg.accecn
        if not self.option_heard:
            self.option_heard = True
            if len(body) >= 3 and not any(body[:3]):  # §3.2.3.2.4: zeroed, or it would have begun with one
                self.ignore_options = True
                return -1
        self.mute = False
        changed = []
        marked = 0
        for at, field in enumerate(ORDERS[kind][: len(body) // 3]):
            value = int.from_bytes(body[3 * at : 3 * at + 3], "big")
            more = (value - self.delivered_bytes[field]) & LOW24
            if 0 < more < HALF24:
                self.delivered_bytes[field] += more
                changed.append(field)
                if field == CE:
                    marked = more
        if changed:
            self.estimate = changed[0] if len(changed) == 1 else NOT_ECT
        return marked if len(body) >= 6 else -1


# ---------------------------------------------------------------------- negotiation


def syn_flags(conn: "TcpConn") -> int:
    """Of our SYN or SYN-ACK: §3.1.1 and table 2, or RFC 3168 §6.1.1.

    A SYN sent again asks for AccECN once more, then (with tcp_ecn_fallback) for nothing (§3.1.4.1); for classic ECN
    not even once (RFC 3168 §6.1.1.1).
    """
    if isinstance(conn.ecn, AccEcn):
        return HANDSHAKE[conn.ecn.syn_ecn] << ACE_SHIFT
    if conn.passive or conn.state is SYN_RECEIVED:
        return ECE if conn.ecn is not None else 0
    knobs = conn.demux.sysctl
    accurate = knobs.tcp_ecn in ASKS
    asks = accurate or knobs.tcp_ecn in ASKS_CLASSIC or conn.cc.needs_ecn
    given_up = knobs.tcp_ecn_fallback and conn.syn_retries > accurate
    conn.ecn_asked = 0 if not asks or given_up else ACE if accurate else ECE | CWR
    return conn.ecn_asked


def on_syn(conn: "TcpConn", seg: Segment) -> None:
    """The peer's SYN or SYN-ACK: did it ask, did it agree?"""
    ace = seg.flags >> ACE_SHIFT & 7
    if not seg.flags & ACK:
        if not conn.passive and not conn.ecn_asked:
            return  # a crossing SYN: what we did not ask for ourselves, we do not grant
        answer = synack_flags(seg, conn.demux.sysctl.tcp_ecn, conn.cc.needs_ecn)
        if answer:
            conn.ecn = classic(conn.cc.needs_ecn) if answer == ECE else AccEcn(seg.ecn)
    elif conn.ecn_asked == ACE and ace in HANDSHAKE:
        conn.ecn = accurate = AccEcn(seg.ecn)
        accurate.on_syn_ack(seg)
    elif ace in CLASSIC and conn.ecn_asked:
        conn.ecn = classic(conn.cc.needs_ecn)


def synack_flags(syn: Segment, tcp_ecn: int, needs_ecn: bool, accurate: bool = True) -> int:
    """What our SYN-ACK says to this SYN (table 2); 0 if there shall be no ECN.

    Any request but none at all and the classic one is for AccECN, so that later ones may mean more (§3.1.3).
    """
    if accurate and tcp_ecn in ACCEPTS and syn.flags & ACE not in (0, ECE | CWR):
        return HANDSHAKE[syn.ecn] << ACE_SHIFT
    return ECE if accepts(syn, tcp_ecn, needs_ecn) else 0


FIRST_OPTION = AccEcn(NOT_ECT).syn_option()  # in a SYN-ACK
