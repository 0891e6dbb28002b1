"""The extension API: option bytes out, options in, a say in text, window and FIN; RFC 9293 §3.1, RFC 6994."""

import errno
from collections.abc import Sequence

import pytest

from kit.link import Link
from kit.oracle import decode
from kit.pair import Pair
from stack.errors import StackError
from stack.tcp.conn import TcpConn
from stack.tcp.extension import TcpExtension
from stack.tcp.options import ON_DATA, ON_SYN, ON_SYN_ACK, ExtraOption, TcpOptions
from stack.units import SEC
from stack.wire.tcp import SYN, Segment
from stack.wire.tcp_options import RawOption

EXPERIMENT = 253
EXID = b"\xf9\x89"


class Mapper(TcpExtension):
    """An extension with a bit of everything: a mapping of 3000 bytes a packet, and FIN only when told."""

    reserve = 8

    def __init__(self) -> None:
        self.syn: list[RawOption] = []
        self.seen: list[RawOption] = []
        self.closable = False
        self.closed = False

    def options(self, conn: TcpConn, flags: int, room: int, seq: int, size: int, now: int) -> bytes:
        if flags & SYN:
            return bytes((EXPERIMENT, 4)) + EXID
        return bytes((EXPERIMENT, 8)) + EXID + (seq & 0xFFFF_FFFF).to_bytes(4, "big") if size else b""

    def on_syn(self, conn: TcpConn, options: Sequence[RawOption], now: int) -> None:
        self.syn = list(options)

    def on_segment(self, conn: TcpConn, seg: Segment, now: int) -> bool:
        self.seen += seg.unknown_options()
        return True

    def limit(self, conn: TcpConn, seq: int, size: int) -> int:
        return min(size, 3000 - (seq - conn.tcb.iss - 1) % 3000)

    def may_close(self, conn: TcpConn) -> bool:
        return self.closable

    def on_closed(self, conn: TcpConn) -> None:
        self.closed = True


@pytest.mark.rfc("6994", "3")
@pytest.mark.parametrize("offload", [True, False])
def test_an_extension_rides_on_every_segment(offload: bool) -> None:
    pair = Pair(offload=offload)
    ours, theirs = Mapper(), Mapper()
    client, server = pair.connect(extension=ours, server_extension=lambda _key, options: theirs if options else None)
    assert ours.syn == theirs.syn == [(EXPERIMENT, EXID)]
    data = bytes(range(256)) * 80
    client.send(data)
    client.shutdown()
    pair.flush()
    pair.idle(SEC)
    assert server.readable == len(data)
    assert not server.peer_closed  # FIN is held back
    ours.closable = True
    client.demux.mark(client)
    pair.flush()
    pair.idle(SEC)
    assert server.peer_closed
    starts = {int.from_bytes(body[2:], "big") for _kind, body in theirs.seen}
    assert len(starts) >= -(-len(data) // 3000)  # no packet crosses a mapping
    server.abort()
    pair.flush()
    pair.idle(SEC)
    assert (ours.closed, theirs.closed) == (True, True)


@pytest.mark.rfc("6994", "3")
def test_a_program_adds_options_and_reads_the_peers() -> None:
    pair = Pair()
    mine = ExtraOption(ON_SYN | ON_DATA, EXPERIMENT, EXID + b"hi")
    answer = ExtraOption(ON_SYN_ACK, 254, b"\0\1yo")
    client, server = pair.connect(
        TcpOptions(extra=(mine,), save_options=True), TcpOptions(extra=(answer,), save_options=True)
    )
    client.send(b"x" * 5000)
    pair.flush()
    pair.idle(SEC)
    assert (ON_SYN, (EXPERIMENT, EXID + b"hi")) in server.ext.saved
    assert (ON_DATA, (EXPERIMENT, EXID + b"hi")) in server.ext.saved
    assert list(client.ext.saved) == [(ON_SYN_ACK, (254, b"\0\1yo"))]
    assert server.readable == 5000
    client.set_option("extra", ())
    before = len(server.ext.saved)
    client.send(b"y")
    pair.flush()
    pair.idle(SEC)
    assert (server.readable, len(server.ext.saved)) == (5001, before)


@pytest.mark.parametrize(
    "extra", [ExtraOption(0, 253, b""), ExtraOption(ON_DATA, 1, b""), ExtraOption(1, 9, bytes(27))]
)
def test_what_cannot_be_sent_is_refused(extra: ExtraOption) -> None:
    client, _server = Pair().connect()
    with pytest.raises(StackError) as refused:
        client.set_option("extra", (extra,))
    assert refused.value.errno == errno.EINVAL


def test_sack_yields_where_both_do_not_fit() -> None:
    """Forty bytes hold timestamps and one full mapping (28); SACK then waits for a bare ACK, as in Linux."""
    pair = Pair(Link(loss={3}))
    full = ExtraOption(ON_DATA, EXPERIMENT, bytes(26))
    client, server = pair.connect(TcpOptions(extra=(full,)), TcpOptions(extra=(full,)))
    seen = []
    pair.taps.append(lambda _name, packet, _now: seen.append(decode([packet])))
    for text in (b"a", b"b", b"c"):
        client.send(text * 1000)
        server.send(text * 1000)
        pair.flush()
    pair.idle(5 * SEC)
    assert (client.readable, server.readable) == (3000, 3000)
    for packet in seen:
        assert sum(2 + len(body) for kind, body in packet.options if kind > 1) <= 40
        assert (EXPERIMENT, bytes(26)) in packet.options or not packet.payload
    assert any(packet.option(5) for packet in seen if not packet.payload)
    assert not any(packet.option(5) for packet in seen if packet.payload)
