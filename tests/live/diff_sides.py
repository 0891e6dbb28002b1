"""The two that are compared: our stack on a virtual clock, and the kernel behind a TUN, each with a program's socket.

Both play the same script one line a step. A step is: the segment goes in or the program acts; then STEP passes, so that
every delayed ACK is out. What came out of each step, what the program saw and the state it left are the record.
"""

import errno
import fcntl
import select
import socket
import struct
import subprocess
import termios
import time
import zlib
from dataclasses import dataclass, field
from typing import Any

from kit import build, relative
from kit.oracle import Packet, decode
from kit.script import Line, parse_script
from kit.wire import Peer, Wire, pattern
from nuse.tun import Tun
from stack import Stack
from stack.config import Sysctl, sysctl_set
from stack.errors import StackError
from stack.ip.addr import parse_addr
from stack.tcp.state import State
from stack.units import MSEC

STEP = 210 * MSEC  # longer than the longest delayed ACK
AT_ONCE = 4 * MSEC  # what leaves by then is an answer, not a timer's work
QUIET = 0.004  # seconds without a packet after which an immediate answer will not come any more
HOST4, PEER4 = parse_addr("10.99.0.1"), parse_addr("10.99.0.2")
HOST6, PEER6 = parse_addr("fd99::1"), parse_addr("fd99::2")

# On both sides. Timers that depend on measured time are moved out of the way: the kernel's clock is not ours. Reno,
# as it is the only congestion control that every kernel lets every namespace choose.
COMMON = {
    "net.ipv4.tcp_congestion_control": "reno",
    "net.ipv4.tcp_rto_min_us": "30000000",
    "net.ipv4.tcp_early_retrans": "0",
    "net.ipv4.tcp_rmem": "4096 131072 6291456",
    "net.ipv4.tcp_wmem": "4096 65536 4194304",
    "net.ipv4.tcp_invalid_ratelimit": "0",
}
# What our stack does not have, off.
KERNEL_ONLY = {
    "net.ipv4.tcp_comp_sack_nr": "0",
    "net.ipv4.tcp_autocorking": "0",
    "net.ipv4.tcp_fastopen": "0",
    "net.ipv4.tcp_no_metrics_save": "1",
    "net.ipv4.tcp_syncookies": "0",
    "net.ipv6.conf.all.accept_dad": "0",
    "net.ipv4.icmp_ratelimit": "0",
}
# One profile a batch, since a namespace has but one set of sysctls.
PROFILES: list[dict[str, str]] = [
    {},
    {},
    {"net.ipv4.tcp_timestamps": "0"},
    {"net.ipv4.tcp_sack": "0"},
    {"net.ipv4.tcp_window_scaling": "0", "net.ipv4.tcp_dsack": "0"},
    {"net.ipv4.tcp_ecn": "1"},
    {"net.ipv4.tcp_ecn": "0", "net.ipv4.tcp_timestamps": "0", "net.ipv4.tcp_sack": "0"},
    {"net.ipv4.tcp_invalid_ratelimit": "100000000"},
]


@dataclass(slots=True, eq=False)
class Step:
    """What one line of a script led to."""

    result: str = ""  # of an `app` line
    out: list[str] = field(default_factory=list)
    state: str = ""


def describe(packet: Packet, peer: Peer) -> str:
    """A packet without what differs by nature: window beyond open or closed, clock, PSH."""
    packet.win = min(packet.win, 1)
    packet.flags &= ~8
    iss = 0 if packet.flags & build.RST and not packet.seq else peer.iss or 0  # RST without ACK to go by: 0 as it is
    text = relative.show(packet, iss, peer.isn, packet.timestamps[0] if packet.timestamps else 0)
    return text if packet.sport == peer.local_port else f"port {packet.sport}: {text}"


