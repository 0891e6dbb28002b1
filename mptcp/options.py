"""The MPTCP option, kind 30, RFC 8684 §3: every subtype in and out.

`parse` takes what lies behind kind and length, as the stack's option splitter yields it; `emit` of each option returns
the whole option without padding, and `pad` fills a row of them up to four bytes. Sizes are strict: an option of a wrong
length raises Malformed, and its receiver goes on as if it had not come, as Linux does. Bits that the RFC reserves are
sent as zero and not looked at.

Keys, nonces, HMACs and addresses stay bytes as they are on the wire, numbers are ints.
"""

from dataclasses import dataclass
from struct import Struct

from stack import Malformed
from stack.wire.tcp_options import NOP

KIND = 30
VERSION = 1

MP_CAPABLE, MP_JOIN, DSS, ADD_ADDR, REMOVE_ADDR, MP_PRIO, MP_FAIL, MP_FASTCLOSE, MP_TCPRST = range(9)

# Flags of MP_CAPABLE, §3.1
CHECKSUM_REQUIRED = 0x80  # A
EXTENSIBILITY = 0x40  # B: what it means is for a later version; whoever sees it answers plain TCP
DENY_JOIN_ID0 = 0x20  # C: open no subflow to the address and port that this SYN came from
HMAC_SHA256 = 0x01  # H

# Flags of DSS, §3.3
_DATA_FIN, _DSN_64, _HAS_MAP, _ACK_64, _HAS_ACK = 0x10, 0x08, 0x04, 0x02, 0x01

# Reasons of MP_TCPRST, §3.6, with the names that Linux gives them
RST_EUNSPEC, RST_EMPTCP, RST_ERESOURCE, RST_EPROHIBIT, RST_EWQ2BIG, RST_EBADPERF, RST_EMIDDLEBOX = range(7)

_U16 = Struct("!H")
_U32 = Struct("!I")
_U64 = Struct("!Q")
_MAP_TAIL = Struct("!IH")  # subflow sequence number, data-level length


def _option(subtype: int, low: int, *rest: bytes) -> bytes:
    body = b"".join(rest)
    return bytes((KIND, 3 + len(body), subtype << 4 | low)) + body


@dataclass(frozen=True, slots=True)
class MpCapable:
    """§3.1. No key on a SYN, the server's on a SYN-ACK, both on the third ACK; `length` too on that with text.

    A checksum comes with a length only. `sender_key` is that of whoever sends the option.
    """

    flags: int = HMAC_SHA256
    sender_key: bytes | None = None
    receiver_key: bytes | None = None
    length: int | None = None
    checksum: int | None = None
    version: int = VERSION

    def emit(self) -> bytes:
        """The option's bytes."""
        rest = [bytes((self.flags,)), self.sender_key or b"", self.receiver_key or b""]
        if self.length is not None:
            rest.append(_U16.pack(self.length))
            if self.checksum is not None:
                rest.append(_U16.pack(self.checksum))
        return _option(MP_CAPABLE, self.version, *rest)


@dataclass(frozen=True, slots=True)
class MpJoinSyn:
    """§3.2, on the SYN of a further subflow."""

    address_id: int
    token: int
    nonce: bytes
    backup: bool = False

    def emit(self) -> bytes:
        """The option's bytes."""
        return _option(MP_JOIN, self.backup, bytes((self.address_id,)), _U32.pack(self.token), self.nonce)


@dataclass(frozen=True, slots=True)
class MpJoinSynAck:
    """§3.2, on the SYN-ACK: the first eight bytes of the server's HMAC."""

    address_id: int
    hmac: bytes
    nonce: bytes
    backup: bool = False

    def emit(self) -> bytes:
        """The option's bytes."""
        return _option(MP_JOIN, self.backup, bytes((self.address_id,)), self.hmac, self.nonce)


@dataclass(frozen=True, slots=True)
class MpJoinAck:
    """§3.2, on the third ACK: the first twenty bytes of the client's HMAC."""

    hmac: bytes

    def emit(self) -> bytes:
        """The option's bytes."""
        return _option(MP_JOIN, 0, b"\0", self.hmac)


