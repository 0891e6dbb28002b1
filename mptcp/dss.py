"""The options of segments after the handshake, out and in: DSS (RFC 8684 §3.3), and the rarer ones beside it.

DSS is on every segment, so it is packed and unpacked here without objects; anything else goes through mptcp/options.py.
Data sequence numbers and acknowledgments leave with 64 bits, as Linux's do: with timestamps that fills the forty bytes
of a segment with text.
"""

from struct import Struct
from typing import TYPE_CHECKING

from mptcp import handshake
from mptcp.crypto import add_addr_hmac, same
from mptcp.maps import Run, unwrap_dsn
from mptcp.options import (
    DSS,
    KIND,
    AddAddr,
    Dss,
    Mapping,
    MpCapable,
    MpFail,
    MpFastclose,
    MpPrio,
    MpTcprst,
    RemoveAddr,
    pad,
    parse,
)
from stack.errors import Malformed
from stack.seq import MASK32
from stack.units import Nanos
from stack.wire.tcp import FIN, Segment
from stack.wire.tcp_options import TS_OPTION_LEN, TS_PREFIX

if TYPE_CHECKING:
    from mptcp.subflow import Subflow
    from stack.tcp.conn import TcpConn

MASK64 = 0xFFFF_FFFF_FFFF_FFFF
DATA_ROOM = 28  # a mapping and an acknowledgment, padded or with a checksum
ACK_ROOM = 12
NOPS = 0x0101
OPTIONLESS = 2  # acknowledgments without any option of ours in a row
ACK_FLAGS, MAP_FLAGS = 0x03, 0x0F  # DATA_ACK of 64 bits; and a mapping whose DSN has 64
MAP_FLAGS_ACK32 = 0x0D  # as Linux says until it got a DSN of 64 bits

_DATA = Struct("!BBBBQQIHH")  # kind, length, subtype, flags, DATA_ACK, DSN, subflow sequence, length, NOPs or checksum
_ACK = Struct("!BBBBQ")
_DATA_LEN, _DATA_LEN_CSUM, _ACK_LEN = 26, 28, 12
_DATA_LEN_ACK32, _DATA_LEN_CSUM_ACK32 = 22, 24
_DATA_BODY = Struct("!BBQQIH")  # behind kind and length
_DATA_BODY_ACK32 = Struct("!BBIQIH")
_ACK_BODY = Struct("!BBQ")
# Timestamps and a mapping without checksum, as `predicted` wants them.
_WIDE_HEAD = bytes((KIND, _DATA_LEN, DSS << 4, MAP_FLAGS))
_NARROW_HEAD = bytes((KIND, _DATA_LEN_ACK32, DSS << 4, MAP_FLAGS_ACK32))
_WIDE_SIZE, _NARROW_SIZE = TS_OPTION_LEN + DATA_ROOM, TS_OPTION_LEN + _DATA_LEN_CSUM_ACK32


# ---------------------------------------------------------------------- out


def emit(sub: "Subflow", conn: "TcpConn", room: int, seq: int, size: int, now: Nanos) -> bytes:
    """What goes with this segment."""
    meta, tcb = sub.meta, conn.tcb
    rx = meta.rx
    nxt = rx.queue.nxt
    # What TCP just wrote into the window field: never less than it offered before, even where the buffer has shrunk.
    rx.right = max(rx.right, nxt + tcb.rcv_wnd)
    if not sub.heard:
        early = handshake.third_ack(sub, conn, seq, size)
        if early and (size or sub.early_turn or meta.tx.fin_to_tell() < 0 or not sub.initial):
            sub.early_turn = False
            if not size and sub.initial and meta.tx.fin_to_tell() >= 0:
                conn.bare_ack_due = True  # it follows at once
            return early
        sub.early_turn = True  # a DATA_FIN before any text takes turns with the keys: either may be lost
        if not sub.joined:
            return b""
    if size:
        if seq < tcb.snd_una:  # a keepalive's octet is no text
            return _ACK.pack(KIND, _ACK_LEN, DSS << 4, ACK_FLAGS, nxt & MASK64)
        run = sub.sending
        if run is None or not run.start <= seq < run.end:
            run = sub.sent.at(seq)
        if run is None or room < DATA_ROOM:
            return b""
        meta.acked_to = nxt
        ssn = (run.start - tcb.iss - sub.early_out) & MASK32
        ack, dsn, length, checksum = nxt & MASK64, run.dsn & MASK64, run.end - run.start, run.checksum
        if checksum is None:
            return _DATA.pack(KIND, _DATA_LEN, DSS << 4, MAP_FLAGS, ack, dsn, ssn, length, NOPS)
        return _DATA.pack(KIND, _DATA_LEN_CSUM, DSS << 4, MAP_FLAGS, ack, dsn, ssn, length, checksum)
    out = b""
    if sub.prio_due:
        sub.prio_due = False
        meta.host.mib.MPTcpExtMPPrioTx += 1
        out = pad(MpPrio(sub.request_bkup).emit())
    if sub.fail_due >= 0:
        out += MpFail(sub.fail_due).emit()
        meta.host.mib.MPTcpExtMPFailTx += 1
        sub.fail_due = -1
    if not out and meta.paths is not None and meta.paths.pending:
        out = meta.paths.options(room, now)
    fin = meta.tx.fin_to_tell()
    if fin >= 0 and room - len(out) >= DATA_ROOM:
        mapping = Mapping(fin, 0, 1, meta.tx.fin_checksum(fin) if meta.checksum else None)
        meta.acked_to = nxt
        out += pad(Dss(nxt, mapping, data_fin=True).emit())
    elif room - len(out) >= ACK_ROOM:
        meta.acked_to = nxt
        out += _ACK.pack(KIND, _ACK_LEN, DSS << 4, ACK_FLAGS, nxt & MASK64)
    return out