@dataclass(slots=True, eq=False)
class Side(Wire):
    """One script's wire to one of the two."""

    local_port: int = 80
    peer_port: int = 5001
    steps: list[Step] = field(default_factory=list)
    role: str = "server"
    early: bool = True  # still at the moment of the step, not in the time after
    syn_seen: bool = False

    def begin(self, role: str) -> None:
        self.role = role
        self.peers[1] = Peer(port=self.peer_port, local_port=self.local_port)
        if role == "server":
            self.app_listen()

    def play_line(self, line: str) -> None:
        """Do it; what comes out is gathered with `gather`."""
        self.steps.append(Step())
        self.early = True
        verb, rest = line.split(" ", 1)
        if verb in ("in", "bad"):
            packet = self.segment(self.parse(rest).segment)  # type: ignore[arg-type]
            if verb == "bad":
                at = 10 + (40 if self.v6 else 20) + 16
                packet = packet[:at] + bytes([packet[at] ^ 0x5A]) + packet[at + 1 :]
            self.put(packet)
        else:
            name, *args = rest.split()
            self.steps[-1].result = getattr(self, f"app_{name}")(*args) or ""

    def parse(self, rest: str) -> Line:
        return parse_script("+0 in " + rest)[0]

    def put(self, packet: bytes) -> None:
        raise NotImplementedError

    def gather(self, packet: Packet) -> None:
        """A packet of this step. A SYN that is repeated by a timer is no answer."""
        if packet.proto != 6:
            self.steps[-1].out.append(f"protocol {packet.proto}")
            return
        if packet.flags & build.SYN and (not self.early or (self.syn_seen and not packet.flags & build.ACK)):
            return
        self.syn_seen |= bool(packet.flags & build.SYN)
        self.steps[-1].out.append(describe(packet, self.peers[1]))

    def finish_step(self) -> None:
        self.steps[-1].state = self.state()

    def state(self) -> str:
        raise NotImplementedError


def _code(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error.errno))


def _digest(data: bytes) -> str:
    return f"{len(data)} bytes {zlib.crc32(data):08x}"


STATES = {state.value: state.name for state in State}


class OurSide(Side):
    """Our stack, with the least of a socket layer around a TcpConn: what the shim makes of it for programs."""

    def __post_init__(self) -> None:
        knobs = Sysctl()
        for name, value in self.sysctl.items():
            sysctl_set(knobs, name, value)
        self.stack = Stack(sysctl=knobs, secret=bytes(range(32)), now=self.clock.now)
        self.options.oobinline = True
        self.link = self.stack.add_link("tun0", [(HOST4, 24), (HOST6, 64)], offload=False)
        self.gone = self.told = self.deaf = False

    @property
    def stack_addr(self) -> bytes:
        return HOST6 if self.v6 else HOST4

    @property
    def peer_addr(self) -> bytes:
        return PEER6 if self.v6 else PEER4

    def put(self, packet: bytes) -> None:
        self.receive(packet)

    def settle(self) -> None:
        """Let the step's time pass."""
        end = self.clock.now + STEP
        self.flush()
        self.run_until(self.clock.now + AT_ONCE)
        self._take()
        self.early = False
        self.run_until(end)
        self._take()
        self.stack.check()

    def _take(self) -> None:
        for emitted in self.sent:
            self.gather(emitted.packet)
        self.sent.clear()

    def state(self) -> str:
        if self.gone:
            return "gone"
        if self.conn is None:
            return "-"
        name = self.conn.state.name
        return "CLOSED" if name == "TIME_WAIT" else str(name)  # a socket in TIME-WAIT is none any more, says Linux

    # --- the program

    def app_listen(self, backlog: str = "8") -> None:
        binding = self.stack.tcp.bind(self.stack_addr, self.local_port)
        self.listener = self.stack.tcp.listen(binding, int(backlog), options=self.options.copy())

    def app_accept(self) -> str:
        if self.listener is None or self.conn is not None or self.gone:
            return "no"
        self.conn = self.listener.accept()
        return "EAGAIN" if self.conn is None else "ok"

    def app_connect(self) -> str:
        binding = self.stack.tcp.bind(self.stack_addr, self.local_port)
        self.conn = self.stack.tcp.connect(
            (self.peer_addr, self.peer_port), self.clock.now, binding=binding, options=self.options
        )
        return ""

    def _error(self) -> str:
        """SO_ERROR, once."""
        if self.conn.error and not self.told:
            self.told = True
            return errno.errorcode[self.conn.error]
        return ""

    def app_recv(self, count: str) -> str:
        conn = self.conn
        if conn is None or self.gone:
            return "no"
        data = b""
        while len(data) < int(count) and conn.readable:
            piece = b"".join(conn.views(int(count) - len(data)))
            conn.consume(len(piece))
            data += piece
        if data:
            return _digest(data)
        if conn.peer_closed:
            return "end"
        if error := self._error():
            return error
        if self.deaf or (conn.state is State.CLOSED and conn.established) or conn.state is State.TIME_WAIT:
            return "end"
        if conn.state is State.CLOSED:
            return "end" if conn.error else "ENOTCONN"
        return "EAGAIN"

    def app_send(self, count: str) -> str:
        conn = self.conn
        if conn is None or self.gone:
            return "no"
        if error := self._error():
            return error
        if conn.state is State.CLOSED:
            return "EPIPE"
        if not conn.established:
            return "EAGAIN"
        try:
            conn.send(pattern(self.written, int(count)))
        except StackError as error:
            return _code(error)
        self.written += int(count)
        return "ok"

    def app_setopt(self, name: str, value: str) -> str:
        if self.conn is None or self.gone:
            return "no"
        if name == "linger":
            self.conn.options.linger = int(value)
        else:
            self.conn.set_option(name, int(value))
        return "ok"

    def app_shutdown(self, how: str) -> str:
        conn = self.conn
        if conn is None or self.gone:
            return "no"
        if conn.state in (State.CLOSED, State.TIME_WAIT):
            return "ENOTCONN"
        if conn.state is State.SYN_SENT:
            return "skipped"
        if "r" in how.replace("wr", ""):
            conn.shutdown_read()
            self.deaf = True
        if "wr" in how:
            conn.shutdown()
        return "ok"

    def app_close(self) -> str:
        if self.conn is None or self.gone:
            return "no"
        self.conn.close()
        self.gone = True
        return "ok"


