"""The TCP header, RFC 9293 §3.1: `parse` makes the one object that a received segment needs."""

from dataclasses import dataclass
from struct import Struct

from stack.errors import Malformed
from stack.wire.tcp_options import ACCECN, KNOWN, SACK, TIMESTAMPS, TS_PREFIX, RawOption, parse_sack, split_options

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR, AE = 1, 2, 4, 8, 16, 32, 64, 128, 256
ACE = AE | CWR | ECE  # one number, RFC 9768

TCP_HDR = Struct("!HHIIHHHH")  # ports, seq, ack, data offset and flags, window, checksum, urgent pointer
TCP_HDR_LEN = 20
CSUM_OFFSET = 16
_BODY = Struct("!IIHHHH")  # from seq on
_TS = Struct("!II")


@dataclass(slots=True, eq=False)
class Segment:
    """One received segment. `seq` and `ack` come off the wire as 32 bits; tcp.input unwraps them in place.

    Its payload is a view of the packet it came in and may be queued; nothing else outlives `Stack.receive`.
    """

    seq: int
    ack: int
    flags: int
    wnd: int  # as on the wire, not yet scaled
    urg: int
    payload: memoryview
    length: int  # payload bytes
    ts_val: int  # −1: no timestamps
    ts_ecr: int
    sack: list[tuple[int, int]] | None  # wire edges
    options: bytes  # raw, for SYNs and extensions; empty on the fast path
    ecn: int = 0  # the IP header's ECN field
    packets: int = 1  # wire packets that a super-segment was
    accecn: RawOption | None = None  # an AccECN option

    def unknown_options(self) -> list[RawOption]:
        """The options that the stack itself does not use."""
        return [each for each in split_options(self.options) if each[0] not in KNOWN]


def parse(pkt: bytes, l4: int, end: int) -> Segment:
    """The segment at `pkt[l4:end]`; its checksum is the caller's business. Raises Malformed."""
    if end - l4 < TCP_HDR_LEN:
        raise Malformed("TCP header cut short")
    seq, ack, off_flags, wnd, _csum, urg = _BODY.unpack_from(pkt, l4 + 4)
    data = l4 + (off_flags >> 10 & 0x3C)
    if data > end or data < l4 + TCP_HDR_LEN:
        raise Malformed("TCP data offset")
    payload = memoryview(pkt)[data:end]
    opt_len = data - l4 - TCP_HDR_LEN
    flags = off_flags & 0x1FF
    if opt_len == 12 and pkt[l4 + 20 : l4 + 24] == TS_PREFIX and not flags & SYN:
        ts_val, ts_ecr = _TS.unpack_from(pkt, l4 + 24)
        return Segment(seq, ack, flags, wnd, urg, payload, end - data, ts_val, ts_ecr, None, b"")
    if opt_len > 16 and pkt[l4 + 20 : l4 + 24] == TS_PREFIX and not flags & SYN:
        kind, size = pkt[l4 + 32], pkt[l4 + 33]
        if kind not in KNOWN and opt_len - 16 < size <= opt_len - 12:  # one that only an extension reads, and padding
            ts_val, ts_ecr = _TS.unpack_from(pkt, l4 + 24)
            options = pkt[l4 + TCP_HDR_LEN : data]
            return Segment(seq, ack, flags, wnd, urg, payload, end - data, ts_val, ts_ecr, None, options)
    seg = Segment(seq, ack, flags, wnd, urg, payload, end - data, -1, 0, None, b"")
    if opt_len:
        seg.options = pkt[l4 + TCP_HDR_LEN : data]
        for kind, body in split_options(seg.options):
            if kind == TIMESTAMPS and len(body) == 8:
                seg.ts_val, seg.ts_ecr = _TS.unpack(body)
            elif kind == SACK:
                seg.sack = parse_sack(body)
            elif kind in ACCECN:
                seg.accecn = (kind, body)
    return seg


def flags_text(flags: int) -> str:
    """Flags as tcpdump prints them: `S`, `S.`, `P.`, `R`, `.` …"""
    letters = "".join(c for bit, c in ((SYN, "S"), (FIN, "F"), (RST, "R"), (PSH, "P"), (URG, "U")) if flags & bit)
    return letters + "".join(c for bit, c in ((ECE, "E"), (CWR, "W"), (AE, "e"), (ACK, ".")) if flags & bit)