@dataclass(frozen=True, slots=True)
class Mapping:
    """§3.3.1: `length` bytes from `ssn` on in the subflow are those from `dsn` on in the data.

    Length 0 is the infinite mapping (§3.7). A DATA_FIN counts as one byte; a mapping for it alone has `ssn` 0.
    """

    dsn: int
    ssn: int
    length: int
    checksum: int | None = None
    wide: bool = True  # 64 bits of the DSN are on the wire


@dataclass(frozen=True, slots=True)
class Dss:
    """§3.3: an acknowledgment of data, a mapping, or both; `data_fin` only with a mapping."""

    data_ack: int | None = None
    mapping: Mapping | None = None
    data_fin: bool = False
    ack_wide: bool = True  # 64 bits of the DATA_ACK are on the wire

    def emit(self) -> bytes:
        """The option's bytes; numbers are cut to the width that is sent."""
        flags = 0
        rest = []
        if self.data_ack is not None:
            flags |= _HAS_ACK | (_ACK_64 if self.ack_wide else 0)
            rest.append(_number(self.data_ack, self.ack_wide))
        mapping = self.mapping
        if mapping is not None:
            flags |= _HAS_MAP | (_DSN_64 if mapping.wide else 0) | (_DATA_FIN if self.data_fin else 0)
            rest += [_number(mapping.dsn, mapping.wide), _MAP_TAIL.pack(mapping.ssn & 0xFFFF_FFFF, mapping.length)]
            if mapping.checksum is not None:
                rest.append(_U16.pack(mapping.checksum))
        return _option(DSS, 0, bytes((flags,)), *rest)


@dataclass(frozen=True, slots=True)
class AddAddr:
    """§3.4.1. An announcement has an HMAC, its echo has none. Port 0 stands for none."""

    address_id: int
    addr: bytes
    port: int = 0
    hmac: bytes | None = None

    @property
    def echo(self) -> bool:
        """True for the answer to an announcement."""
        return self.hmac is None

    def emit(self) -> bytes:
        """The option's bytes."""
        port = _U16.pack(self.port) if self.port else b""
        return _option(ADD_ADDR, self.echo, bytes((self.address_id,)), self.addr, port, self.hmac or b"")


@dataclass(frozen=True, slots=True)
class RemoveAddr:
    """§3.4.2: these address IDs are gone, one at least."""

    address_ids: tuple[int, ...]

    def emit(self) -> bytes:
        """The option's bytes."""
        return _option(REMOVE_ADDR, 0, bytes(self.address_ids))


@dataclass(frozen=True, slots=True)
class MpPrio:
    """§3.3.8: whether the subflow that carries it is a backup from now on."""

    backup: bool

    def emit(self) -> bytes:
        """The option's bytes."""
        return _option(MP_PRIO, self.backup)


@dataclass(frozen=True, slots=True)
class MpFail:
    """§3.7: the checksum failed for the mapping that begins at `dsn`."""

    dsn: int

    def emit(self) -> bytes:
        """The option's bytes."""
        return _option(MP_FAIL, 0, b"\0", _U64.pack(self.dsn & 0xFFFF_FFFF_FFFF_FFFF))


@dataclass(frozen=True, slots=True)
class MpFastclose:
    """§3.5: the whole connection is aborted; carries the key of whoever receives it."""

    receiver_key: bytes

    def emit(self) -> bytes:
        """The option's bytes."""
        return _option(MP_FASTCLOSE, 0, b"\0", self.receiver_key)


@dataclass(frozen=True, slots=True)
class MpTcprst:
    """§3.6: why a subflow is reset, and whether trying again later may help."""

    reason: int
    transient: bool = False

    def emit(self) -> bytes:
        """The option's bytes."""
        return _option(MP_TCPRST, self.transient, bytes((self.reason,)))


Option = (
    MpCapable
    | MpJoinSyn
    | MpJoinSynAck
    | MpJoinAck
    | Dss
    | AddAddr
    | RemoveAddr
    | MpPrio
    | MpFail
    | MpFastclose
    | MpTcprst
)


def pad(options: bytes) -> bytes:
    """A row of options, filled with NOPs up to a multiple of four."""
    return options + bytes((NOP,)) * (-len(options) % 4)