def last_words(sub: "Subflow", seq: int, size: int) -> bytes:
    """After a fallback in the middle of a connection: MP_FAIL, and the infinite mapping with the first text, §3.7."""
    meta = sub.meta
    if sub.fail_due >= 0:
        meta.host.mib.MPTcpExtMPFailTx += 1
        option = pad(MpFail(sub.fail_due).emit())
        sub.fail_due = -1
        return option
    if meta.infinite_from < 0 or not size:
        return b""
    if seq == meta.infinite_from:
        run = sub.sent.at(seq)
        if run is not None:
            meta.host.mib.MPTcpExtInfiniteMapTx += 1
            ssn = seq - sub.conn.tcb.iss - sub.early_out
            return pad(Dss(meta.rcv_nxt, Mapping(run.dsn, ssn, 0, 0 if meta.checksum else None)).emit())
    return b""


# ---------------------------------------------------------------------- in


def predicted(sub: "Subflow", conn: "TcpConn", seg: Segment, now: Nanos) -> bool:
    """Header prediction one level up: the next text of the subflow is the next of the data, and says so itself.

    Only skips what `take` and mptcp/receive.py would find to be in order (tests/prop/test_mptcp_predicted.py compares).
    """
    raw = seg.options
    size = len(raw)
    if size == _WIDE_SIZE:
        head, near = _WIDE_HEAD, MASK64
        _subtype, _flags, ack, dsn, ssn, length = _DATA_BODY.unpack_from(raw, TS_OPTION_LEN + 2)
    elif size == _NARROW_SIZE:
        head, near = _NARROW_HEAD, MASK32
        _subtype, _flags, ack, dsn, ssn, length = _DATA_BODY_ACK32.unpack_from(raw, TS_OPTION_LEN + 2)
    else:
        return False
    meta, tcb = sub.meta, conn.tcb
    rx, tx = meta.rx, meta.tx
    at = tcb.rcv_nxt
    skip = (at - ssn - sub.early_in - tcb.irs) & MASK32  # how much of what is mapped came before
    if (
        skip + seg.length > length
        or raw[TS_OPTION_LEN : TS_OPTION_LEN + 4] != head
        or not raw.startswith(TS_PREFIX)
        or (dsn + skip - rx.queue.nxt) & MASK64
        or rx.fin >= 0
        or sub.held
        or not sub.heard
        or not sub.joined
        or sub.silent
        or sub.plain
        or sub.gone
        or meta.checksum
        or not sub.runs.pass_by(at - skip, length, rx.queue.nxt - skip, at, at + seg.length)
    ):
        return False
    sub.optionless = 0
    if tcb.snd_una != sub.sent.una:
        sub.sent.ack_to(tcb.snd_una)
    una = tx.una
    if (ack - una) & near or una + (seg.wnd << tcb.snd_wscale) > tx.right or una < tx.nxt:
        _acknowledged(sub, conn, unwrap_dsn(ack, una, near == MASK64), seg, now)
    return True


