"""One round of fuzzing: a stack with something in every state, and a flood of packets that mean it harm.

The oracle is short: `Stack.receive` never raises, `check()` finds every invariant, `poll_transmit` comes to an end and
says only what a kernel would take. Used by scripts/fuzz for millions and by tests/fuzz for a few.
"""

from collections.abc import Callable
from random import Random
from struct import Struct, pack_into
from typing import Any

from kit import build
from kit.oracle import decode
from stack import Stack
from stack.errors import StackError
from stack.ip.addr import parse_addr
from stack.tcp.options import TcpOptions
from stack.units import MSEC, SEC

PACKETS = 2000  # of one round
CHECK_EVERY = 200
FLOWS = 24
IP4, IP6, TCP = Struct("!BBHHHBBH4s4s"), Struct("!IHBB16s16s"), Struct("!HHIIHHHH")
VOUCHED = bytes((2,)) + bytes(9)  # VIRTIO_NET_HDR_F_DATA_VALID
OWN = {4: parse_addr("10.64.0.2"), 6: parse_addr("fd64::2")}
PEER = {4: parse_addr("10.64.0.1"), 6: parse_addr("fd64::1")}
FLAGS = (16, 16, 16, 24, 17, 4, 20, 2, 18, 0, 1, 48, 80, 144, 255)
EDGES = (0, 1, 2, 7, 8, 19, 20, 40, 60, 127, 128, 255, 1280, 1500, 0x7FFF, 0x8000, 0xFFFF)


def tcp_packet(
    ends: tuple[bytes, int, bytes, int],
    fields: tuple[int, int, int],
    rest: tuple[int, int],
    options: bytes,
    payload: bytes,
    tos: int,
) -> bytes:
    """What build.tcp makes, five times as fast: the vnet header vouches for the checksum, except once in a while."""
    src, sport, dst, dport = ends
    seq, ack, flags = fields
    options += bytes(-len(options) % 4)
    size = 20 + len(options) + len(payload)
    off = (20 + len(options)) << 10 | flags
    segment = TCP.pack(sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, off, rest[0], 0, rest[1]) + options + payload
    vnet = VOUCHED if seq & 31 else build.VNET_NONE
    if len(src) == 16:
        return vnet + IP6.pack(6 << 28 | tos << 20, size, 6, 64, src, dst) + segment
    head = bytearray(IP4.pack(0x45, tos, 20 + size, 0, 0x4000, 64, 6, 0, src, dst))
    pack_into("!H", head, 10, -int.from_bytes(head, "big") % 0xFFFF)
    return vnet + head + segment


