"""A subflow: one TCP connection of a Multipath TCP connection, and the extension that makes it one.

It turns the verbs of stack/tcp/extension.py into what the parts here do: mptcp/handshake.py opens it, mptcp/dss.py
writes and reads the options of its segments, mptcp/receive.py and mptcp/send.py move text between it and the
connection. To schedulers it is a Path (mptcp/sched/base.py).
"""

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from mptcp import dss, handshake
from mptcp.maps import ReceivedRuns, Run, SentRuns
from stack.events import CLOSED, CONNECTED, FAILED, PEER_CLOSED, READABLE, WRITABLE
from stack.tcp.extension import TcpExtension
from stack.tcp.timers import NEVER
from stack.units import MSEC, Nanos
from stack.wire.tcp import RST, SYN, Segment
from stack.wire.tcp_options import RawOption

if TYPE_CHECKING:
    from mptcp.connection import MptcpConn
    from stack.tcp.conn import TcpConn


QUIET_LEAST = 20 * MSEC
DELAYED_ACK = 45 * MSEC


class Role(Enum):
    """How a subflow came to be."""

    CAPABLE = 1  # with the connection
    JOIN = 2  # later


class Subflow(TcpExtension):
    """One path. `conn` is set as soon as there is a TCP connection; until `joined` no text goes over it.

    `plain` is a subflow without MPTCP: the only one of a connection that fell back.
    """

    __slots__ = (
        "bytes_sent",
        "conn",
        "cursor",
        "early_in",
        "early_out",
        "early_turn",
        "fail_due",
        "fast_open",
        "gone",
        "heard",
        "held",
        "held_seq",
        "held_size",
        "id",
        "joined",
        "local_id",
        "meta",
        "nonce",
        "optionless",
        "peer_bkup",
        "peer_hmac",
        "peer_nonce",
        "penalised_at",
        "plain",
        "prio_due",
        "remote_id",
        "request_bkup",
        "reserve",
        "role",
        "rst_option",
        "rst_reason",
        "runs",
        "sending",
        "sent",
        "silences",
        "silent",
        "silent_una",
        "weight",
    )

    def __init__(self, meta: "MptcpConn", ident: int, role: Role, local_id: int = 0, remote_id: int = 0) -> None:
        self.meta = meta
        self.id = ident
        self.role = role
        self.reserve = dss.DATA_ROOM
        self.fast_open = role is Role.CAPABLE  # text in the SYN of a join belongs nowhere
        self.early_out = self.early_in = 0  # text that our SYN and the peer's brought, outside all mappings
        self.local_id = local_id
        self.remote_id = remote_id
        self.conn: TcpConn = None  # type: ignore[assignment]  # set right after, by whoever makes both
        self.request_bkup = False  # we asked the peer to use it only as a backup
        self.peer_bkup = False  # the peer asked us
        self.joined = False  # the handshake of RFC 8684 §3.1 or §3.2 is over and good
        self.early_turn = True  # the next early ACK carries our keys, even if there is a DATA_FIN to tell
        self.heard = False  # a DSS option arrived: the peer's options get through
        self.optionless = 0  # acknowledgments in a row that carried no option of MPTCP
        self.silent_una = 0  # what the last of them acknowledged
        self.plain = False
        self.gone = False  # on its way out: gets nothing new
        self.silent = False  # a time-out passed since the peer was heard
        self.silences = 0  # … so often in a row
        self.weight = 1
        self.nonce = self.peer_nonce = b""
        self.peer_hmac = b""
        self.prio_due = False  # MP_PRIO is to be sent
        self.fail_due = -1  # MP_FAIL for this DSN is to be sent
        self.rst_option = b""  # what our RST says: MP_TCPRST or MP_FASTCLOSE
        self.rst_reason = 0  # what the peer's said, or why we closed it (MP_TCPRST, §3.6)
        self.sent = SentRuns()
        self.sending: Run | None = None  # the one that the packet is part of that is being made
        self.runs = ReceivedRuns()
        self.held: list[memoryview] = []  # text that waits for its mapping, or for the rest of it to be summed
        self.held_seq = 0  # where that begins
        self.held_size = 0
        self.cursor = 0  # how far it is with the data, where every path sends all of it
        self.bytes_sent = 0  # assigned, by data
        self.penalised_at: Nanos = 0

    # ------------------------------------------------------------------ as schedulers see it

    @property
    def backup(self) -> bool:
        """Either side asked for it to be used only when there is no other."""
        return self.request_bkup or self.peer_bkup

    @property
    def initial(self) -> bool:
        """The one that the connection began with."""
        return self.role is Role.CAPABLE

    @property
    def stale(self) -> bool:
        """Silent for longer than net.mptcp.stale_loss_cnt time-outs."""
        return 0 < self.meta.host.sysctl.stale_loss_cnt < self.silences

    @property
    def srtt(self) -> Nanos:
        """Smoothed round trip; 0 before the first sample."""
        return self.conn.rtt.srtt

    @property
    def rttvar(self) -> Nanos:
        """Its variation."""
        return self.conn.rtt.rttvar

    @property
    def cwnd(self) -> int:
        """Congestion window, bytes."""
        return self.conn.cc.cwnd

    @property
    def mss(self) -> int:
        """Text in a full segment."""
        return self.conn.tcb.mss_cache - self.reserve

    @property
    def in_flight(self) -> int:
        """Bytes given to it that its peer has not acknowledged, sent or not."""
        return self.conn.send_queued

    @property
    def room(self) -> int:
        """Bytes that it may take now: one segment at least, or 0."""
        room = self.conn.room()
        return room if room >= self.mss or (room > 0 and not self.conn.send_queued) else 0

    @property
    def pacing_rate(self) -> int:
        """Bytes a second that it can carry, by its window and round trip."""
        return self.cwnd * 1_000_000_000 // self.srtt if self.srtt else 0

    @property
    def usable(self) -> bool:
        """Text may be given to it."""
        return self.joined and not self.gone and not self.conn.fin_queued and self.conn.established

    def adopt(self, conn: "TcpConn") -> None:
        """Nagle is the connection's affair, and so is the buffer: a subflow only puts its own segments in order."""
        conn.rcvbuf.auto = False
        conn.rcvbuf.size = conn.rcvbuf.limit
        self.weight = self.meta.weights.get((conn.local[0], conn.remote[0]), 1)
        if not self.plain:
            conn.options.nodelay, conn.options.cork, conn.options.linger = True, False, -1

    # ------------------------------------------------------------------ the verbs of an extension

    def options(self, conn: "TcpConn", flags: int, room: int, seq: int, size: int, now: Nanos) -> bytes:
        """MPTCP's on every segment but those of a plain subflow."""
        if not flags & (SYN | RST) and not self.plain:
            return dss.emit(self, conn, room, seq, size, now)
        if flags & SYN:
            return handshake.syn_options(self, conn, flags)
        return dss.last_words(self, seq, size) if self.plain else self.rst_option

    def on_syn(self, conn: "TcpConn", options: Sequence[RawOption], now: Nanos) -> None:
        """The SYN-ACK, to whoever opened; a SYN was read by the host already."""
        self.conn = conn
        if not conn.passive:
            handshake.on_syn_ack(self, conn, options)

    def claims(self, conn: "TcpConn", seg: Segment, now: Nanos) -> bool:
        """A join belongs to its connection, not to the listener."""
        return handshake.on_third_ack(self, conn, seg, now)

    def endpoint(self, conn: "TcpConn") -> Any:
        """Programs accept the connection as a whole, or plain TCP where the peer is not for more."""
        return conn if conn.ext is not self else self.meta

    def on_segment(self, conn: "TcpConn", seg: Segment, now: Nanos) -> bool:
        """Read its options: mappings, acknowledgments of data, addresses."""
        if self.silent:
            if self.stale:
                self.meta.host.mib.MPTcpExtSubflowRecover += 1
            self.silent = False
            self.silences = 0
        if self.plain:
            meta = self.meta
            meta.tx.plain_progress(self, now)
            if meta.passive and not meta.key_remote and seg.options:
                meta.end_without_key(self, seg)
        else:
            dss.take(self, conn, seg, now)
        return True

    takes = dss.predicted

    def on_text(self, conn: "TcpConn", text: memoryview, now: Nanos) -> None:
        """As `takes` has seen, it is the connection's next."""
        self.meta.rx.next_arrived(text, now)

    def on_reset(self, conn: "TcpConn", seg: Segment, now: Nanos) -> None:
        """Why, if it says."""
        if not self.plain:
            dss.take_reset(self, seg, now)

    def on_news(self, conn: "TcpConn", bits: int) -> int:
        """What befalls the subflow; the connection decides what its program hears of it."""
        meta, now = self.meta, conn.demux.clock
        if bits & CONNECTED:
            handshake.on_connected(self, conn, now)
        if bits & READABLE:
            meta.rx.text_arrived(self, now)
        if bits & PEER_CLOSED:
            meta.on_subflow_fin(self, now)
        if bits & WRITABLE:
            meta.wake_subflows()
        if bits & (FAILED | CLOSED):
            meta.on_subflow_end(self, now)
        return 0

    def on_cc(self, conn: "TcpConn") -> None:
        """Coupled congestion controls know each other."""
        join = getattr(conn.cc, "join", None)
        if join is not None:
            join(self.meta.group)

    def on_silence(self, conn: "TcpConn", now: Nanos) -> None:
        """What it holds may never arrive: let the others carry it as well."""
        stale = self.stale
        self.silences += 1
        if self.stale and not stale:
            self.meta.host.mib.MPTcpExtSubflowStale += 1
        self.miss(now)

    def miss(self, now: Nanos) -> None:
        """It may be dead."""
        if not self.silent:
            self.silent = True
            self.meta.tx.rescue(self, now)

    @property
    def missed_at(self) -> Nanos:
        """When the peer has been quiet for too long, given what it was sent; NEVER with nothing out.

        Its acknowledgment is due a round trip after the oldest text was sent; while others come, the peer is there.
        Sooner than TCP's probe, which does not run in recovery: carrying text twice costs little beside a stall.
        """
        head = self.conn.board.first()
        if head is None or self.silent or self.gone:
            return NEVER
        rtt = self.conn.rtt
        patience = max(rtt.srtt // 4, 2 * rtt.rttvar) + QUIET_LEAST
        if self.in_flight < 2 * self.mss:
            patience += DELAYED_ACK
        return max(head.sent_at + rtt.srtt, self.conn.counts.last_ack_recv) + patience

    def feed(self, conn: "TcpConn", now: Nanos) -> bool:
        """It may have room for more."""
        return self.meta.tx.feed(self, now)

    def limit(self, conn: "TcpConn", seq: int, size: int) -> int:
        """No packet crosses a mapping."""
        self.sending = run = self.sent.at(seq)
        return size if run is None or self.plain or size <= run.end - seq else run.end - seq

    def rcv_window(self, conn: "TcpConn", free: int) -> int:
        """One receive buffer for all subflows, RFC 8684 §3.3.1."""
        return self.meta.rx.window(free)
