"""Programs of every habit over wires of every kind: all bytes arrive, both ends close, nothing is left behind."""

import random
from hashlib import sha256

import pytest

from kit.link import Link
from kit.pair import Pair
from kit.wire import pattern
from stack.tcp.options import TcpOptions
from stack.units import MSEC, SEC

pytestmark = pytest.mark.long

MBIT = 1_000_000


class Habit:
    """A program that writes and reads in fits and starts, from a seed; shuts down when it has written all."""

    def __init__(self, conn, total: int, rng: random.Random) -> None:
        self.conn, self.total, self.rng = conn, total, rng
        self.written = self.read = 0
        self.digest = sha256()
        self.shut = False
        self.done = False

    def act(self) -> None:
        conn, rng = self.conn, self.rng
        if conn.error:
            return
        what = rng.random()
        if self.written < self.total and what < 0.5 and conn.send_space > 0:
            size = min(rng.choice([1, 7, 100, 999, 1460, 5000, 70_000]), self.total - self.written)
            conn.send(pattern(self.written, size), more=rng.random() < 0.1 and self.written + size < self.total)
            self.written += size
        elif what < 0.6:
            conn.set_option(rng.choice(["nodelay", "cork", "quickack"]), rng.random() < 0.5)
        elif what < 0.95:
            limit = min(rng.choice([1, 50, 3000, 100_000]), conn.readable)
            views = conn.views(limit) if limit else []
            for view in views:
                self.digest.update(view)
            self.read += sum(map(len, views))
            conn.consume(sum(map(len, views)))
        if self.written == self.total and not self.shut:
            conn.set_option("cork", False)
            conn.shutdown()
            self.shut = True
        self.done = self.shut and conn.peer_closed and not conn.readable


@pytest.mark.parametrize("seed", range(24))
def test_programs_of_every_habit(seed):
    rng = random.Random(seed)
    link = Link(
        rate=rng.choice([2, 20, 200]) * MBIT,
        delay=rng.choice([0, 1, 20, 150]) * MSEC,
        loss=rng.choice([0.0, 0.01, 0.05]),
        reorder=rng.choice([0.0, 0.05]),
        dup=rng.choice([0.0, 0.02]),
        queue=rng.choice([0, 20_000]),
        seed=seed,
    )
    knobs = {
        "net.ipv4.tcp_sack": rng.choice("01"),
        "net.ipv4.tcp_timestamps": rng.choice("01"),
        "net.ipv4.tcp_window_scaling": rng.choice("01"),
        "net.ipv4.tcp_congestion_control": rng.choice(["cubic", "reno"]),
    }
    pair = Pair(
        link, v6=rng.random() < 0.5, offload=rng.random() < 0.5, mtu=rng.choice([1280, 1500, 9000]), sysctl=knobs
    )
    options = TcpOptions(rcvbuf=rng.choice([0, 0, 5000, 50_000]), sndbuf=rng.choice([0, 0, 10_000]))
    ends = pair.connect(options.copy(), options.copy())
    totals = rng.choice([(60_000, 0), (0, 60_000), (50_000, 50_000), (1, 1), (0, 0)])
    habits = [Habit(conn, total, rng) for conn, total in zip(ends, totals, strict=True)]
    pair.tick = MSEC

    def finished() -> bool:
        for habit in habits:
            if not habit.done:
                habit.act()
        pair.flush()
        return all(habit.done for habit in habits)

    assert pair.run(finished, 300 * SEC), [(h.written, h.read, h.conn.state, h.conn.error) for h in habits]
    for habit, total in zip(habits, reversed(totals), strict=True):
        assert habit.digest.digest() == sha256(pattern(0, total)).digest()
    pair.tick = 0
    pair.idle(300 * SEC)
    assert not [*pair.a.tcp.conns(), *pair.b.tcp.conns()]
    assert pair.a.poll_timeout() is None
    assert pair.b.poll_timeout() is None


@pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
@pytest.mark.parametrize("offload", [False, True], ids=["plain", "offload"])
@pytest.mark.rfc("1191", "5")
@pytest.mark.rfc("8201", "4")
def test_a_narrow_router_is_found_out(v6, offload):
    pair = Pair(Link(rate=20 * MBIT, delay=10 * MSEC), v6=v6, offload=offload, router_mtu=1300)
    report = pair.transfer(300_000, 300_000)
    assert report.intact
    assert report.info.pmtu == 1300
    assert report.timeouts == 0
    assert report.elapsed < SEC


