"""TCP Fast Open, RFC 7413: text in the SYN, from peers that hold a cookie of ours and to those that gave us one.

Cookies are a keyed hash of both addresses, so nothing is stored for them (§4.1.2). A client keeps the last cookie and
MSS of a bounded number of servers. Text in a SYN that is not acknowledged by the SYN-ACK simply stays unsent: it goes
out again as if for the first time. A SYN sent again carries neither text nor cookie, as in Linux, since a middlebox may
have dropped the first for them; three time-outs in a row pause Fast Open (tcp_fastopen_blackhole_timeout_sec), longer
each time. Deviation from Linux: only kind 34, not the experimental option of old kernels.
"""

from hashlib import blake2b
from typing import TYPE_CHECKING

from stack.ip.addr import LOOPBACK4, LOOPBACK6
from stack.units import SEC, Nanos
from stack.wire.tcp import Segment
from stack.wire.tcp_options import NOP, SynOptions

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn
    from stack.tcp.demux import TcpDemux
    from stack.tcp.listen import TcpListener

KIND = 34
COOKIE_LEN = 8
COOKIE_MIN, COOKIE_MAX = 4, 16
CACHE = 1024  # servers whose cookie we keep
# net.ipv4.tcp_fastopen
CLIENT, SERVER, CLIENT_NO_COOKIE, SERVER_NO_COOKIE, ALL_LISTENERS = 0x1, 0x2, 0x4, 0x200, 0x400
MAX_OPTIONS = 40
TIMEOUTS = 2  # earlier ones, when another means a black hole


class ClientOpen:
    """Fast Open of one active connection."""

    __slots__ = ("cookie", "deferred", "mss", "sent")

    def __init__(self, cookie: bytes | None, mss: int) -> None:
        self.cookie = cookie  # None: ask for one
        self.mss = mss
        self.sent = 0  # bytes of text in the SYN
        self.deferred = False  # the SYN waits for the first text

    def over(self) -> None:
        """The handshake is."""


class ServerOpen:
    """A connection that was accepted on its SYN; counts against its listener until the handshake completes."""

    __slots__ = ("_listener",)

    sent = 0
    deferred = False

    def __init__(self, listener: "TcpListener") -> None:
        self._listener: TcpListener | None = listener
        listener.fast_pending += 1

    def over(self) -> None:
        """The handshake completed or failed."""
        if self._listener is not None:
            self._listener.fast_pending -= 1
            self._listener = None


