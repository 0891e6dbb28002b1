"""A bystander who knows the rules of TCP and watches a wire: every packet of both sides, before anything is lost.

What no sender may do whatever happened before: acknowledge what was never sent, take back an ACK or a window, send
beyond the window or the MSS, send other bytes the second time, talk after its FIN, SACK nonsense, turn its clock back.
"""

from dataclasses import dataclass, field
from struct import error, unpack_from

from kit.oracle import BadPacket, flags_text

FIN, SYN, RST, ACK = 1, 2, 4, 16
HALF = 1 << 31


@dataclass(slots=True, eq=False)
class Side:
    """What one end has said so far. Sequence numbers are relative to its ISN, unwrapped."""

    isn: int
    mss: int = 536
    shift: int = 0
    offers_shift: bool = False
    sent_max: int = 1  # end of what it sent; its SYN is 0
    acked: int = 0  # the highest acknowledgment it gave
    edge: int = 0  # the highest sequence number of the other side that it ever allowed
    fin: int = -1
    text: bytearray = field(default_factory=bytearray)
    ts_val: int = -1


@dataclass(slots=True, eq=False)
class Segment:
    """The fields of one segment, as on the wire."""

    flow: tuple[bytes, bytes, int, int]
    seq: int
    ack: int
    flags: int
    win: int
    options: dict[int, bytes]
    option_bytes: int
    payload: bytes


def read(packet: bytes) -> Segment | None:
    """A TCP segment in a plain packet (vnet header in front), or None."""
    try:
        return _read(packet)
    except (IndexError, error):
        return None


def _read(packet: bytes) -> Segment | None:
    if packet[10] >> 4 == 4:
        if packet[19] != 6:
            return None
        l4, end, src, dst = 10 + (packet[10] & 15) * 4, 10 + int.from_bytes(packet[12:14]), packet[22:26], packet[26:30]
    else:
        if packet[16] != 6:
            return None
        l4, end, src, dst = 50, 50 + int.from_bytes(packet[14:16]), packet[18:34], packet[34:50]
    sport, dport, seq, ack, off_flags, win = unpack_from("!HHIIHH", packet, l4)
    data = l4 + (off_flags >> 12) * 4
    options, at = {}, l4 + 20
    while at < data and packet[at]:
        if packet[at] == 1:
            at += 1
            continue
        options[packet[at]] = packet[at + 2 : at + packet[at + 1]]
        at += max(packet[at + 1], 2)
    return Segment(
        (src, dst, sport, dport), seq, ack, off_flags & 0x1FF, win, options, data - l4 - 20, packet[data:end]
    )


