"""Fewer, larger packets for the stack to look at, from one batch of reads: what GRO is in Linux.

Python pays per packet, so a batch is coalesced before the stack sees it. Two things may become one:

- consecutive data segments of a flow (as tcp_gro_receive: same ACK, same options, no flag but PSH). On a device
  without offload that is the difference between 0.5 and more than 1 Gbit/s;
- a pure ACK and the next one that acknowledges more (as tcp_add_backlog does with packets that wait for a busy socket).
  A bulk sender gets an ACK for each super-segment it sent, or for each two segments where a device on the way cut
  those, and each costs the stack 10 µs or more, ten times that with MPTCP. A DATA_ACK (RFC 8684 §3.3.2) gives way to a
  later one as the acknowledgment itself does.

Duplicate ACKs, ACKs with SACK blocks, an AccECN option or more of MPTCP than a DATA_ACK, and everything with SYN, FIN,
RST or URG pass as they are.
What becomes one has the same ECN field and the same ACE flags (RFC 9768; ECE and CWR of RFC 3168 are two of them), and
a pure ACK that is itself marked stays alone: the receiver counts packets. Checksums of what is merged are verified
first, unless the device vouches for them. Order within a flow is kept, between flows not; but a
SYN overtakes nothing, since what it asks for may hang on what another flow just said (MP_JOIN, RFC 8684 §3.2).
"""

from struct import Struct

from nuse.gso import U16, VNET_VOUCHED, tcp_checksum_ok
from stack.checksum import finish, ones_sum
from stack.wire.vnet import CSUM_VOUCHED, DATA_VALID, GSO_TCPV4, GSO_TCPV6, VNET, VNET_LEN

LARGEST_PIECE = VNET_LEN + 9216  # larger ones are super-segments already
SMALLEST = VNET_LEN + 40
LARGEST_MERGED = 65535
TCP = Struct("!IIBB")  # from byte 4 of the header: seq, ack, data offset, flags
L4_V4, L4_V6 = VNET_LEN + 20, VNET_LEN + 40
SYN, ACK, PSH, ECE, CWR = 0x02, 0x10, 0x08, 0x40, 0x80
AE = 0x01  # in the byte of the data offset
CE = 0x03
TIMESTAMPS, TIMESTAMPS_LEN = b"\x01\x01\x08\x0a", 12
ONLY_DATA_ACK = (b"\x1e\x08\x20\x01", b"\x1e\x0c\x20\x03")  # MPTCP's DSS with nothing but that, of 32 and 64 bits
MASK32, HALF32 = 0xFFFF_FFFF, 0x8000_0000


class Run:
    """Packets of one flow that are going to be one."""

    __slots__ = ("ace", "ack", "data_at", "l4", "next_seq", "options", "packets", "size", "tos")

    def __init__(self, packet: bytes, l4: int, data_at: int, next_seq: int, ack: int, ace: int) -> None:
        self.packets = [packet]
        self.l4 = l4
        self.data_at = data_at
        self.next_seq = next_seq
        self.ack = ack
        self.ace = ace
        self.size = len(packet)
        self.tos = packet[VNET_LEN : VNET_LEN + 2]
        self.options = packet[l4 + 20 : data_at]