def take(sub: "Subflow", conn: "TcpConn", seg: Segment, now: Nanos) -> None:
    """Read the options of one acceptable segment, then whatever it acknowledged has its effect."""
    sub.sent.ack_to(conn.tcb.snd_una)
    raw = seg.options
    if not raw:
        handshake_silence(sub, conn, seg, now)
        return
    at = TS_OPTION_LEN if raw.startswith(TS_PREFIX) else 0
    size = len(raw) - at
    if size >= _ACK_LEN and raw[at] == KIND and raw[at + 2] == DSS << 4 and raw[at + 1] <= size:
        flags = raw[at + 3]
        if flags == MAP_FLAGS and size == DATA_ROOM and raw[at + 1] in (_DATA_LEN, _DATA_LEN_CSUM):
            _subtype, _flags, ack, dsn, ssn, length = _DATA_BODY.unpack_from(raw, at + 2)
            if length:
                heard(sub, now)
                checksum = int.from_bytes(raw[at + 26 : at + 28], "big") if raw[at + 1] == _DATA_LEN_CSUM else None
                _mapped(sub, conn, unwrap_dsn(dsn, sub.meta.rcv_nxt, True), ssn, length, checksum, now)
                _acknowledged(sub, conn, unwrap_dsn(ack, sub.meta.snd_una, True), seg, now)
                return
        elif flags == MAP_FLAGS_ACK32 and raw[at + 1] <= size == _DATA_LEN_CSUM_ACK32:  # nothing but NOPs beside it
            _subtype, _flags, ack, dsn, ssn, length = _DATA_BODY_ACK32.unpack_from(raw, at + 2)
            if length and raw[at + 1] >= _DATA_LEN_ACK32:
                heard(sub, now)
                checksum = int.from_bytes(raw[at + 22 : at + 24], "big") if raw[at + 1] == size else None
                _mapped(sub, conn, unwrap_dsn(dsn, sub.meta.rcv_nxt, True), ssn, length, checksum, now)
                _acknowledged(sub, conn, unwrap_dsn(ack, sub.meta.snd_una, False), seg, now)
                return
        elif flags == ACK_FLAGS and raw[at + 1] == _ACK_LEN and size == _ACK_LEN:
            heard(sub, now)
            _, _, ack = _ACK_BODY.unpack_from(raw, at + 2)
            _acknowledged(sub, conn, unwrap_dsn(ack, sub.meta.snd_una, True), seg, now)
            return
    _take_any(sub, conn, seg, now)


def _take_any(sub: "Subflow", conn: "TcpConn", seg: Segment, now: Nanos) -> None:
    seen = False
    for kind, body in seg.unknown_options():
        if kind != KIND:
            continue
        try:
            option = parse(body)
        except Malformed:
            continue
        seen = True
        _take_option(sub, conn, seg, option, now)
        if sub.gone or sub.plain:
            return
    if not seen:
        handshake_silence(sub, conn, seg, now)


def _take_option(sub: "Subflow", conn: "TcpConn", seg: Segment, option: object, now: Nanos) -> None:
    meta = sub.meta
    mib = meta.host.mib
    if isinstance(option, Dss):
        heard(sub, now)
        _take_dss(sub, conn, seg, option, now)
    elif isinstance(option, MpCapable):
        if conn.passive and option.length and option.sender_key == meta.key_remote:
            heard(sub, now)
            first = meta.rx.first  # §3.1: the text with the third ACK is the first of all
            _mapped(sub, conn, first, 1, option.length, option.checksum, now)
    elif isinstance(option, MpPrio):
        mib.MPTcpExtMPPrioRx += 1
        sub.peer_bkup = option.backup
        meta.say(f"the peer made subflow {sub.id} {'a backup' if option.backup else 'a regular path'}")
        if meta.paths is not None:
            meta.paths.on_prio(sub, now)
        meta.wake_subflows()
    elif isinstance(option, MpFail):
        mib.MPTcpExtMPFailRx += 1
        meta.on_fail(sub, unwrap_dsn(option.dsn, meta.snd_una, True), now)
    elif isinstance(option, MpFastclose):
        _take_fastclose(sub, option, now)
    elif isinstance(option, AddAddr):
        _take_address(sub, option, now)
    elif isinstance(option, RemoveAddr) and meta.paths is not None:
        mib.MPTcpExtRmAddr += 1
        meta.paths.on_remove_addr(option.address_ids, now)
    elif isinstance(option, MpTcprst):
        pass  # counts on a RST only


def _take_dss(sub: "Subflow", conn: "TcpConn", seg: Segment, option: Dss, now: Nanos) -> None:
    meta = sub.meta
    mapping = option.mapping
    if mapping is not None:
        dsn = unwrap_dsn(mapping.dsn, meta.rcv_nxt, mapping.wide)
        if not mapping.length:
            meta.on_infinite_mapping(sub, dsn, now)
            return
        length = mapping.length - option.data_fin
        if option.data_fin:
            meta.rx.fin_told(dsn + length, now)
            conn.ack_due = True
        if length:
            _mapped(sub, conn, dsn, mapping.ssn, length, mapping.checksum, now, option.data_fin)
    if option.data_ack is not None:
        _acknowledged(sub, conn, unwrap_dsn(option.data_ack, meta.snd_una, option.ack_wide), seg, now)