class Arena:
    """The stack of one round with its programs, and the means to hurt it."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now = 1_000 * SEC + 7
        self.stack = Stack(secret=random.randbytes(32), now=self.now)
        addrs = [(OWN[4], 24), (OWN[6], 64)]
        self.offload = random.random() < 0.5
        self.link = self.stack.add_link("tun0", addrs, mtu=random.choice((1280, 1500, 9000)), offload=self.offload)
        self.conns: list[Any] = []
        self.listeners: list[Any] = []
        self.seen: list[bytes] = []  # packets out and in that mutations start from
        self.sockets: list[Any] = []
        self.live: list[Any] = []
        self._open()

    def _open(self) -> None:
        tcp, udp = self.stack.tcp, self.stack.udp
        options = TcpOptions(rcvbuf=self.random.choice((0, 0, 4096, 20000)), defer_accept=self.random.choice((0, 0, 1)))
        for port in (80, 81):
            for version in (4, 6):
                binding = tcp.bind(OWN[version], port)
                self.listeners.append(tcp.listen(binding, self.random.choice((0, 2, 128)), options.copy()))
        for v6 in (False, True):
            sock = udp.open(v6)
            sock.bind(OWN[6 if v6 else 4], 53)
            self.sockets.append(sock)
            self.sockets.append(self.stack.icmp.open_echo(v6))
        for number in range(FLOWS):
            version = 6 if number % 3 == 0 else 4
            if number % 2:
                self._passive(version, 5000 + number)
            else:
                self._active(version, 5000 + number)
        self.flush()

    def _syn_options(self) -> bytes:
        picks: list[Callable[[], bytes]] = [
            lambda: build.opt_mss(self.random.choice((0, 48, 536, 1460, 65535))),
            lambda: build.opt_wscale(self.random.randrange(16)),
            build.opt_sack_ok,
            lambda: build.opt_timestamps(self.random.getrandbits(32), 0),
        ]
        return b"".join(pick() for pick in picks if self.random.random() < 0.7)

    def _passive(self, version: int, port: int) -> None:
        isn = self.random.getrandbits(32)
        ends = (PEER[version], port), (OWN[version], self.random.choice((80, 81)))
        options = self._syn_options()
        self.receive(build.tcp(*ends, 2 | self.random.choice((0, 0xC0)), isn, options=options))
        answers = self.flush()
        if answers and self.random.random() < 0.9:
            got = decode(answers[-1])
            self.receive(build.tcp(*ends, 16, isn + 1, got.seq + 1, options=self._echo(got)))
            self._accept()

    def _active(self, version: int, port: int) -> None:
        conn = self.stack.tcp.connect((PEER[version], port), self.now)
        self.conns.append(conn)
        answers = self.flush()
        if answers and self.random.random() < 0.9:
            got = decode(answers[-1])
            isn = self.random.getrandbits(32)
            ends = (PEER[version], port), (OWN[version], got.sport)
            self.receive(build.tcp(*ends, 18, isn, got.seq + 1, options=self._syn_options()))

    def _echo(self, got: Any) -> bytes:
        if got.timestamps is None:
            return b""
        return build.NOP * 2 + build.opt_timestamps(self.random.getrandbits(32), got.timestamps[0])

    def _accept(self) -> None:
        for listener in self.listeners:
            while (conn := listener.accept()) is not None:
                self.conns.append(conn)

    # --- the driver

    def receive(self, packet: bytes) -> None:
        self.stack.receive(packet, self.now, self.link)

    def flush(self) -> list[bytes]:
        """Let out what the stack has to say; the last few packets are remembered."""
        out: list[bytes] = []
        stack = self.stack
        while stack.poll_event() is not None:
            pass
        for _ in range(10_000):
            made = stack.poll_transmit(self.now)
            if made is None:
                break
            out.append(b"".join(made[1]))
        else:
            raise AssertionError("poll_transmit never ends")
        self.seen += out
        del self.seen[:-64]
        return out

    def wait(self, span: int) -> None:
        self.now += span
        self.stack.handle_timeout(self.now)

    # --- the programs

    def act(self) -> None:
        """One of the programs does something."""
        self._accept()
        random = self.random
        for sock in self.sockets:
            while sock.recv() is not None:
                pass
        if not self.conns:
            return
        conn = random.choice(self.conns)
        verb = random.randrange(10)
        try:
            if verb < 4 and conn.readable:
                conn.consume(sum(map(len, conn.views(random.randint(1, 70_000)))))
            elif verb < 7 and conn.send_space > 0:
                conn.send(bytes(random.choice((1, 100, 1460, 20_000))))
            elif verb == 7:
                conn.set_option(random.choice(("nodelay", "cork", "quickack", "oobinline")), random.randrange(2))
            elif verb == 8 and random.random() < 0.2:
                random.choice((conn.shutdown, conn.shutdown_read, conn.close, conn.abort))()
        except StackError:
            pass
        if len(self.conns) > 4 * FLOWS:
            self.conns.pop(0).close()

    # --- packets

    def packet(self) -> bytes:
        """Something bad."""
        kind = self.random.random()
        if kind < 0.55:
            return self.segment()
        if kind < 0.8 and self.seen:
            return self.mutant()
        if kind < 0.9:
            return self.structured()
        head = bytes((self.random.choice((0x45, 0x46, 0x4F, 0x60, 0)),))
        return bytes(10) + head + self.random.randbytes(self.random.choice((0, 1, 19, 20, 39, 40, 60, 200)))

    def segment(self) -> bytes:
        """A segment for a connection, near its windows, with anything in it."""
        random = self.random
        if not self.live or random.random() < 0.02:
            self.live = [conn for conn in self.stack.tcp.conns() if getattr(conn, "tcb", None) is not None]
        live = self.live
        if not live:
            self._active(4, random.randrange(1, 65536))
            return self.structured()
        conn = random.choice(live)
        tcb = conn.tcb
        seq = tcb.rcv_nxt + random.choice((0, 0, 0, 1, -1, 500, 1460, -1460, random.randint(-(2**31), 2**31)))
        ack = random.choice((tcb.snd_una, tcb.snd_nxt, tcb.snd_nxt, tcb.snd_nxt + 1, random.getrandbits(32)))
        size = random.choice((0, 0, 0, 1, 100, 1000, 1460))
        return tcp_packet(
            conn.remote + conn.local,
            (seq, ack, random.choice(FLAGS)),
            (random.choice((0, 1, 100, 5000, 65535)), random.choice((0, 0, 1, 65535))),
            self.options(tcb),
            bytes(size),
            random.choice((0, 0, 0, 1, 2, 3)),
        )

    def options(self, tcb: Any) -> bytes:
        random = self.random
        kind = random.random()
        if kind < 0.35:
            return b""
        if kind < 0.65:
            age = random.choice((0, 0, 1, -1, 1000, 2**31))
            return build.NOP * 2 + build.opt_timestamps(tcb.ts_recent + age, random.getrandbits(32))
        if kind < 0.85:
            blocks = []
            for _ in range(random.randint(1, 4)):
                left = tcb.snd_una + random.choice((0, 1, 1460, 2920, -1460, random.randint(-(2**31), 2**31)))
                blocks.append((left, left + random.choice((0, 1, 1460, 2920, -5, 2**31))))
            return build.NOP * 2 + build.opt_sack(blocks)
        return random.randbytes(random.choice((1, 4, 8, 12, 40)))

    def mutant(self) -> bytes:
        """A packet that was on the wire, turned round and damaged; half of them get their checksum vouched for."""
        random = self.random
        packet = bytearray(random.choice(self.seen))
        if random.random() < 0.7 and len(packet) > 30:
            at, size = (22, 4) if packet[10] >> 4 == 4 else (18, 16)
            if len(packet) >= at + 2 * size:
                packet[at : at + 2 * size] = packet[at + size : at + 2 * size] + packet[at : at + size]
                ports = at + 2 * size
                packet[ports : ports + 4] = packet[ports + 2 : ports + 4] + packet[ports : ports + 2]
        packet[:10] = bytes(10) if random.random() < 0.5 else bytes((2,)) + bytes(9)
        for _ in range(random.choice((0, 1, 1, 2, 8))):
            at = random.randrange(len(packet))
            if random.random() < 0.5:
                packet[at] ^= 1 << random.randrange(8)
            elif at + 2 <= len(packet):
                pack_into("!H", packet, at, random.choice(EDGES))
        if random.random() < 0.2:
            del packet[random.randrange(len(packet)) :]
        elif random.random() < 0.1:
            packet += random.randbytes(random.randrange(100))
        return bytes(packet)

    def structured(self) -> bytes:
        """Well-formed headers around nonsense: fragments, ICMP, extension headers, UDP, strange protocols."""
        random = self.random
        version = random.choice((4, 6))
        src, dst = PEER[version], OWN[version]
        body = random.randbytes(random.choice((0, 1, 7, 8, 20, 100, 1000)))
        kind = random.randrange(6)
        if kind == 0:
            return build.udp((src, random.randrange(65536)), (dst, random.choice((53, 99))), body)
        if kind == 1:
            return build.icmp(
                src, dst, random.choice((0, 3, 8, 11, 12, 1, 2, 128, 129, 137)), random.randrange(16), 0, body
            )
        if kind == 2 and self.seen:
            return self._icmp_error(version, src)
        if kind == 3:
            return self._fragment(version, src, dst, body)
        if kind == 4 and version == 6:
            chain = b"".join(
                random.choice((b"\x00", b"\x2b", b"\x3c", b"\x06")) + b"\x00" + random.randbytes(6) for _ in range(3)
            )
            return build.ip(src, dst, random.choice((0, 43, 60, 44)), chain + body)
        return build.ip(src, dst, random.randrange(256), body)

    def _icmp_error(self, version: int, src: bytes) -> bytes:
        random = self.random
        about = [packet for packet in self.seen if len(packet) > 50 and packet[10] >> 4 == version]
        if not about:
            return self.structured()
        kind, code = random.choice(((3, 4), (3, 3), (3, 1), (11, 0)) if version == 4 else ((2, 0), (1, 4), (3, 0)))
        return build.icmp_about(
            random.choice(about), src, kind, code, random.choice(EDGES), quote=random.choice((None, 28, 8))
        )

    def _fragment(self, version: int, src: bytes, dst: bytes, body: bytes) -> bytes:
        random = self.random
        offset, more = random.choice((0, 8, 16, 1000, 65528)), random.randrange(2)
        body += bytes(-len(body) % 8) if more else b""
        if version == 6:
            head = bytes((random.choice((6, 17, 58)), 0)) + (offset & 0xFFF8 | more).to_bytes(2, "big") + bytes(3)
            return build.ip(src, dst, 44, head + bytes((random.randrange(4),)) + body)
        packet = bytearray(build.ip(src, dst, random.choice((6, 17, 1)), body, ident=random.randrange(4)))
        pack_into("!HH", packet, 16, offset >> 3 | more << 13, packet[18] << 8 | packet[19])
        pack_into("!H", packet, 20, 0)
        total = sum(int.from_bytes(packet[at : at + 2], "big") for at in range(10, 30, 2)) % 0xFFFF
        pack_into("!H", packet, 20, -total % 0xFFFF)
        return bytes(packet)


def fuzz_round(seed: str, number: int, packets: int = PACKETS) -> dict[str, int]:
    """Play one round; how many packets were counted as what."""
    random = Random(f"{seed}/{number}")
    arena = Arena(random)
    for count in range(packets):
        arena.receive(arena.packet())
        if random.random() < 0.1:
            arena.act()
        if random.random() < 0.3:
            for packet in arena.flush()[: not count % 8]:
                if packet[19 if packet[10] >> 4 == 4 else 16] == 6:  # dpkt stumbles over what ICMP errors quote
                    decode(packet)
        if random.random() < 0.03:
            arena.wait(random.choice((MSEC, 40 * MSEC, 250 * MSEC, 2 * SEC, 70 * SEC)))
        if not count % CHECK_EVERY:
            arena.stack.check()
    arena.flush()
    arena.stack.check()
    return {"malformed": arena.stack.mib.NuseInMalformed, "segments": arena.stack.mib.TcpInSegs}