def parse(body: bytes) -> Option:
    """The option whose bytes behind kind and length are `body`. Raises Malformed for a length or subtype unknown."""
    if not body:
        raise Malformed("MPTCP option without subtype")
    parser = _PARSERS.get(body[0] >> 4)
    option = parser(body) if parser is not None else None
    if option is None:
        raise Malformed("MPTCP option")
    return option


def _number(value: int, wide: bool) -> bytes:
    return _U64.pack(value & 0xFFFF_FFFF_FFFF_FFFF) if wide else _U32.pack(value & 0xFFFF_FFFF)


def _u16(body: bytes, at: int) -> int:
    return int.from_bytes(body[at : at + 2], "big")


def _parse_capable(body: bytes) -> MpCapable | None:
    size = len(body)
    if size not in (2, 10, 18, 20, 22):
        return None
    return MpCapable(
        flags=body[1],
        sender_key=body[2:10] if size >= 10 else None,
        receiver_key=body[10:18] if size >= 18 else None,
        length=_u16(body, 18) if size >= 20 else None,
        checksum=_u16(body, 20) if size == 22 else None,
        version=body[0] & 0x0F,
    )


def _parse_join(body: bytes) -> MpJoinSyn | MpJoinSynAck | MpJoinAck | None:
    backup = bool(body[0] & 1)
    if len(body) == 10:
        return MpJoinSyn(body[1], int.from_bytes(body[2:6], "big"), body[6:10], backup)
    if len(body) == 14:
        return MpJoinSynAck(body[1], body[2:10], body[10:14], backup)
    if len(body) == 22:
        return MpJoinAck(body[2:])
    return None


def _parse_dss(body: bytes) -> Dss | None:
    size = len(body)
    if size < 2:
        return None
    flags = body[1]
    at = 2
    data_ack = mapping = None
    ack_wide = True
    if flags & _HAS_ACK:
        ack_wide = bool(flags & _ACK_64)
        end = at + (8 if ack_wide else 4)
        data_ack, at = int.from_bytes(body[at:end], "big"), end
    if flags & _HAS_MAP:
        wide = bool(flags & _DSN_64)
        end = at + (8 if wide else 4)
        if size not in (end + 6, end + 8):
            return None
        ssn, length = _MAP_TAIL.unpack_from(body, end)
        checksum = _u16(body, end + 6) if size == end + 8 else None
        mapping = Mapping(int.from_bytes(body[at:end], "big"), ssn, length, checksum, wide)
    elif size != at:
        return None
    return Dss(data_ack, mapping, mapping is not None and bool(flags & _DATA_FIN), ack_wide)


def _parse_add_addr(body: bytes) -> AddAddr | None:
    hmac = None
    end = len(body)
    if not body[0] & 1:
        end -= 8
        hmac = body[max(end, 0) :]
    port = 0
    if end in (8, 20):
        end -= 2
        port = _u16(body, end)
    if end not in (6, 18):
        return None
    return AddAddr(body[1], body[2:end], port, hmac)


def _parse_remove_addr(body: bytes) -> RemoveAddr | None:
    return RemoveAddr(tuple(body[1:])) if len(body) > 1 else None


def _parse_prio(body: bytes) -> MpPrio | None:
    return MpPrio(bool(body[0] & 1)) if len(body) == 1 else None


def _parse_fail(body: bytes) -> MpFail | None:
    return MpFail(int.from_bytes(body[2:], "big")) if len(body) == 10 else None


def _parse_fastclose(body: bytes) -> MpFastclose | None:
    return MpFastclose(body[2:]) if len(body) == 10 else None


def _parse_tcprst(body: bytes) -> MpTcprst | None:
    return MpTcprst(body[1], bool(body[0] & 1)) if len(body) == 2 else None


_PARSERS = {
    MP_CAPABLE: _parse_capable,
    MP_JOIN: _parse_join,
    DSS: _parse_dss,
    ADD_ADDR: _parse_add_addr,
    REMOVE_ADDR: _parse_remove_addr,
    MP_PRIO: _parse_prio,
    MP_FAIL: _parse_fail,
    MP_FASTCLOSE: _parse_fastclose,
    MP_TCPRST: _parse_tcprst,
}
