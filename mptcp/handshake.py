"""How subflows open: MP_CAPABLE (RFC 8684 §3.1) and MP_JOIN (§3.2), both roles, and what to do when it fails.

In version 1 the client's key travels with the third ACK, and with the first text. So a client goes on saying
MP_CAPABLE on its first byte until a DSS option shows that the server has it; and one who joined goes on saying MP_JOIN
until the fourth ACK, and sends no text before.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mptcp import fastopen
from mptcp.crypto import JOIN_LONG, JOIN_SHORT, join_hmac, same
from mptcp.options import (
    CHECKSUM_REQUIRED,
    DENY_JOIN_ID0,
    EXTENSIBILITY,
    HMAC_SHA256,
    KIND,
    RST_EMPTCP,
    RST_EPROHIBIT,
    VERSION,
    Dss,
    MpCapable,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    Option,
    pad,
    parse,
)
from stack.errors import Malformed
from stack.events import CONNECTED
from stack.tcp.state import SYN_SENT
from stack.units import Nanos
from stack.wire.tcp import ACK, Segment
from stack.wire.tcp_options import RawOption

if TYPE_CHECKING:
    from mptcp.subflow import Subflow
    from stack.tcp.conn import TcpConn


def mp_options(options: Sequence[RawOption]) -> list[Option]:
    """The MPTCP options among these; one that is malformed counts as absent."""
    found = []
    for kind, body in options:
        if kind == KIND:
            try:
                found.append(parse(body))
            except Malformed:
                continue
    return found


def capable_flags(checksum: bool, deny_join: bool) -> int:
    """The flags of our MP_CAPABLE."""
    return HMAC_SHA256 | (CHECKSUM_REQUIRED if checksum else 0) | (DENY_JOIN_ID0 if deny_join else 0)


def usable(option: MpCapable) -> bool:
    """True if we can speak what it asks for."""
    return option.version == VERSION and bool(option.flags & HMAC_SHA256) and not option.flags & EXTENSIBILITY


# ---------------------------------------------------------------------- what leaves


def syn_options(sub: "Subflow", conn: "TcpConn", flags: int) -> bytes:
    """On SYN and SYN-ACK. After net.mptcp.syn_retrans_before_tcp_fallback lost SYNs a middlebox may be to blame."""
    meta = sub.meta
    passive = bool(flags & ACK) and conn.passive
    if sub.plain:
        return b""
    if sub.initial:
        if not conn.passive and conn.syn_retries >= meta.host.sysctl.syn_retrans_before_tcp_fallback:
            if conn.syn_retries == meta.host.sysctl.syn_retrans_before_tcp_fallback:
                meta.host.mib.MPTcpExtMPCapableSYNTXDrop += 1
            return b""
        key = meta.key_local if passive else None
        if not passive and not conn.syn_retries:
            meta.host.mib.MPTcpExtMPCapableSYNTX += 1
        return MpCapable(capable_flags(meta.checksum, meta.deny_join), sender_key=key).emit()
    if passive:
        proof = join_hmac(meta.key_local, meta.key_remote, sub.nonce, sub.peer_nonce)[:JOIN_SHORT]
        return MpJoinSynAck(sub.local_id, proof, sub.nonce, sub.request_bkup).emit()
    if not conn.syn_retries:
        meta.host.mib.MPTcpExtMPJoinSynTx += 1
    return MpJoinSyn(sub.local_id, meta.remote_token, sub.nonce, sub.request_bkup).emit()


def third_ack(sub: "Subflow", conn: "TcpConn", seq: int, size: int) -> bytes:
    """What stands in place of DSS until the peer has shown that it got the third ACK; nothing where DSS is due."""
    meta = sub.meta
    if sub.initial:
        if conn.passive or seq != conn.tcb.iss + 1 + sub.early_out:
            return b""
        flags = capable_flags(meta.checksum, meta.deny_join)
        if not size:
            return pad(MpCapable(flags, meta.key_local, meta.key_remote).emit())
        run = sub.sent.at(seq)
        assert run is not None
        return pad(MpCapable(flags, meta.key_local, meta.key_remote, run.size, run.checksum).emit())
    proof = join_hmac(meta.key_local, meta.key_remote, sub.nonce, sub.peer_nonce)[:JOIN_LONG]
    return MpJoinAck(proof).emit()


# ---------------------------------------------------------------------- what arrives: the side that opened


def on_syn_ack(sub: "Subflow", conn: "TcpConn", options: Sequence[RawOption]) -> None:
    """The peer's answer: its key, or its proof that it knows both."""
    found = mp_options(options)
    meta = sub.meta
    mib = meta.host.mib
    if sub.initial:
        if sub.plain:
            return
        answer = next((each for each in found if isinstance(each, MpCapable)), None)
        if answer is None or answer.sender_key is None or not usable(answer):
            mib.MPTcpExtMPCapableFallbackSYNACK += 1
            if conn.syn_retries >= meta.host.sysctl.syn_retrans_before_tcp_fallback:
                mib.MPTcpExtBlackhole += 1
                meta.host.blackholes.found(conn.demux.clock)
            meta.fall_back("the server's SYN-ACK had no usable MP_CAPABLE: it does not speak MPTCP, or a box strips it")
            return
        mib.MPTcpExtMPCapableSYNACKRX += 1
        meta.checksum = meta.checksum or bool(answer.flags & CHECKSUM_REQUIRED)
        meta.peer_denies_join = bool(answer.flags & DENY_JOIN_ID0)
        meta.take_remote_key(answer.sender_key)
        fastopen.settle(meta, sub)
        return
    proof = next((each for each in found if isinstance(each, MpJoinSynAck)), None)
    if proof is None:
        mib.MPTcpExtMPJoinRejected += 1
        refuse(sub, conn, RST_EMPTCP, "the SYN-ACK to a join carried no MP_JOIN")
        return
    sub.peer_nonce = proof.nonce
    sub.remote_id = proof.address_id
    sub.peer_bkup = proof.backup
    mib.MPTcpExtMPJoinSynAckRx += 1
    if proof.backup:
        mib.MPTcpExtMPJoinSynAckBackupRx += 1
    if not same(proof.hmac, join_hmac(meta.key_remote, meta.key_local, proof.nonce, sub.nonce)[:JOIN_SHORT]):
        mib.MPTcpExtMPJoinSynAckHMacFailure += 1
        refuse(sub, conn, RST_EPROHIBIT, "the SYN-ACK's HMAC is wrong")