@pytest.mark.parametrize("loss", [0.05, 0.3])
def test_lost_acks_hardly_matter(loss):
    quiet = Pair(Link(rate=20 * MBIT, delay=10 * MSEC)).transfer(1_000_000)
    noisy = Pair(Link(rate=20 * MBIT, delay=10 * MSEC), Link(delay=10 * MSEC, loss=loss)).transfer(1_000_000)
    assert noisy.intact
    assert noisy.elapsed < 1.5 * quiet.elapsed
    assert noisy.retrans_segs < 20


@pytest.mark.rfc("8985", "3.3.2")
def test_mild_reordering_costs_little():
    straight = Pair(Link(rate=20 * MBIT, delay=20 * MSEC)).transfer(2_000_000)
    link = Link(rate=20 * MBIT, delay=20 * MSEC, reorder=0.02, reorder_by=2 * MSEC)
    mixed = Pair(link, Link(delay=20 * MSEC)).transfer(2_000_000)
    assert mixed.intact
    assert mixed.elapsed < 1.25 * straight.elapsed
    assert mixed.retrans_segs < 60


def test_a_clean_wire_sees_no_retransmission_and_few_acks():
    packets = {"a": 0, "b": 0}
    pair = Pair(Link(rate=20 * MBIT, delay=10 * MSEC))

    def count(name: str, _packet: bytes, _now: int) -> None:
        packets[name] += 1

    pair.taps.append(count)
    report = pair.transfer(1_000_000)
    assert report.retrans_segs == 0
    assert packets["b"] <= 0.6 * packets["a"] + 20


@pytest.mark.parametrize("cc", ["cubic", "reno"])
def test_two_flows_share_a_bottleneck(cc):
    pair = Pair(
        Link(rate=20 * MBIT, delay=10 * MSEC, queue=50_000),
        sysctl={"net.ipv4.tcp_congestion_control": cc},
        check_every=5000,
    )
    addr = pair.b.links["tun0"].addrs[0][0]
    listener = pair.b.tcp.listen(pair.b.tcp.bind(addr, 7), 5)
    clients = [pair.a.tcp.connect((addr, 7), pair.clock.now) for _ in range(2)]
    servers = []
    got: dict[int, int] = {}

    def go() -> bool:
        while (conn := listener.accept()) is not None:
            servers.append(conn)
        for conn in clients:
            while conn.established and conn.send_space > 0:
                conn.send(bytes(50_000))
        for conn in servers:
            got[conn.id] = got.get(conn.id, 0) + conn.readable
            conn.consume(conn.readable)
        pair.flush()
        return pair.clock.now > end

    end = pair.clock.now + 12 * SEC
    pair.flush()
    pair.run(go, 20 * SEC)
    rates = sorted(8 * total / 12 / MBIT for total in got.values())
    assert sum(rates) > 16
    assert rates[0] > 0.35 * rates[1]


@pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
def test_a_stack_talks_to_itself(v6):
    """Over `lo`: both ends live in one stack, and the driver sees no packet."""
    pair = Pair(Link())
    stack = pair.a
    addr = bytes(15) + b"\1" if v6 else bytes((127, 0, 0, 1))
    listener = stack.tcp.listen(stack.tcp.bind(addr, 7), 5)
    client = stack.tcp.connect((addr, 7), pair.clock.now)
    server = None
    sent = read = 0
    digest = sha256()
    total = 2_000_000
    for _ in range(100_000):
        assert stack.poll_transmit(pair.clock.now) is None
        server = server or listener.accept()
        while client.established and sent < total and client.send_space > 0:
            client.send(pattern(sent, 65536))
            sent += 65536
            if sent >= total:
                client.close()
        if server is not None and server.readable:
            for view in server.views(1 << 20):
                digest.update(view)
                read += len(view)
                server.consume(len(view))
        if server is not None and server.peer_closed and not server.readable:
            break
        due = stack.poll_timeout()
        if due is not None:
            pair.clock.advance_to(max(pair.clock.now, min(due, pair.clock.now + MSEC)))
            stack.handle_timeout(pair.clock.now)
    assert read == sent
    assert digest.digest() == sha256(pattern(0, sent)).digest()


def test_both_close_at_the_same_instant():
    pair = Pair(Link(delay=10 * MSEC))
    client, server = pair.connect()
    client.close()
    server.close()
    pair.flush()
    pair.idle(200 * SEC)
    assert not [*pair.a.tcp.conns(), *pair.b.tcp.conns()]


def test_a_sleeping_connection_wakes_up():
    pair = Pair(Link(rate=20 * MBIT, delay=10 * MSEC))
    client, server = pair.connect()
    for _ in range(3):
        client.send(pattern(0, 100_000))
        pair.flush()
        assert pair.run(lambda: server.readable == 100_000, 10 * SEC)
        server.consume(100_000)
        pair.idle(3600 * SEC)
    assert client.state.name == "ESTABLISHED"