class KernelSide(Side):
    """The kernel's TCP behind a TUN that many scripts share, told apart by port."""

    def __post_init__(self) -> None:
        self.kernel: Any = None  # set by Kernel
        self.sock: Any = None
        self.listening: Any = None
        self.gone = False

    @property
    def stack_addr(self) -> bytes:
        return HOST6 if self.v6 else HOST4

    @property
    def peer_addr(self) -> bytes:
        return PEER6 if self.v6 else PEER4

    def put(self, packet: bytes) -> None:
        self.kernel.tun.write((packet,))

    def take(self, packet: Packet) -> None:
        """A packet from the kernel to this script's peer."""
        self._note(packet)
        self.sent.clear()
        self.gather(packet)

    def state(self) -> str:
        if self.gone:
            return "gone"
        if self.sock is None:
            return "-"
        return STATES[self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]]

    # --- the program

    def _socket(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET6 if self.v6 else socket.AF_INET)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        sock.bind(("fd99::1" if self.v6 else "10.99.0.1", self.local_port))
        return sock

    def app_listen(self, backlog: str = "8") -> None:
        self.listening = self._socket()
        self.listening.listen(int(backlog))

    def app_accept(self) -> str:
        if self.listening is None or self.sock is not None or self.gone:
            return "no"
        try:
            self.sock, _ = self.listening.accept()
        except OSError as error:
            return _code(error)
        self.sock.setblocking(False)
        return "ok"

    def app_connect(self) -> str:
        self.sock = self._socket()
        self.sock.connect_ex(("fd99::2" if self.v6 else "10.99.0.2", self.peer_port))
        return ""

    def app_recv(self, count: str) -> str:
        """All there is up to `count`: the urgent mark ends a read of the kernel's early."""
        if self.sock is None or self.gone:
            return "no"
        data = b""
        while not data or (len(data) < int(count) and self._queued()):
            try:
                piece = self.sock.recv(int(count) - len(data))
            except OSError as error:
                return _digest(data) if data else _code(error)
            if not piece:
                return _digest(data) if data else "end"
            data += piece
        return _digest(data)

    def _queued(self) -> int:
        return int(struct.unpack("i", fcntl.ioctl(self.sock, termios.FIONREAD, bytes(4)))[0])

    def app_send(self, count: str) -> str:
        if self.sock is None or self.gone:
            return "no"
        try:
            sent = self.sock.send(pattern(self.written, int(count)), socket.MSG_NOSIGNAL)
        except OSError as error:
            return _code(error)
        self.written += sent
        return "ok" if sent == int(count) else f"{sent} bytes"

    def app_setopt(self, name: str, value: str) -> str:
        if self.sock is None or self.gone:
            return "no"
        if name == "linger":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, int(value)))
        else:
            number = {"nodelay": socket.TCP_NODELAY, "cork": socket.TCP_CORK, "quickack": socket.TCP_QUICKACK}[name]
            self.sock.setsockopt(socket.IPPROTO_TCP, number, int(value))
        return "ok"

    def app_shutdown(self, how: str) -> str:
        if self.sock is None or self.gone:
            return "no"
        if self.state() == "SYN_SENT":
            return "skipped"
        try:
            self.sock.shutdown({"rd": socket.SHUT_RD, "wr": socket.SHUT_WR, "rdwr": socket.SHUT_RDWR}[how])
        except OSError as error:
            return _code(error)
        return "ok"

    def app_close(self) -> str:
        if self.sock is None or self.gone:
            return "no"
        self.sock.close()
        self.gone = True
        return "ok"

    def abandon(self) -> None:
        """Free the kernel's sockets with a reset, which nobody reads."""
        for sock in (self.sock, self.listening):
            if sock is not None:
                if sock.fileno() >= 0:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()