def on_connected(sub: "Subflow", conn: "TcpConn", now: Nanos) -> None:
    """The TCP handshake is over."""
    if sub.gone:
        conn.abort()  # its SYN-ACK was no good
        return
    if conn.state is SYN_SENT:
        sub.meta.post(CONNECTED)  # as far as the program is concerned: the SYN waits for its text
        return
    sub.adopt(conn)
    if not sub.initial:
        return  # a join is complete with its fourth ACK; a passive one was settled by its third
    sub.joined = True
    if not sub.plain and not conn.passive:
        sub.meta.host.blackholes.worked(now)
    sub.meta.on_established(now)


# ---------------------------------------------------------------------- what arrives: the side that was opened


def on_third_ack(sub: "Subflow", conn: "TcpConn", seg: Segment, now: Nanos) -> bool:
    """True if it completes a join; a first subflow belongs to the listener whatever it says."""
    found = mp_options(seg.unknown_options()) if seg.options else []
    if sub.initial:
        _capable_completes(sub, conn, seg, found, now)
        return False
    meta = sub.meta
    mib = meta.host.mib
    mib.MPTcpExtMPJoinAckRx += 1
    proof = next((each for each in found if isinstance(each, MpJoinAck)), None)
    expected = join_hmac(meta.key_remote, meta.key_local, sub.peer_nonce, sub.nonce)[:JOIN_LONG]
    if proof is None:
        refuse(sub, conn, RST_EMPTCP, "the third ACK of a join carried no MP_JOIN")
    elif not same(proof.hmac, expected):
        mib.MPTcpExtMPJoinAckHMacFailure += 1
        refuse(sub, conn, RST_EPROHIBIT, "the third ACK's HMAC is wrong")
    elif meta.is_over or not meta.may_join():
        mib.MPTcpExtMPJoinRejected += 1
        refuse(sub, conn, RST_EPROHIBIT, "no further subflow is wanted")
    else:
        sub.joined = sub.heard = True
        conn.ack_due = True  # the fourth ACK: whoever joined waits for it
        meta.add_subflow(sub)
        meta.on_join(sub, now)
    return True


def _capable_completes(sub: "Subflow", conn: "TcpConn", seg: Segment, found: list[Option], now: Nanos) -> None:
    meta = sub.meta
    option = next((each for each in found if isinstance(each, MpCapable)), None)
    sound = option is not None and option.sender_key is not None and option.receiver_key == meta.key_local
    if option is None or option.sender_key is None or not sound:
        end = _end_without_key(conn, seg, found)
        if end is not None:
            sub.joined = True
            meta.begin_without_key(end)
            return
        meta.host.mib.MPTcpExtMPCapableFallbackACK += 1
        if conn.established:  # on its SYN: the program has it already
            meta.fall_back("the client's third ACK had no usable MP_CAPABLE: a box strips it")
            return
        meta.withdraw()
        conn.ext = None  # plain TCP, without a trace of us
        return
    meta.host.mib.MPTcpExtMPCapableACKRX += 1
    sub.joined = True
    meta.take_remote_key(option.sender_key)


def _end_without_key(conn: "TcpConn", seg: Segment, found: list[Option]) -> int | None:
    """The DSN of a DATA_FIN where the third ACK ought to be; None if there is none.

    Linux's client says nothing else where its program shut down before the SYN-ACK came, as with text in the SYN; ours
    has the two take turns, and either may be lost. Linux's server falls back, and both wait for ever for the end.
    """
    for each in found:
        if isinstance(each, Dss) and each.data_fin and each.mapping is not None:
            first = each.mapping.wide and each.mapping.length == 1 and seg.seq == conn.tcb.rcv_nxt
            return each.mapping.dsn if first else None
    return None


def refuse(sub: "Subflow", conn: "TcpConn", reason: int, why: str) -> None:
    """RST with a reason; the connection goes on without it."""
    sub.meta.reset_subflow(sub, conn, reason, why)
