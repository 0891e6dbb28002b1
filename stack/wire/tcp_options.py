"""TCP options on the wire, RFC 9293 §3.1, 7323 §2–3, 2018.

SYN options are parsed into a `SynOptions`; after the handshake only timestamps and SACK matter, and `wire.tcp` reads
those in place. Unknown kinds are kept as raw (kind, data) pairs for whoever asked for them.
"""

from dataclasses import dataclass, field
from struct import Struct

from stack.errors import Malformed

RawOption = tuple[int, bytes]  # kind, data behind the length

EOL, NOP, MSS, WSCALE, SACK_OK, SACK, TIMESTAMPS = 0, 1, 2, 3, 4, 5, 8
ACCECN = ACCECN0, ACCECN1 = 172, 174  # RFC 9768 §3.2.3
KNOWN = frozenset((EOL, NOP, MSS, WSCALE, SACK_OK, SACK, TIMESTAMPS, *ACCECN))

TS_PREFIX = b"\x01\x01\x08\x0a"  # NOP NOP TIMESTAMPS 10: how nearly every stack lays them out
TS_OPTION = Struct("!III")  # prefix as one number, TSval, TSecr
TS_PREFIX_INT = int.from_bytes(TS_PREFIX, "big")
TS_OPTION_LEN = 12
_PAIR = Struct("!II")
_U16 = Struct("!H")


@dataclass(slots=True, eq=False)
class SynOptions:
    """What a SYN or SYN-ACK offers; None where the option is absent."""

    mss: int | None = None
    wscale: int | None = None
    sack_ok: bool = False
    ts_val: int | None = None
    ts_ecr: int = 0
    unknown: list[RawOption] = field(default_factory=list)


def split_options(data: bytes | memoryview) -> list[RawOption]:
    """(kind, data) of each option, NOPs left out, ending at EOL.

    Raises Malformed when a length runs past the header or below two (RFC 9293 MUST-7).
    """
    found = []
    at, end = 0, len(data)
    while at < end:
        kind = data[at]
        if kind == EOL:
            break
        if kind == NOP:
            at += 1
            continue
        if at + 1 >= end:
            raise Malformed("TCP option without length")
        length = data[at + 1]
        if length < 2 or at + length > end:
            raise Malformed("TCP option length")
        found.append((kind, bytes(data[at + 2 : at + length])))
        at += length
    return found


def parse_syn_options(data: bytes | memoryview) -> SynOptions:
    """Options of a SYN. An option of a known kind but the wrong length is ignored, as Linux does. Raises Malformed."""
    opts = SynOptions()
    for kind, body in split_options(data):
        if kind == MSS and len(body) == 2:
            opts.mss = _U16.unpack(body)[0]
        elif kind == WSCALE and len(body) == 1:
            opts.wscale = min(body[0], 14)  # RFC 7323 §2.3: larger is taken as 14
        elif kind == SACK_OK and not body:
            opts.sack_ok = True
        elif kind == TIMESTAMPS and len(body) == 8:
            opts.ts_val, opts.ts_ecr = _PAIR.unpack(body)
        else:
            opts.unknown.append((kind, body))
    return opts


def emit_syn_options(mss: int, wscale: int | None, sack_ok: bool, ts: tuple[int, int] | None) -> bytes:
    """Options of a SYN in Linux's order (MSS, SACK-permitted with timestamps, window scale), padded to 4 bytes."""
    out = bytearray((MSS, 4)) + _U16.pack(mss)
    if ts is not None:
        out += bytes((SACK_OK, 2) if sack_ok else (NOP, NOP)) + bytes((TIMESTAMPS, 10)) + _PAIR.pack(*ts)
    elif sack_ok:
        out += bytes((NOP, NOP, SACK_OK, 2))
    if wscale is not None:
        out += bytes((NOP, WSCALE, 3, wscale))
    return bytes(out)


def emit_sack(blocks: list[tuple[int, int]]) -> bytes:
    """NOP NOP SACK with the given (left, right) wire edges."""
    return bytes((NOP, NOP, SACK, 2 + 8 * len(blocks))) + b"".join([_PAIR.pack(*block) for block in blocks])


def parse_sack(body: bytes) -> list[tuple[int, int]]:
    """(left, right) wire edges of a SACK option's body; a body of the wrong length has none."""
    if len(body) % 8:
        return []
    return [_PAIR.unpack_from(body, at) for at in range(0, len(body), 8)]
