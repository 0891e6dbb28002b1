"""One round of fuzzing Multipath TCP: two stacks with connections between them, and a vandal on every wire.

The vandal knows the keys, so what it forges may be well-formed and signed: mappings and acknowledgments near and far
from the windows, addresses by the dozen, MP_FAIL, MP_FASTCLOSE, infinite mappings, options that belong elsewhere. What
the programs get is worth nothing then; but neither stack may raise, break an invariant or keep more than its bounds.
"""

from collections.abc import Sequence
from random import Random
from typing import Any

from kit.boxes import Parts, take_apart
from kit.link import Link
from kit.mesh import Mesh, addr
from kit.pair import PORT
from mptcp.crypto import add_addr_hmac
from mptcp.maps import ReceivedRuns
from mptcp.options import (
    DSS,
    KIND,
    AddAddr,
    Dss,
    Mapping,
    MpFail,
    MpFastclose,
    MpPrio,
    MpTcprst,
    RemoveAddr,
)
from mptcp.sched import SCHEDULERS
from stack.errors import StackError
from stack.units import MSEC, SEC
from stack.wire.tcp import RST, SYN

PACKETS = 1000  # of one round
CHECK_EVERY = 50
CONNS = 6
SPACE = 40  # bytes of options that fit a segment
FAR = (0, 0, 1, -1, 1460, -1460, 65535, 1 << 31, -(1 << 31), 1 << 32, -(1 << 32), 1 << 63)
SIZES = (0, 1, 2, 1460, 32768, 65535)


