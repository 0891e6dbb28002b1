"""Urgent data: one byte out of band, RFC 9293 §3.8.5, RFC 6093."""

import errno
from typing import Any

import pytest

from kit.link import Link
from kit.oracle import decode
from kit.pair import Pair
from stack.errors import StackError
from stack.events import URGENT
from stack.tcp.options import TcpOptions
from stack.units import SEC

URG = 32


def settle(pair: Pair) -> None:
    pair.flush()
    pair.idle(SEC)


def read(conn: Any, limit: int = 1 << 20) -> bytes:
    """One read: it stops at the mark."""
    data = b"".join(conn.views(limit))
    conn.consume(len(data))
    return data


@pytest.mark.rfc("9293", "3.8.5")
@pytest.mark.rfc("6093", "2.1")
def test_the_byte_is_taken_out_of_band_and_reads_stop_at_the_mark() -> None:
    pair = Pair()
    client, server = pair.connect()
    told: list[int] = []
    server.owner = lambda _conn, mask: told.append(mask)
    seen = []
    pair.taps.append(lambda name, packet, _now: seen.append((name, decode([packet]))))
    client.send(b"abc")
    client.send(b"de!", urgent=True)
    client.send(b"fgh")
    settle(pair)
    assert any(mask & URGENT for mask in told)
    marked = [packet for name, packet in seen if name == "a" and packet.flags & URG]
    assert all(packet.urg == client.tcb.iss + 1 + 6 - packet.seq for packet in marked)  # one past the byte
    assert server.readable == 8
    assert server.recv_urgent(peek=True) == server.recv_urgent() == b"!"
    with pytest.raises(StackError) as gone:
        server.recv_urgent()
    assert gone.value.errno == errno.EINVAL
    assert not server.at_mark()
    assert read(server) == b"abcde"
    assert server.at_mark()
    assert read(server) == b"fgh"
    assert not server.at_mark()
    assert server.readable == 0


@pytest.mark.rfc("6093", "3")
def test_in_line_it_is_text_like_any_other() -> None:
    pair = Pair()
    client, server = pair.connect(server_options=TcpOptions(oobinline=True))
    client.send(b"ab!", urgent=True)
    client.send(b"c")
    settle(pair)
    assert server.readable == 4
    with pytest.raises(StackError):
        server.recv_urgent()
    assert read(server) == b"ab"  # SO_OOBINLINE still stops at the mark
    assert server.at_mark()
    assert read(server) == b"!c"


@pytest.mark.rfc("9293", "3.8.5")
def test_the_mark_comes_before_its_byte() -> None:
    pair = Pair()
    client, server = pair.connect()
    server.set_option("rcvbuf", 4096)
    client.send(b"x" * 100_000)
    client.send(b"!", urgent=True)
    settle(pair)
    with pytest.raises(StackError) as waiting:
        server.recv_urgent()
    assert waiting.value.errno == errno.EAGAIN
    got = b""
    while len(got) < 100_000:
        got += read(server)
        settle(pair)
    assert got == b"x" * 100_000
    assert server.recv_urgent() == b"!"
    assert read(server) == b""
    assert server.readable == 0


@pytest.mark.rfc("9293", "3.8.5")
def test_the_last_mark_counts() -> None:
    pair = Pair()
    client, server = pair.connect()
    client.send(b"a1", urgent=True)
    settle(pair)
    client.send(b"b2", urgent=True)
    settle(pair)
    assert server.recv_urgent() == b"2"
    assert read(server) == b"a1b"


@pytest.mark.rfc("9293", "3.8.5")
def test_an_urgent_byte_survives_loss_and_offload_never_repeats_the_pointer() -> None:
    pair = Pair(Link(loss={3, 5, 6}))
    client, server = pair.connect()
    seen = []
    pair.taps.append(lambda name, packet, _now: seen.append((name, decode([packet]))))
    client.send(b"x" * 20_000)
    client.send(b"yy!", urgent=True)
    client.send(b"z" * 20_000)
    settle(pair)
    pair.idle(5 * SEC)
    assert server.recv_urgent() == b"!"
    text = read(server)
    text += read(server)
    assert text == b"x" * 20_000 + b"yy" + b"z" * 20_000
    end = client.tcb.iss + 1 + 20_003
    for name, packet in seen:
        if name == "a" and packet.flags & URG:
            assert (packet.seq + packet.urg - end) & 0xFFFF_FFFF == 0


def test_without_urgent_data_there_is_none_to_take() -> None:
    client, _server = Pair().connect()
    with pytest.raises(StackError) as refused:
        client.recv_urgent()
    assert refused.value.errno == errno.EINVAL


@pytest.mark.rfc("9293", "3.8.5")
def test_urgent_data_wait_for_nothing() -> None:
    """Neither TCP_CORK nor Nagle holds them back, nor what was written before them; what comes after waits again."""
    pair = Pair()
    client, server = pair.connect()
    client.set_option("cork", True)
    client.send(b"held back ")
    pair.flush()
    assert not server.readable
    client.send(b"urgent!", urgent=True)
    pair.flush()
    pair.idle(SEC // 10)
    assert read(server) == b"held back urgent"
    assert server.recv_urgent() == b"!"
    client.send(b"after it")
    pair.flush()
    pair.idle(SEC // 10)
    assert not server.readable
