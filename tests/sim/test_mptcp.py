"""Multipath TCP between two stacks over imperfect wires, in virtual time: nothing lost, invented or reordered."""

import contextlib
import errno
import os
import random

import pytest

from kit.boxes import coalesces, renumbers, splits
from kit.link import Link
from kit.mesh import Mesh, addr
from kit.pair import PORT, Program
from mptcp.connection import MptcpConn
from stack.errors import StackError
from stack.units import MSEC, SEC

pytestmark = pytest.mark.long

M = 1_000_000


def wires(*specs, **common):
    return [Link(queue=150_000, seed=index + 1, **(common | spec)) for index, spec in enumerate(specs)]


TWO = ({"rate": 50 * M, "delay": 10 * MSEC}, {"rate": 50 * M, "delay": 15 * MSEC})
CONDITIONS = {
    "clean": (wires(*TWO), {}),
    "v6": (wires(*TWO), {"v6": True}),
    "three": (wires(*TWO, {"rate": 20 * M, "delay": 30 * MSEC}), {}),
    "no offload": (wires(*TWO), {"offload": False}),
    "checksums": (wires(*TWO), {"mptcp": {"checksum_enabled": 1}}),
    "one asks for checksums": (wires(*TWO), {"mptcp_b": {"checksum_enabled": 1}}),
    "loss": (wires(*TWO, loss=0.01), {}),
    "loss and checksums": (wires(*TWO, loss=0.02), {"mptcp": {"checksum_enabled": 1}}),
    "reordering": (wires(*TWO, reorder=0.05), {}),
    "duplicates": (wires(*TWO, dup=0.05), {}),
    "corruption": (wires(*TWO, corrupt=0.01), {}),
    "delay 1:10": (wires({"rate": 50 * M, "delay": 5 * MSEC}, {"rate": 50 * M, "delay": 50 * MSEC}), {}),
    "rate 1:10": (wires({"rate": 100 * M, "delay": 10 * MSEC}, {"rate": 10 * M, "delay": 10 * MSEC}), {}),
    "mtus": (wires(*TWO), {"mtus": (1500, 700)}),
    "jumbo": (wires(*TWO), {"mtus": (9000, 1280)}),
    "tiny buffers": (
        wires(*TWO),
        {"sysctl": {"net.ipv4.tcp_rmem": "4096 8192 8192", "net.ipv4.tcp_wmem": "4096 8192 8192"}},
    ),
    "no timestamps": (wires(*TWO), {"sysctl": {"net.ipv4.tcp_timestamps": "0"}}),
    "no sack": (wires(*TWO, loss=0.01), {"sysctl": {"net.ipv4.tcp_sack": "0"}}),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_all_arrives_both_ways(name):
    links, common = CONDITIONS[name]
    mesh = Mesh([each.twin(0) for each in links], **common)
    result = mesh.transfer(M, M // 2)
    assert result.intact, (result.client.why, result.server.why)
    assert not result.client.fallback
    assert all(mesh.carried), "a wire carried nothing"
    for mib in (mesh.host_a.mib, mesh.host_b.mib):
        assert (mib.MPTcpExtMPJoinSynAckHMacFailure, mib.MPTcpExtMPJoinAckHMacFailure, mib.MPTcpExtDataCsumErr) == (
            0,
            0,
            0,
        )
        assert (mib.MPTcpExtDSSNotMatching, mib.MPTcpExtDSSNoMatchTCP, mib.MPTcpExtMPJoinRejected) == (0, 0, 0)


@pytest.mark.parametrize(
    ("scheduler", "control"),
    [
        ("minrtt", "lia"),
        ("roundrobin", "olia"),
        ("redundant", "balia"),
        ("blest", "wvegas"),
        ("ecf", "cubic"),
        ("weighted", "lia"),
        ("minrtt", "bbr"),
    ],
)
def test_every_scheduler_and_every_congestion_control(scheduler, control):
    mesh = Mesh(
        wires(*TWO, loss=0.002),
        mptcp={"scheduler": scheduler},
        sysctl={"net.ipv4.tcp_congestion_control": control},
    )
    result = mesh.transfer(M, M // 2)
    assert result.intact
    assert all(mesh.carried)


@pytest.mark.parametrize("v6", [False, True])
def test_a_server_without_mptcp_gets_plain_tcp(v6):
    mesh = Mesh(wires(*TWO), v6=v6)
    client, server = mesh.connect(plain_server=True)
    programs = mesh.programs(client, server, M, M)
    assert mesh.run(lambda: all(program.finished for program in programs))
    assert "MP_CAPABLE" in client.fallback
    assert mesh.host_a.mib.MPTcpExtMPCapableFallbackSYNACK == 1
    assert not mesh.carried[1]


def test_disabled_it_is_plain_tcp_and_says_so():
    mesh = Mesh(wires(*TWO), mptcp={"enabled": 0})
    client, server = mesh.connect()
    programs = mesh.programs(client, server, M, M)
    assert mesh.run(lambda: all(program.finished for program in programs))
    assert client.fallback == "net.mptcp.enabled is 0"


def warm(mesh, client, server):
    """A byte each way: only then does each side know that the other has its key, and subflows join."""
    for one, other in ((client, server), (server, client)):
        one.send(b"!")
        mesh.flush()
        assert mesh.run(lambda other=other: other.readable == 1)
        other.consume(1)
    assert mesh.run(lambda: client.fully_established and server.fully_established)


def longest_stall(mesh, program, until):
    """The longest time in which `program` received nothing, in nanoseconds."""
    last, worst, got = mesh.clock.now, 0, program.received

    def look():
        nonlocal last, worst, got
        if program.received != got:
            worst = max(worst, mesh.clock.now - last)
            last, got = mesh.clock.now, program.received
        return until()

    assert mesh.run(look)
    return worst


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("backup", [False, True])
def test_the_silent_death_of_the_path_in_use_stalls_below_100_ms(direction, backup):
    mesh = Mesh([Link(rate=50 * M, delay=10 * MSEC, queue=60_000, seed=seed) for seed in (1, 2)])
    client, server = mesh.connect()
    size = 6 * M
    programs = mesh.programs(client, server, size if direction == "up" else 1, size if direction == "down" else 1)
    receiver = programs[1] if direction == "up" else programs[0]
    assert mesh.run(lambda: len(client.subflows) == 2 and client.subflows[1].joined)
    if backup:
        client.set_backup(client.subflows[1], True, mesh.clock.now)
    assert mesh.run(lambda: receiver.received > M)
    mesh.up[0] = False
    stall = longest_stall(mesh, receiver, lambda: receiver.received == size)
    assert stall < 100 * MSEC, stall / MSEC


def test_a_path_that_comes_back_is_used_again():
    mesh = Mesh(wires(*TWO))
    client, server = mesh.connect()
    programs = mesh.programs(client, server, 12 * M, 0)
    assert mesh.run(lambda: programs[1].received > 2 * M)
    mesh.up[0] = False
    assert mesh.run(lambda: programs[1].received > 4 * M)
    mesh.up[0] = True
    before = mesh.carried[0]
    assert mesh.run(lambda: all(program.finished for program in programs))
    assert mesh.carried[0] - before > 2 * M


def test_without_any_path_for_two_minutes_it_goes_on_after_it():
    mesh = Mesh(wires(*TWO))
    client, server = mesh.connect()
    programs = mesh.programs(client, server, 8 * M, 2 * M)
    assert mesh.run(lambda: programs[1].received > 2 * M)
    mesh.up[:] = [False, False]
    mesh.idle(120 * SEC)
    mesh.up[:] = [True, True]
    for host, stack in ((mesh.host_a, mesh.a), (mesh.host_b, mesh.b)):
        for link in stack.links.values():
            host.pm.on_link_up(link, mesh.clock.now)
    assert mesh.run(lambda: all(program.finished for program in programs), 200 * SEC)


def test_closing_before_the_peer_reads_loses_nothing():
    mesh = Mesh(wires(*TWO))
    client, server = mesh.connect()
    client.send(b"x" * 100_000)
    client.close()
    got = Program(0, conn=server)
    server.owner = lambda _conn, _mask: got.pump(mesh.clock.now)
    assert mesh.run(lambda: got.received == 100_000 and server.peer_closed)
    server.close()
    assert mesh.run(lambda: not mesh.host_a.conns and not mesh.host_b.conns, 10 * SEC)
    assert (mesh.host_a.mib.MPTcpExtMPCurrEstab, mesh.host_b.mib.MPTcpExtMPCurrEstab) == (0, 0)
    assert not len(mesh.host_a.tokens)
    assert not len(mesh.host_b.tokens)


@pytest.mark.parametrize("who", ["abort", "close with unread text"])
def test_fastclose_ends_every_subflow(who):
    mesh = Mesh(wires(*TWO))
    client, server = mesh.connect()
    warm(mesh, client, server)
    assert mesh.run(lambda: len(server.subflows) == 2 and server.subflows[1].joined)
    if who == "abort":
        client.abort()
    else:
        server.send(b"never read")
        assert mesh.run(lambda: client.readable)
        client.close()
    mesh.flush()
    assert mesh.run(lambda: server.error == errno.ECONNRESET, 5 * SEC)
    assert mesh.host_a.mib.MPTcpExtMPFastcloseTx == 1
    assert mesh.host_b.mib.MPTcpExtMPFastcloseRx >= 1
    assert not mesh.host_b.conns
    assert mesh.run(lambda: not list(mesh.b.tcp.conns()), 5 * SEC)


def test_a_join_with_an_unknown_token_is_refused_without_state():
    mesh = Mesh(wires(*TWO))
    client, server = mesh.connect()
    warm(mesh, client, server)
    client.remote_token ^= 1
    before = len(mesh.b.tcp.flows)
    client.join(None, client.remote, local_id=9, remote_id=0, backup=False, now=mesh.clock.now)
    mesh.flush()
    assert mesh.run(lambda: mesh.host_b.mib.MPTcpExtMPJoinNoTokenFound, 5 * SEC)
    assert len(mesh.b.tcp.flows) <= before + 1
    assert server.established
    assert mesh.run(lambda: mesh.host_a.mib.MPTcpExtMPRstRx, 5 * SEC)  # the RST says why, §3.6


def test_a_join_with_a_wrong_hmac_is_reset():
    mesh = Mesh(wires(*TWO), mptcp={"mptcp_auto_endpoints": 0})
    client, server = mesh.connect()
    warm(mesh, client, server)
    client.key_local = b"12345678"
    client.join(None, client.remote, local_id=9, remote_id=0, backup=False, now=mesh.clock.now)
    mesh.flush()
    assert mesh.run(lambda: mesh.host_a.mib.MPTcpExtMPJoinSynAckHMacFailure, 5 * SEC)
    assert mesh.run(lambda: mesh.host_b.mib.MPTcpExtMPRstRx, 5 * SEC)
    assert len(server.subflows) == 1


PAIRS = [
    ((50, 10), (50, 10)),
    ((50, 5), (50, 50)),
    ((50, 10), (5, 10)),
    ((20, 40), (50, 10)),
    ((10, 5), (2, 100)),
]


@pytest.mark.parametrize("pair", PAIRS)
def test_two_paths_are_never_slower_than_the_better_one(pair):
    """Rates in Mbit/s and one-way delays in ms; queues of one bandwidth-delay product."""

    def goodput(paths):
        links = [
            Link(rate=rate * M, delay=delay * MSEC, queue=max(30_000, rate * M // 8 * 2 * delay // 1000), seed=delay)
            for rate, delay in paths
        ]
        result = Mesh(links).transfer(4 * M)
        assert result.intact
        return result.goodput()

    best = max(goodput([path]) for path in pair)
    assert goodput(pair) > 0.95 * best


SCHEDULERS = ("minrtt", "roundrobin", "blest", "ecf", "redundant", "weighted")
FAULTS = (
    "cut",
    "mend",
    "backup",
    "close",
    "join",
    "loss",
    "pause",
    "resume",
    "scheduler",
    "cc",
    "address gone",
    "address back",
)
HARMLESS = (None, None, None, lambda: splits(copy=False), coalesces, renumbers)  # boxes on all wires
CRAWL = 3000  # bytes a second of a reader that pauses


def random_schedule(seed):
    """A transfer while wires, subflows and addresses come and go at random; returns what went wrong, or None."""
    chance = random.Random(seed)
    count = chance.choice((1, 2, 2, 3))
    links = [
        Link(
            rate=chance.choice((2, 10, 50)) * M,
            delay=chance.choice((1, 10, 40)) * MSEC,
            queue=chance.choice((30_000, 150_000)),
            loss=chance.choice((0.0, 0.0, 0.01, 0.05)),
            reorder=chance.choice((0.0, 0.02)),
            dup=chance.choice((0.0, 0.01)),
            seed=seed * 10 + index,
        )
        for index in range(count)
    ]
    v6 = chance.random() < 0.3
    make_box = chance.choice(HARMLESS)
    mesh = Mesh(
        links,
        seed=seed,
        v6=v6,
        offload=chance.random() < 0.7,
        mptcp={"checksum_enabled": int(chance.random() < 0.3), "scheduler": chance.choice(SCHEDULERS)},
        box=None if make_box is None else make_box(),
    )
    client, server = mesh.connect()
    programs = mesh.programs(client, server, chance.randrange(0, 600_000), chance.randrange(0, 600_000))
    for _ in range(chance.randrange(0, 8)):
        mesh.idle(chance.randrange(1, 400) * MSEC)
        _fault(mesh, chance, chance.choice(programs))
        mesh.flush()
    _all_is_well(mesh, programs)
    mesh.run(lambda: all(program.finished for program in programs) or client.error or server.error, 400 * SEC)
    mesh.check()
    if not all(program.finished for program in programs):
        return seed, client.error, server.error, [p.received for p in programs], list(client.why), list(server.why)
    wrong = [p.digest.digest() != q.expected() for p, q in zip(programs, reversed(programs), strict=True)]
    return (seed, "digest") if any(wrong) else None


def _all_is_well(mesh, programs):
    """Every wire and address is there again, little is lost, and everybody reads."""
    mesh.up[:] = [True] * len(mesh.up)
    for link in mesh.links:
        link.loss = min(link.loss, 0.05)
    for wire in range(len(mesh.up)):
        _address_back(mesh, "a", wire)
        _address_back(mesh, "b", wire)
    for program in programs:
        program.read_rate = 0
        program.pump(mesh.clock.now)
    mesh.flush()


def _fault(mesh, chance, program):
    verb = chance.choice(FAULTS)
    wire = chance.randrange(len(mesh.up))
    now, conn = mesh.clock.now, program.conn
    side = "b" if conn.passive else "a"
    if verb in ("cut", "mend"):
        mesh.up[wire] = verb == "mend"
    elif verb == "loss":
        mesh.links[wire].loss = chance.choice((0.0, 0.1, 0.3))
    elif verb in ("pause", "resume"):
        program.read_rate = CRAWL if verb == "pause" else 0
        program.pump(now)
    elif verb == "address gone" and wire > 0:
        _address_gone(mesh, side, wire)
    elif verb == "address back":
        _address_back(mesh, side, wire)
    elif not isinstance(conn, MptcpConn) or conn.ended or conn.fallback:
        return
    elif verb == "backup" and conn.subflows:
        conn.set_backup(chance.choice(conn.subflows), chance.random() < 0.5, now)
    elif verb == "close" and len(conn.subflows) > 1:
        conn.close_subflow(chance.choice(conn.subflows), now)
    elif verb == "join" and side == "a":
        with contextlib.suppress(StackError):  # no such address at the moment, no Multipath TCP yet
            source = addr("a", wire, mesh.v6)
            conn.join(source, (addr("b", wire, mesh.v6), PORT), local_id=wire, remote_id=wire, backup=False, now=now)
    elif verb == "scheduler":
        conn.set_scheduler(chance.choice(SCHEDULERS))
    elif verb == "cc":
        conn.set_option("congestion", chance.choice(("cubic", "lia", "olia", "balia", "wvegas", "reno")))


def _address_gone(mesh, side, wire):
    stack, host = (mesh.a, mesh.host_a) if side == "a" else (mesh.b, mesh.host_b)
    link, which = stack.links[f"tun{wire}"], addr(side, wire, mesh.v6)
    if any(each == which for each, _length in link.addrs):
        stack.remove_addr(link, which)
        host.pm.on_addr_removed(link, which, mesh.clock.now)


def _address_back(mesh, side, wire):
    stack, host = (mesh.a, mesh.host_a) if side == "a" else (mesh.b, mesh.host_b)
    link, which = stack.links[f"tun{wire}"], addr(side, wire, mesh.v6)
    if all(each != which for each, _length in link.addrs):
        stack.add_addr(link, which, 64 if mesh.v6 else 24)
        host.pm.on_addr_added(link, which, mesh.clock.now)


FOUND = [2068, 3092, 5102, 7519]  # each once showed a fault


@pytest.mark.parametrize("seed", [*range(int(os.environ.get("NUSE_SCHEDULES", "30"))), *FOUND])
def test_random_faults_lose_nothing(seed):
    assert random_schedule(seed) is None
