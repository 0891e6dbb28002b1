"""Packetization-layer path MTU discovery, RFC 4821: paths that drop what is too large and say nothing."""

import pytest

from kit.link import Link
from kit.pair import Pair
from stack.units import MSEC

PROBING = "net.ipv4.tcp_mtu_probing"


def pair_with(mtu: int, probing: str, **more: object) -> tuple[Pair, list[int]]:
    """A pair over a path of `mtu`, and the sizes of the IP packets that `a` sends."""
    pair = Pair(Link(delay=5 * MSEC, mtu=mtu), sysctl={PROBING: probing}, **more)  # type: ignore[arg-type]
    sizes: list[int] = []
    pair.taps.append(lambda name, packet, _now: sizes.append(len(packet) - 10) if name == "a" else None)
    return pair, sizes


@pytest.mark.rfc("4821", "7.7")
@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("offload", [False, True])
def test_a_black_hole_is_escaped_and_the_size_searched(v6: bool, offload: bool) -> None:
    pair, sizes = pair_with(1400 if v6 else 1300, "1", v6=v6, offload=offload)
    report = pair.transfer(3_000_000)
    assert report.intact
    final = report.info.snd_mss + 12 + (60 if v6 else 40)
    limit = 1400 if v6 else 1300
    assert limit - 8 - 4 <= final <= limit  # found to within tcp_probe_threshold
    assert max(sizes) == 1500  # what was tried at first
    assert pair.a.mib.TcpExtTCPMTUPSuccess >= 2


@pytest.mark.rfc("4821", "7.3")
def test_probing_always_starts_at_base_mss_and_finds_the_link() -> None:
    pair, sizes = pair_with(0, "2")
    report = pair.transfer(4_000_000)
    assert report.intact
    assert 1500 - 12 <= report.info.snd_mss + 52 <= 1500
    assert 1024 + 40 in sizes  # tcp_base_mss
    assert 1500 - 8 <= max(sizes) <= 1500
    assert report.retrans_segs == 0


@pytest.mark.rfc("4821", "7.6.2")
def test_a_lost_probe_does_not_shrink_the_window() -> None:
    pair, _sizes = pair_with(1300, "2")
    client, server = pair.connect()
    for _ in range(60):
        client.send(b"x" * 50_000)
        pair.flush()
        pair.idle(40 * MSEC)
        server.consume(server.readable)
    assert pair.a.mib.TcpExtTCPMTUPFail >= 3
    assert pair.a.mib.TcpRetransSegs >= 3
    assert pair.a.mib.TcpExtTCPSackRecovery == 0
    assert client.send_queued == 0


def test_by_default_nothing_probes() -> None:
    pair, _sizes = pair_with(1300, "0")
    client, _server = pair.connect()
    client.send(b"x" * 10_000)
    pair.flush()
    pair.idle(5_000 * MSEC)
    assert client.mtu_search is None
    assert client.send_queued == 10_000