def _mapped(
    sub: "Subflow",
    conn: "TcpConn",
    dsn: int,
    ssn: int,
    length: int,
    checksum: int | None,
    now: Nanos,
    with_fin: bool = False,
) -> None:
    """A mapping of the subflow's own numbers, which begin at the peer's SYN and leave its text out."""
    near = conn.tcb.rcv_nxt
    start = near + (((conn.tcb.irs + sub.early_in + ssn - near) & MASK32) ^ 0x8000_0000) - 0x8000_0000
    if start + length <= near - sub.held_size:
        return  # all of it is here already
    if checksum is not None and with_fin:
        checksum |= 1 << 16  # the sum counts the DATA_FIN
    if not sub.runs.add(Run(start, start + length, dsn, checksum if sub.meta.checksum else None)):
        sub.meta.host.mib.MPTcpExtDSSNotMatching += 1


def _acknowledged(sub: "Subflow", conn: "TcpConn", ack: int, seg: Segment, now: Nanos) -> None:
    tx = sub.meta.tx
    tx.acknowledged(ack, ack + (seg.wnd << conn.tcb.snd_wscale), now)
    if tx.una < tx.nxt and conn.tcb.snd_una == conn.sendq.end:
        tx.ask.later(now)


def _take_address(sub: "Subflow", option: AddAddr, now: Nanos) -> None:
    meta = sub.meta
    mib = meta.host.mib
    if option.echo:
        mib.MPTcpExtEchoAdd += 1
        if meta.paths is not None:
            meta.paths.on_add_addr_echo(option, now)
        return
    proof = add_addr_hmac(meta.key_remote, meta.key_local, option.address_id, option.addr, option.port)
    if option.hmac is None or not same(option.hmac, proof):
        mib.MPTcpExtAddAddrDrop += 1
        return
    heard(sub, now)  # who makes this HMAC has both keys; the first announcement stands before the first DSS
    mib.MPTcpExtAddAddr += 1
    if option.port:
        mib.MPTcpExtPortAdd += 1
    if meta.paths is not None:
        meta.paths.on_add_addr(option, now)


def _take_fastclose(sub: "Subflow", option: MpFastclose, now: Nanos) -> None:
    meta = sub.meta
    if option.receiver_key != meta.key_local:
        return
    meta.host.mib.MPTcpExtMPFastcloseRx += 1
    meta.on_fastclose(now)


def heard(sub: "Subflow", now: Nanos) -> None:
    """The peer speaks DSS on this subflow: both sides have what they need of each other."""
    sub.optionless = 0
    if sub.heard:
        return
    sub.heard = True
    if sub.initial:
        sub.meta.on_fully_established(now)
    elif not sub.joined:
        sub.joined = True
        sub.meta.on_join(sub, now)


def handshake_silence(sub: "Subflow", conn: "TcpConn", seg: Segment, now: Nanos) -> None:
    """A segment without MPTCP: early in a connection it means that something in between removes our options, §3.7.

    Later it takes two pure ACKs in a row that acknowledge text: then the peer, or a box, went over to plain TCP. Text
    tells nothing, since a box that cuts segments may give the options to the first part alone. A FIN without options
    comes from a peer that did, for Multipath TCP has DSS on it as well: it ends the stream, not a path.
    """
    fin = bool(seg.flags & FIN)
    if sub.heard:
        if fin:
            sub.optionless += OPTIONLESS
        if conn.tcb.snd_una > sub.silent_una and not seg.length:
            sub.silent_una = conn.tcb.snd_una
            sub.optionless += 1
        if sub.optionless >= OPTIONLESS and sub.meta.may_fall_back(sub):
            sub.meta.host.mib.MPTcpExtDssFallback += 1
            sub.meta.fall_back("the peer's acknowledgments carry no MPTCP options any more", now)
        return
    if not sub.joined or not sub.initial:
        return
    if seg.length or fin or conn.tcb.snd_una > conn.tcb.iss + 1 + sub.early_out:
        sub.meta.host.mib.MPTcpExtMPCapableDataFallback += 1
        sub.meta.fall_back("the peer's first segments carried no MPTCP options: a box on the way removes them")


def take_reset(sub: "Subflow", seg: Segment, now: Nanos) -> None:
    """MP_TCPRST says why, MP_FASTCLOSE that it is the whole connection."""
    for option in handshake.mp_options(seg.unknown_options()) if seg.options else ():
        if isinstance(option, MpTcprst):
            sub.meta.host.mib.MPTcpExtMPRstRx += 1
            sub.rst_reason = option.reason
        elif isinstance(option, MpFastclose):
            _take_fastclose(sub, option, now)