class Lawyer:
    """Watches any number of connections. `sees` raises BadPacket at the first breach.

    With `judges` only packets from that address count; its peers may do what they like.
    """

    def __init__(self, judges: bytes | None = None) -> None:
        self.judges = judges
        self.sides: dict[tuple[bytes, bytes, int, int], Side] = {}

    def sees(self, packet: bytes) -> None:
        """One packet that somebody put on the wire."""
        seg = read(packet)
        if seg is None:
            return
        src, dst, sport, dport = seg.flow
        other = self.sides.get((dst, src, dport, sport))
        me = self.sides.get(seg.flow)
        if seg.flags & SYN:
            if me is None or self.judges in (None, src):
                self._syn(seg, other)
            return
        if me is None or other is None:
            return
        if self.judges not in (None, src):
            self._hear(seg, me, other)
            return
        if seg.flags & RST:
            return
        try:
            self._segment(seg, me, other)
        except BadPacket as breach:
            seq = _unwrap(seg.seq - me.isn, me.sent_max)
            what = f"{flags_text(seg.flags)} {seq}:{seq + len(seg.payload)} ack {(seg.ack - other.isn) & 0xFFFFFFFF}"
            raise BadPacket(f"{breach} ({what} win {seg.win} from port {sport})") from None

    def _syn(self, seg: Segment, other: Side | None) -> None:
        known = self.sides.get(seg.flow)
        if known is not None and known.isn == seg.seq:
            me = known
        else:
            me = self.sides[seg.flow] = Side(seg.seq)
        if 2 in seg.options:
            me.mss = int.from_bytes(seg.options[2])
        me.offers_shift = 3 in seg.options
        me.shift = seg.options[3][0] if me.offers_shift else 0
        if seg.payload:  # Fast Open
            me.text[: len(seg.payload)] = seg.payload
            me.sent_max = max(me.sent_max, 1 + len(seg.payload))
        if other is not None and seg.flags & ACK:
            me.acked = (seg.ack - other.isn) & 0xFFFFFFFF
            if not 1 <= me.acked <= other.sent_max:
                raise BadPacket("SYN-ACK does not acknowledge the SYN")
        me.edge = max(me.edge, max(me.acked, 1) + seg.win)

    def _hear(self, seg: Segment, me: Side, other: Side) -> None:
        """What a side that is not judged says may still excuse what the other one does."""
        seq = _unwrap(seg.seq - me.isn, other.acked)
        me.sent_max = max(me.sent_max, seq + len(seg.payload) + (seg.flags & FIN))
        if seg.flags & FIN:
            me.fin = seq + len(seg.payload)
        if seg.flags & ACK:
            ack = _unwrap(seg.ack - other.isn, other.sent_max)
            me.edge = max(me.edge, ack + (seg.win << (me.shift if other.offers_shift else 0)))

    def _segment(self, seg: Segment, me: Side, other: Side) -> None:
        seq = _unwrap(seg.seq - me.isn, me.sent_max)
        end = seq + len(seg.payload)
        if len(seg.payload) + seg.option_bytes > other.mss:
            raise BadPacket(f"{len(seg.payload)} bytes and {seg.option_bytes} of options for an MSS of {other.mss}")
        if seg.payload:
            self._text(seg, seq, end, me, other)
        if seg.flags & FIN:
            if me.fin not in (-1, end):
                raise BadPacket(f"FIN at {end}, was at {me.fin}")
            me.fin = end
            end += 1
        me.sent_max = max(me.sent_max, end)
        if seg.flags & ACK:
            self._ack(seg, me, other)
        if 8 in seg.options:
            val = int.from_bytes(seg.options[8][:4])
            if me.ts_val >= 0 and (val - me.ts_val) & HALF:
                raise BadPacket("timestamp clock ran backwards")
            me.ts_val = val

    def _text(self, seg: Segment, seq: int, end: int, me: Side, other: Side) -> None:
        if end > other.edge:
            raise BadPacket(f"text up to {end} beyond the window {other.edge}")
        if me.fin >= 0 and end > me.fin:
            raise BadPacket("text after FIN")
        at = seq - 1
        if at > len(me.text):
            raise BadPacket("text beyond a gap that was never sent")
        old = me.text[at : at + len(seg.payload)]
        if old != seg.payload[: len(old)]:
            raise BadPacket("other bytes than the first time")
        me.text[at : at + len(seg.payload)] = seg.payload

    def _ack(self, seg: Segment, me: Side, other: Side) -> None:
        ack = _unwrap(seg.ack - other.isn, me.acked)
        if ack < me.acked:
            raise BadPacket(f"ACK went back from {me.acked} to {ack}")
        if ack > other.sent_max:
            raise BadPacket("acknowledges what was never sent")
        me.acked = ack
        shift = me.shift if me.offers_shift and other.offers_shift else 0
        edge = ack + (seg.win << shift)
        if edge < me.edge and other.fin < 0:
            raise BadPacket(f"window's right edge went back from {me.edge} to {edge}")
        me.edge = max(me.edge, edge)
        body = seg.options.get(5, b"")
        for index in range(0, len(body), 8):
            left, right = (_unwrap(edge32 - other.isn, ack) for edge32 in unpack_from("!II", body, index))
            if left >= right or right > other.sent_max or (index and left <= ack):
                raise BadPacket(f"SACK block {left}:{right}")


def _unwrap(wire: int, near: int) -> int:
    return near + (((wire - near) & 0xFFFFFFFF) ^ HALF) - HALF