class Kernel:
    """The TUN and its namespace, which this process must be alone in (`unshare --net`)."""

    def __init__(self) -> None:
        self.tun = Tun("diff-tun", offload=False)
        for words in (
            "link set lo up",
            "link set diff-tun mtu 1500 up",
            "addr add 10.99.0.1/24 dev diff-tun",
            "addr add fd99::1/64 dev diff-tun nodad",
        ):
            subprocess.run(["ip", *words.split()], check=True)
        self.defaults = {name: self._path(name, None) for profile in PROFILES for name in profile}
        self.poll = select.poll()
        self.poll.register(self.tun.fileno(), select.POLLIN)
        self.by_port: dict[int, KernelSide] = {}
        self.next_port = 0

    @staticmethod
    def _path(name: str, value: str | None) -> str:
        path = "/proc/sys/" + name.replace(".", "/")
        if value is not None:
            with open(path, "w") as file:
                file.write(value)
        with open(path) as file:
            return file.read().strip()

    def configure(self, profile: dict[str, str]) -> None:
        """The sysctls of the next batch."""
        for name, value in (self.defaults | COMMON | KERNEL_ONLY | profile).items():
            self._path(name, value)

    def ports(self) -> tuple[int, int]:
        """(local, peer's) of the next script; not used before."""
        self.next_port += 1
        return 1024 + self.next_port % 31_000, 2000 + self.next_port % 60_000

    def pump(self, until: float) -> None:
        """Hand out what comes until that time."""
        while True:
            while (raw := self.tun.read()) is not None:
                self._dispatch(raw)
            left = until - time.monotonic()
            if left <= 0 or not self.poll.poll(left * 1000 + 1):
                return

    def _dispatch(self, raw: bytes) -> None:
        proto = raw[19] if raw[10] >> 4 == 4 else raw[16]
        if proto != 6:
            return
        packet = decode(raw)
        side = self.by_port.get(packet.dport)
        if side is not None:
            side.take(packet)

    def quiet(self) -> None:
        """Hand out what comes until nothing does for a moment."""
        while self.poll.poll(QUIET * 1000):
            self.pump(0)

    def play(self, batch: list[tuple[KernelSide, list[str], str]]) -> None:
        """All scripts of a batch at once, in lockstep: (side, lines, role)."""
        self.by_port = {side.peer_port: side for side, _lines, _role in batch}
        for side, _lines, role in batch:
            side.kernel = self
            side.begin(role)
        for number in range(max(len(lines) for _side, lines, _role in batch)):
            active = [(side, lines[number]) for side, lines, _role in batch if number < len(lines)]
            start = time.monotonic()
            for side, line in active:
                side.play_line(line)
            self.quiet()
            for side, _line in active:
                side.early = False
                side.clock.advance_to(side.clock.now + STEP)
            self.pump(max(start, time.monotonic() - 0.2) + STEP / 1e9)
            for side, _line in active:
                side.finish_step()
        self.by_port = {}
        for side, _lines, _role in batch:
            side.abandon()
        self.quiet()


def play_ours(side: OurSide, lines: list[str], role: str) -> None:
    """One script at our stack."""
    side.begin(role)
    for line in lines:
        side.play_line(line)
        side.settle()
        side.finish_step()