def coalesce(batch: list[bytes]) -> list[bytes]:
    """The packets of `batch`, as few as possible. O(packets)."""
    out: list[bytes] = []
    runs: dict[bytes, Run] = {}
    for packet in batch:
        size = len(packet)
        if size > LARGEST_PIECE or size < SMALLEST:
            if runs:
                _finish_all(runs, out)
            out.append(packet)
            continue
        first = packet[VNET_LEN]
        if first == 0x45 and packet[19] == 6 and packet[16:18] in (b"\x40\x00", b"\x00\x00"):
            l4, key, length = L4_V4, packet[22:34], (packet[12] << 8 | packet[13]) + VNET_LEN
        elif first >> 4 == 6 and packet[16] == 6 and size >= L4_V6 + 20:
            l4, key, length = L4_V6, packet[18:54], (packet[14] << 8 | packet[15]) + L4_V6
        else:
            _finish_all(runs, out)
            out.append(packet)
            continue
        seq, ack, offset, flags = TCP.unpack_from(packet, l4 + 4)
        data_at = l4 + (offset >> 4) * 4
        run = runs.get(key)
        mergeable = length == size >= data_at and flags & ~(PSH | ECE | CWR) == ACK and offset & 0x0F <= AE
        ace = (offset & AE) << 8 | flags & (ECE | CWR)
        pushed = flags & PSH and size > data_at
        if run is not None:
            if mergeable and ace == run.ace and _joins(run, packet, size, data_at, seq, ack):
                if pushed:
                    _finish(runs.pop(key), out)
                continue
            _finish(runs.pop(key), out)
        if mergeable and not pushed and (packet[0] & CSUM_VOUCHED or tcp_checksum_ok(packet, l4)):
            runs[key] = Run(packet, l4, data_at, seq + size - data_at & MASK32, ack, ace)
        else:
            if flags & SYN:
                _finish_all(runs, out)
            out.append(packet)
    _finish_all(runs, out)
    return out


def _joins(run: Run, packet: bytes, size: int, data_at: int, seq: int, ack: int) -> bool:
    """Try to make `packet` part of `run`."""
    first = run.packets[0]
    if data_at != run.data_at or seq != run.next_seq or packet[VNET_LEN : VNET_LEN + 2] != run.tos:
        return False
    tos = packet[VNET_LEN + 1] if run.l4 == L4_V4 else packet[VNET_LEN + 1] >> 4
    if size == data_at:  # a pure ACK takes the place of one that acknowledges less
        options = packet[run.l4 + 20 : data_at]
        if (
            len(first) != data_at
            or tos & CE == CE
            or not 0 < ack - run.ack & MASK32 < HALF32
            or not (_gives_way(run.options) and _gives_way(options))
            or not (packet[0] & CSUM_VOUCHED or tcp_checksum_ok(packet, run.l4))
        ):
            return False
        run.packets[0] = packet
        run.ack = ack
        return True
    payload = size - data_at
    if (
        ack != run.ack
        or len(first) == data_at
        or payload > len(first) - data_at
        or len(run.packets[-1]) != len(first)
        or run.size + payload - VNET_LEN > LARGEST_MERGED
        or packet[run.l4 + 20 : data_at] != run.options
        or not (packet[0] & CSUM_VOUCHED or tcp_checksum_ok(packet, run.l4))
    ):
        return False
    run.packets.append(packet)
    run.size += payload
    run.next_seq = run.next_seq + payload & MASK32
    return True


def _gives_way(options: bytes) -> bool:
    """True if a later ACK says all that these options of a pure ACK say."""
    if options.startswith(TIMESTAMPS):
        options = options[TIMESTAMPS_LEN:]
    return not options or (options[:4] in ONLY_DATA_ACK and len(options) == options[1])


def _finish_all(runs: dict[bytes, Run], out: list[bytes]) -> None:
    for run in runs.values():
        _finish(run, out)
    runs.clear()


def _finish(run: Run, out: list[bytes]) -> None:
    """One packet of what was collected, as the kernel's GRO would hand it over."""
    packets = run.packets
    first = packets[0]
    if len(packets) == 1:
        out.append(first if first[0] & CSUM_VOUCHED else VNET_VOUCHED + first[VNET_LEN:])
        return
    data_at, l4 = run.data_at, run.l4
    kind = GSO_TCPV4 if l4 == L4_V4 else GSO_TCPV6
    head = bytearray(first[:data_at])
    VNET.pack_into(head, 0, DATA_VALID, kind, data_at - VNET_LEN, len(first) - data_at, 0, 0)
    if l4 == L4_V4:
        U16.pack_into(head, 12, run.size - VNET_LEN)
        U16.pack_into(head, 20, 0)
        U16.pack_into(head, 20, finish(ones_sum(head[VNET_LEN:l4])))
    else:
        U16.pack_into(head, 14, run.size - L4_V6)
    head[l4 + 13] |= packets[-1][l4 + 13]
    out.append(b"".join((head, *[memoryview(packet)[data_at:] for packet in packets])))
