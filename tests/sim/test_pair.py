"""Two stacks over bad wires: every byte arrives, both ways, whatever the wire does."""

import pytest

from kit.link import Link
from kit.pair import Pair
from stack.tcp.options import TcpOptions
from stack.units import MSEC, SEC

pytestmark = pytest.mark.long

MBIT = 1_000_000


@pytest.mark.parametrize("v6", [False, True], ids=["v4", "v6"])
@pytest.mark.parametrize("offload", [False, True], ids=["plain", "offload"])
@pytest.mark.parametrize(
    "trouble",
    [
        {},
        {"loss": 0.01},
        {"loss": 0.1},
        {"reorder": 0.1},
        {"dup": 0.1},
        {"corrupt": 0.03},
        {"jitter": 5 * MSEC},
        {"loss": 0.03, "reorder": 0.05, "dup": 0.03, "corrupt": 0.01, "jitter": 3 * MSEC},
        {"queue": 15_000},
    ],
    ids=["clean", "loss1", "loss10", "reorder", "dup", "corrupt", "jitter", "everything", "queue"],
)
def test_every_byte_arrives_both_ways(trouble, offload, v6):
    pair = Pair(Link(rate=50 * MBIT, delay=10 * MSEC, **trouble), v6=v6, offload=offload)
    report = pair.transfer(300_000, 200_000)
    assert report.intact
    pair.idle(200 * SEC)
    assert not list(pair.a.tcp.conns())
    assert not list(pair.b.tcp.conns())


@pytest.mark.parametrize("seed", range(12))
def test_every_seed_of_a_very_bad_wire(seed):
    link = Link(rate=20 * MBIT, delay=20 * MSEC, loss=0.08, reorder=0.1, dup=0.05, corrupt=0.02, seed=seed)
    report = Pair(link, seed=seed, offload=bool(seed % 2)).transfer(150_000, 150_000)
    assert report.intact


@pytest.mark.parametrize(
    "knob", ["tcp_sack", "tcp_timestamps", "tcp_window_scaling", "tcp_recovery", "tcp_early_retrans"]
)
@pytest.mark.parametrize("cc", ["cubic", "reno"])
def test_every_feature_turned_off(knob, cc):
    sysctl = {f"net.ipv4.{knob}": "0", "net.ipv4.tcp_congestion_control": cc}
    report = Pair(Link(rate=20 * MBIT, delay=10 * MSEC, loss=0.02, reorder=0.02), sysctl=sysctl).transfer(
        300_000, 50_000
    )
    assert report.intact


@pytest.mark.parametrize("number", range(12))
def test_any_single_packet_may_be_lost(number):
    """Handshake, data, FIN: one loss is always repaired, and the connection always ends."""
    for direction in (0, 1):
        masks = [{number} if direction == 0 else set(), {number} if direction == 1 else set()]
        pair = Pair(Link(delay=10 * MSEC, loss=masks[0]), Link(delay=10 * MSEC, loss=masks[1]))
        report = pair.transfer(5_000, 5_000)
        assert report.intact
        assert report.elapsed < 4 * SEC
        pair.idle(200 * SEC)
        assert not list(pair.a.tcp.conns())
        assert not list(pair.b.tcp.conns())


def test_the_same_seed_gives_the_same_bytes():
    def run() -> list[bytes]:
        seen: list[bytes] = []
        pair = Pair(Link(rate=20 * MBIT, delay=10 * MSEC, loss=0.05, reorder=0.05, dup=0.05, seed=7), seed=3)
        pair.taps.append(lambda _name, packet, _now: seen.append(packet))
        assert pair.transfer(100_000, 50_000).intact
        return seen

    assert run() == run()


@pytest.mark.rfc("9293", "3.8.6")
def test_a_slow_reader_holds_the_sender_back_and_loses_nothing():
    pair = Pair(Link(rate=100 * MBIT, delay=5 * MSEC))
    options = TcpOptions(rcvbuf=20_000)
    report = pair.transfer(300_000, read_rate=200_000, server_options=options)
    assert report.intact
    assert report.elapsed == pytest.approx(1.5 * SEC, rel=0.15)
    assert report.retrans_segs == 0


def test_a_dead_wire_ends_in_a_timeout_on_both_sides():
    dead = [False]
    cut = lambda _number, _packet: dead[0]  # noqa: E731
    pair = Pair(Link(delay=10 * MSEC, loss=cut), Link(delay=10 * MSEC, loss=cut))
    client, server = pair.connect()
    dead[0] = True
    client.send(b"x" * 1000)
    server.send(b"y" * 1000)
    pair.flush()
    pair.run(lambda: bool(client.error and server.error), 3600 * SEC)
    assert (client.error, server.error) == (110, 110)
    assert not list(pair.a.tcp.conns())


@pytest.mark.parametrize("mtu", [576, 1280, 9000, 65535])
def test_any_mtu(mtu):
    report = Pair(Link(rate=100 * MBIT, delay=5 * MSEC), mtu=mtu, v6=mtu >= 1280).transfer(400_000, 100_000)
    assert report.intact
    assert report.retrans_segs <= 30


@pytest.mark.rfc("7323", "2.2")
def test_a_long_fat_pipe_is_filled():
    pair = Pair(Link(rate=80 * MBIT, delay=50 * MSEC), check_every=1000)  # 1 MB on the wire
    report = pair.transfer(12_000_000)
    assert report.intact
    assert report.goodput > 48 * MBIT


def test_many_connections_at_once():
    pair = Pair(Link(rate=50 * MBIT, delay=5 * MSEC, loss=0.02))
    addr = pair.b.links["tun0"].addrs[0][0]
    listener = pair.b.tcp.listen(pair.b.tcp.bind(addr, 7), 200)
    clients = [pair.a.tcp.connect((addr, 7), pair.clock.now) for _ in range(100)]
    pair.flush()
    servers = []

    def all_accepted() -> bool:
        while (conn := listener.accept()) is not None:
            servers.append(conn)
        return len(servers) == 100

    assert pair.run(all_accepted, 300 * SEC)
    assert len({conn.local for conn in clients}) == 100
    for number, conn in enumerate(clients):
        conn.send(str(number).encode())
        conn.close()
    pair.flush()
    assert pair.run(lambda: all(conn.peer_closed for conn in servers), 300 * SEC)
    texts = sorted(int(b"".join(conn.views(100))) for conn in servers)
    assert texts == list(range(100))


def test_counters_of_segments_count_wire_segments():
    """As Linux, which adds a super-segment's segments: what was sent first, and what was delivered."""
    pair = Pair(Link(rate=100_000_000, delay=5 * MSEC))
    report = pair.transfer(1_448_000)
    assert report.intact
    pair.idle(SEC)
    mib = pair.a.mib
    assert 1000 <= mib.TcpExtTCPOrigDataSent <= 1030
    assert 1000 <= mib.TcpExtTCPDelivered <= 1100
    assert report.info.data_segs_out == mib.TcpExtTCPOrigDataSent