class Vandal:
    """A box of kit/mesh.py that damages one packet in six."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.packets = 0
        self.hosts: list[Any] = []
        self.seen: list[tuple[int, bytes]] = []  # options of any connection

    def __call__(self, side: str, wire: int, packet: bytes) -> Sequence[bytes]:
        self.packets += 1
        random = self.random
        parts = take_apart(side, wire, packet)
        self.seen += [each for each in parts.options if each[0] == KIND]
        del self.seen[:-32]
        if random.random() < 0.84:
            return [packet]
        out = [packet] if random.random() < 0.7 else []
        try:
            self._damage(parts)
            out.insert(random.randrange(len(out) + 1), parts.pack())
        except ValueError:  # no room in a header for so much of it
            return [packet]
        return out

    def _damage(self, parts: Parts) -> None:
        random = self.random
        verb = random.randrange(8)
        mine = [at for at, (kind, _) in enumerate(parts.options) if kind == KIND]
        if verb < 3 and mine:
            at = random.choice(mine)
            parts.options[at] = KIND, self._changed(parts.options[at][1])
        elif verb == 3 and self.seen:
            parts.strip().options.append(random.choice(self.seen))
        elif verb < 6:
            forged = self._forged(parts)
            if forged is not None:
                parts.strip().options.append((KIND, forged.emit()[2:]))
        elif verb == 6:
            if parts.text:
                parts.text = random.choice((parts.text[1:], parts.text[:-1], parts.text[::-1], b""))
            else:
                parts.text = random.randbytes(random.choice((1, 100, 1400)))
        else:
            parts.flagged(parts.flags ^ random.choice((SYN, RST, 1, 8, 16)) if random.random() < 0.2 else parts.flags)
            parts.strip()
        size = sum(2 + len(body) for _, body in parts.options)
        if size > SPACE:
            raise ValueError(size)

    def _changed(self, body: bytes) -> bytes:
        """Bits, fields or lengths that are not what they were."""
        random = self.random
        verb = random.randrange(4)
        changed = bytearray(body)
        if verb == 0:
            changed[random.randrange(len(body))] ^= 1 << random.randrange(8)
        elif verb == 1:
            changed = changed[: random.randrange(1, len(body) + 1)] + random.randbytes(random.choice((0, 1, 2, 4)))
        elif verb == 2 and body[0] >> 4 == DSS and len(body) >= 10:
            at, size = random.choice(((2, 8), (10, 8), (18, 4), (22, 2), (2, 4), (6, 8)))
            field = int.from_bytes(changed[at : at + size], "big") + random.choice(FAR)
            changed[at : at + size] = (field & (1 << 8 * size) - 1).to_bytes(size, "big")
        else:
            changed[random.randrange(min(2, len(body)))] = random.randrange(256)
        return bytes(changed)

    def _forged(self, parts: Parts) -> Any:
        """Something that its receiver has to believe."""
        random = self.random
        port = int.from_bytes(parts.fixed[:2], "big"), int.from_bytes(parts.fixed[2:4], "big")
        sender = self.hosts[parts.side == "b"]
        found = [
            (meta, sub)
            for meta in sender.conns
            for sub in meta.subflows
            if sub.conn is not None and (sub.conn.local[1], sub.conn.remote[1]) == port
        ]
        if not found:
            return None
        meta, sub = found[0]
        verb = random.randrange(8)
        if verb < 3:
            ssn = parts.seq - sub.conn.tcb.iss + random.choice((0, 0, 0, *FAR))
            dsn = meta.tx.nxt + random.choice(FAR)
            size = random.choice((len(parts.text), len(parts.text), *SIZES))
            checksum = random.randrange(65536) if random.random() < 0.3 else None
            mapping = Mapping(dsn & (1 << 64) - 1, ssn & 0xFFFFFFFF, size, checksum)
            acked = (meta.rx.queue.nxt + random.choice(FAR)) & (1 << 64) - 1
            return Dss(acked if checksum is None else None, mapping, data_fin=size > 0 and random.random() < 0.2)
        if verb == 3:
            ident, port_told = random.randrange(256), random.choice((0, 0, 1, 65535))
            who = random.choice((addr(parts.side, 1), addr(parts.side, 9), bytes(4), random.randbytes(4)))
            if random.random() < 0.3:
                return AddAddr(ident, who, port_told, None)  # an echo
            return AddAddr(
                ident, who, port_told, add_addr_hmac(meta.key_local, meta.key_remote or b"", ident, who, port_told)
            )
        if verb == 4:
            return RemoveAddr(tuple(random.randrange(8) for _ in range(random.randint(1, 8))))
        if verb == 5:
            return MpPrio(random.random() < 0.5)
        if verb == 6:
            return MpFail((meta.tx.nxt + random.choice(FAR)) & (1 << 64) - 1)
        if random.random() < 0.2:
            return MpFastclose(meta.key_remote or bytes(8))
        return MpTcprst(random.randrange(256), random.random() < 0.5)


class MptcpArena:
    """Both stacks of one round, and their programs."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.vandal = Vandal(random)
        links = [
            Link(rate=50_000_000, delay=random.choice((1, 10)) * MSEC, seed=random.getrandbits(30), loss=0.01)
            for _ in range(random.choice((1, 2, 3)))
        ]
        self.mesh = Mesh(
            links,
            seed=random.getrandbits(30),
            v6=random.random() < 0.3,
            offload=random.random() < 0.5,
            mptcp={
                "checksum_enabled": random.randrange(2),
                "scheduler": random.choice(sorted(SCHEDULERS)),
                "allow_join_initial_addr_port": random.randrange(2),
            },
            sysctl={"net.ipv4.tcp_fastopen": random.choice(("1", "0x607"))},
            box=self.vandal,
        )
        self.vandal.hosts = [self.mesh.host_a, self.mesh.host_b]
        self.where = addr("b", 0, self.mesh.v6)
        self.listener = self.mesh.host_b.listen(self.mesh.b.tcp.bind(bytes(len(self.where)), PORT), 16)
        self.conns: list[Any] = []

    def act(self) -> None:
        """One of the programs does something, or a cable comes loose."""
        random, mesh = self.random, self.mesh
        while (conn := self.listener.accept()) is not None:
            self.conns.append(conn)
        if len(self.conns) < CONNS:
            early = bytes(random.choice((0, 0, 100, 3000)))  # with tcp_fastopen 0x607 in the SYN
            self.conns.append(mesh.host_a.connect((self.where, PORT), mesh.clock.now, data=early))
        if random.random() < 0.05:
            wire = random.randrange(len(mesh.up))
            mesh.up[wire] = not mesh.up[wire]
        conn = random.choice(self.conns)
        verb = random.randrange(12)
        try:
            if verb < 5 and conn.readable:
                conn.consume(sum(map(len, conn.views(random.randint(1, 70_000)))))
            elif verb < 9 and conn.send_space > 0:
                conn.send(bytes(random.choice((1, 100, 1460, 60_000))))
            elif random.random() < 0.05:
                random.choice((conn.shutdown, conn.shutdown_read, conn.close, conn.abort))()
        except StackError:
            pass  # it is over, or was shut
        mesh.flush()
        if conn.error or len(self.conns) > 3 * CONNS or random.random() < 0.02:
            conn.close()
            self.conns.remove(conn)

    def check(self) -> None:
        """Every invariant, and every bound."""
        self.mesh.check()
        for host in self.vandal.hosts:
            for meta in host.conns:
                limit = host.pm.limits.subflows + host.pm.limits.add_addr_accepted + 2
                assert len(meta.subflows) <= limit, f"{len(meta.subflows)} subflows"
                assert len(meta.why) <= (meta.why.maxlen or 0)
                for sub in meta.subflows:
                    assert len(sub.runs._runs) <= ReceivedRuns.MOST + 1


def fuzz_round(seed: str, number: int, packets: int = PACKETS) -> dict[str, int]:
    """Play one round; what it came to."""
    random = Random(f"{seed}/{number}")
    arena = MptcpArena(random)
    mesh, checked = arena.mesh, 0
    while arena.vandal.packets < packets:
        if random.random() < 0.2 or not mesh.step():
            arena.act()
            if random.random() < 0.01:
                mesh.idle(random.choice((MSEC, SEC, 70 * SEC)))
        if arena.vandal.packets > checked + CHECK_EVERY:
            checked = arena.vandal.packets
            arena.check()
    arena.check()
    both = [host.mib for host in arena.vandal.hosts]
    return {
        name: sum(getattr(mib, name) for mib in both)
        for name in ("MPTcpExtMPCapableACKRX", "MPTcpExtMPJoinAckRx", "MPTcpExtDSSNotMatching", "MPTcpExtMPFastcloseRx")
    }