class FastOpen:
    """Cookies of one stack, given and received."""

    __slots__ = ("_cache", "_demux", "_key", "_paused_at", "_pauses")

    def __init__(self, demux: "TcpDemux", secret: bytes) -> None:
        self._demux = demux
        self._key = blake2b(secret, digest_size=32, person=b"nuse fastopen").digest()
        self._cache: dict[bytes, tuple[int, bytes]] = {}
        self._paused_at: Nanos = 0
        self._pauses = 0

    # ------------------------------------------------------------------ server

    def cookie(self, key: bytes) -> bytes:
        """What the client of this flow is given."""
        return blake2b(key[:-4], digest_size=COOKIE_LEN, key=self._key).digest()

    def judge(self, listener: "TcpListener", key: bytes, seg: Segment, peer: SynOptions) -> tuple[bool, bytes]:
        """(accept on the SYN, cookie to send back or nothing), §4.2.2; as Linux's tcp_try_fastopen."""
        shown = next((body for kind, body in peer.unknown if kind == KIND), None)
        mode, mib = self._demux.sysctl.tcp_fastopen, self._demux.mib
        if shown is not None and shown and not COOKIE_MIN <= len(shown) <= COOKIE_MAX:
            shown = None
        if shown == b"":
            mib.TcpExtTCPFastOpenCookieReqd += 1
        most = listener.options.fastopen or (listener.backlog if mode & ALL_LISTENERS else 0)
        if not mode & SERVER or not most or (shown is None and not seg.length):
            return False, b""
        if listener.fast_pending >= most:
            mib.TcpExtTCPFastOpenListenOverflow += 1
            return False, b""
        if mode & SERVER_NO_COOKIE:
            mib.TcpExtTCPFastOpenPassive += 1
            return True, b""
        if shown is None:
            return False, b""
        right = self.cookie(key)
        if shown == right:
            mib.TcpExtTCPFastOpenPassive += 1
            return True, b""
        if shown:
            mib.TcpExtTCPFastOpenPassiveFail += 1
        return False, right

    # ------------------------------------------------------------------ client

    def begin(self, dst: bytes, now: Nanos) -> ClientOpen | None:
        """For a connect() that wants it; None if it must be an ordinary one."""
        mode = self._demux.sysctl.tcp_fastopen
        if not mode & CLIENT or self.paused(now):
            return None
        mss, cookie = self._cache.get(dst, (0, None))
        if cookie is None and mode & CLIENT_NO_COOKIE:
            cookie = b""
        return ClientOpen(cookie, mss or (536 if len(dst) == 4 else 1220))

    def learn(self, conn: "TcpConn", opened: ClientOpen, peer: SynOptions, acked: int) -> None:
        """The SYN-ACK is here: keep its cookie; was our text taken?"""
        dst, mib = conn.remote[0], self._demux.mib
        shown = next((body for kind, body in peer.unknown if kind == KIND), b"")
        if COOKIE_MIN <= len(shown) <= COOKIE_MAX and not len(shown) & 1:
            self._cache.pop(dst, None)
            self._cache[dst] = (conn.tcb.peer_mss, shown)
            while len(self._cache) > CACHE:
                del self._cache[next(iter(self._cache))]
        if opened.sent:
            if acked >= opened.sent:
                mib.TcpExtTCPFastOpenActive += 1
            else:
                mib.TcpExtTCPFastOpenActiveFail += 1

    def paused(self, now: Nanos) -> bool:
        """A black hole was met lately: each time in a row pauses twice as long, up to 64 times the sysctl."""
        span = self._demux.sysctl.tcp_fastopen_blackhole_timeout_sec * SEC
        return bool(span and self._pauses) and now - self._paused_at < span << min(self._pauses - 1, 6)

    def on_timeout(self, conn: "TcpConn", before: int, expired: bool, now: Nanos) -> None:
        """A retransmission timer ran out after `before` others in a row."""
        if not isinstance(conn.fastopen, ClientOpen) or not (before == TIMEOUTS or (before < TIMEOUTS and expired)):
            return
        self._demux.mib.TcpExtTCPFastOpenActiveFail += 1
        if self._demux.sysctl.tcp_fastopen_blackhole_timeout_sec:
            self._pauses += 1
            self._paused_at = now
            self._demux.mib.TcpExtTCPFastOpenBlackhole += 1

    def worked(self, conn: "TcpConn") -> None:
        """A connection opened fast ended after it had carried text: there is no black hole."""
        local = conn.remote[0] in (LOOPBACK4, LOOPBACK6)
        if isinstance(conn.fastopen, ClientOpen) and conn.counts.data_segs_in and not local:
            self._pauses = 0


def option(cookie: bytes) -> bytes:
    """The option with its padding; an empty cookie asks for one."""
    return bytes((KIND, 2 + len(cookie))) + cookie + bytes((NOP,)) * (-(2 + len(cookie)) % 4)


def give_cookie(conn: "TcpConn", cookie: bytes) -> None:
    """On the SYN-ACK of a connection with an extension. It is short of room: no timestamps, as in Linux with MPTCP."""
    conn.syn_extra = option(cookie)
    conn.tcb.ts_ok = False
    conn.sync_mss()


def text_in_syn(conn: "TcpConn", opened: ClientOpen) -> int:
    """How much text the SYN takes: what fits the MSS that the server named last time, with all options there may be."""
    if opened.cookie is None:
        return 0
    room = min(opened.mss, conn.mtu - (60 if conn.v6 else 40)) - MAX_OPTIONS
    return max(min(len(conn.sendq), room), 0)


def take_ack(conn: "TcpConn", opened: "ClientOpen | ServerOpen", ack: int) -> None:
    """The peer acknowledges `ack`, unwrapped: text from our SYN up to there need not be sent again."""
    tcb = conn.tcb
    if tcb.iss + 1 < ack <= tcb.iss + 1 + opened.sent:
        tcb.snd_nxt = ack
        conn.sendq.ack_to(ack)
        conn.counts.bytes_acked += ack - tcb.iss - 1
