"""The asyncio API between two stacks in one process: asyncio's own semantics, over our own TCP and UDP."""

import asyncio
import gc
import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

import kit.duo
from kit.duo import A4, A6, B4, B6, duo, echo
from nuse.aio import Network
from nuse.names import resolve
from stack.tcp.state import State


@pytest.fixture(autouse=True, params=[False, True], ids=["tcp", "mptcp"])
def over(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything here holds over TCP and over MPTCP."""
    monkeypatch.setattr(kit.duo, "MPTCP", request.param)


class Recorder(asyncio.Protocol):
    """Notes what a transport tells it."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.data = b""
        self.transport: Any = None
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        self.keep_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.log.append("made")

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.data += data
        if self.log[-1] != "data":
            self.log.append("data")

    def eof_received(self) -> bool:
        self.log.append("eof")
        return self.keep_open

    def pause_writing(self) -> None:
        self.log.append("pause")

    def resume_writing(self) -> None:
        self.log.append("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.log.append("lost")
        self.lost.set_result(exc)


async def until(fact: Any) -> None:
    async with asyncio.timeout(20):
        while not fact():
            await asyncio.sleep(0.001)


async def connected(a: Network, b: Network) -> tuple[Recorder, Recorder]:
    """A connection; the client's protocol and the server's."""
    accepted: list[Recorder] = []

    def factory() -> Recorder:
        accepted.append(Recorder())
        return accepted[-1]

    server = await b.create_server(factory, B4, 80)
    _, client = await a.create_connection(Recorder, B4, 80)
    await until(lambda: accepted and accepted[0].transport)
    server.close()
    return client, accepted[0]


@pytest.mark.parametrize(("host", "peer"), [(B4, (B4, 80)), (B6, (B6, 80, 0, 0))])
@pytest.mark.parametrize("offload", [True, False])
def test_streams_carry_megabytes_both_ways(host: str, peer: tuple[object, ...], offload: bool) -> None:
    async def scene(a: Network, b: Network) -> None:
        server = await b.start_server(echo, None, 80)
        reader, writer = await a.open_connection(host, 80)
        assert writer.get_extra_info("peername") == peer
        assert writer.get_extra_info("sockname")[0] in (A4, A6)
        assert writer.get_extra_info("tcp_info")["state"] == "ESTABLISHED"
        blob = bytes(range(256)) * 8192

        async def send() -> None:
            for at in range(0, len(blob), 50_000):
                writer.write(blob[at : at + 50_000])
                await writer.drain()
            writer.write_eof()

        sending = asyncio.create_task(send())
        assert await reader.read() == blob
        await sending
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    duo(scene, offload=offload)


def test_a_bad_link_loses_nothing_of_the_stream() -> None:
    async def scene(a: Network, b: Network) -> None:
        await b.start_server(echo, None, 80)
        reader, writer = await a.open_connection(B4, 80)
        blob = bytes(range(256)) * 4096
        writer.write(blob)
        writer.write_eof()
        assert await reader.read() == blob
        writer.close()

    duo(scene, words="delay 1ms loss 1% duplicate 1% reorder 5% corrupt 0.5% seed 7")


def test_one_write_of_any_size_and_type_arrives() -> None:
    async def scene(a: Network, b: Network) -> None:
        client, server = await connected(a, b)
        changing = bytearray(b"a" * 10)
        client.transport.write(changing)
        changing[:] = b"z" * 10
        client.transport.write(memoryview(b"xbcdy")[1:4])
        client.transport.writelines([b"e", b"f"])
        client.transport.write(b"")
        client.transport.write(b"g" * 3_000_000)
        await until(lambda: len(server.data) == 3_000_015)
        assert server.data.startswith(b"a" * 10 + b"bcdefg")
        client.transport.close()

    duo(scene)


def test_writing_pauses_at_the_high_water_mark_and_resumes_at_the_low_one() -> None:
    async def scene(a: Network, b: Network) -> None:
        client, server = await connected(a, b)
        client.transport.set_write_buffer_limits(high=100_000, low=50_000)
        assert client.transport.get_write_buffer_limits() == (50_000, 100_000)
        server.transport.pause_reading()
        while "pause" not in client.log:
            client.transport.write(bytes(50_000))
            await asyncio.sleep(0)
        assert client.transport.get_write_buffer_size() > 100_000
        held = len(server.data)
        await asyncio.sleep(0.02)
        assert len(server.data) == held
        assert "resume" not in client.log
        server.transport.resume_reading()
        await until(lambda: "resume" in client.log)
        client.transport.close()
        assert await client.lost is None

    duo(scene)


def test_half_close_lets_the_other_side_finish() -> None:
    async def scene(a: Network, b: Network) -> None:
        client, server = await connected(a, b)
        server.keep_open = True
        client.transport.write(b"question")
        client.transport.write_eof()
        with pytest.raises(RuntimeError, match="after write_eof"):
            client.transport.write(b"more")
        await until(lambda: "eof" in server.log)
        assert server.data == b"question"
        server.transport.write(b"answer")
        server.transport.close()
        assert await client.lost is None
        assert client.data == b"answer"
        assert client.log == ["made", "data", "eof", "lost"]

    duo(scene)


def test_close_sends_what_was_written_first() -> None:
    async def scene(a: Network, b: Network) -> None:
        client, server = await connected(a, b)
        client.transport.write(bytes(2_000_000))
        client.transport.close()
        assert client.transport.is_closing()
        client.transport.write(b"ignored")
        assert await client.lost is None
        await server.lost
        assert len(server.data) == 2_000_000

    duo(scene)


def test_abort_resets_the_peer() -> None:
    async def scene(a: Network, b: Network) -> None:
        client, server = await connected(a, b)
        client.transport.abort()
        assert await client.lost is None
        assert isinstance(await server.lost, ConnectionResetError)
        assert server.log == ["made", "lost"]

    duo(scene)


@pytest.mark.parametrize("text", [b"", b"last words"])
def test_a_connection_reset_before_it_was_accepted_gives_its_text_then_the_reset(text: bytes) -> None:
    async def scene(a: Network, b: Network) -> None:
        made: list[Recorder] = []

        def factory() -> Recorder:
            made.append(Recorder())
            return made[-1]

        server = await b.create_server(factory, B4, 80, start_serving=False)
        binding = server._bindings[0]
        listener = b.transport().listen(binding, 5)
        _, client = await a.create_connection(Recorder, B4, 80)
        client.transport.write(text)
        await until(lambda: listener.queued == 1 and not client.transport.conn.send_queued)
        client.transport.abort()
        await until(lambda: any(conn.error for conn in listener.queue))
        server.adopt(listener.accept())
        assert isinstance(await made[0].lost, ConnectionResetError)
        assert made[0].data == text
        assert made[0].log == ["made", *["data"] * bool(text), "lost"]
        server.close()

    duo(scene)


def test_text_before_a_reset_waits_for_a_paused_reader() -> None:
    async def scene(a: Network, b: Network) -> None:
        client, server = await connected(a, b)
        server.transport.pause_reading()
        client.transport.write(bytes(100_000))
        await until(lambda: server.transport.conn.readable == 100_000)
        client.transport.abort()
        await until(lambda: server.transport.conn.error)
        assert not server.lost.done()
        server.transport.resume_reading()
        assert isinstance(await server.lost, ConnectionResetError)
        assert len(server.data) == 100_000

    duo(scene)


def test_the_end_of_a_connection_that_said_all_waits_for_a_paused_reader() -> None:
    async def scene(a: Network, b: Network) -> None:
        client, server = await connected(a, b)
        client.transport.pause_reading()
        server.transport.write(b"x" * 50_000)
        server.keep_open = True
        server.transport.write_eof()
        conn = client.transport.get_extra_info("conn")
        await until(lambda: conn.peer_closed)
        client.transport.write_eof()  # both sides have said all: the connection is over
        await until(lambda: conn.state is State.CLOSED)
        assert client.log == ["made"]
        client.transport.resume_reading()
        assert await client.lost is None
        assert client.log == ["made", "data", "eof", "lost"]
        assert client.data == b"x" * 50_000

    duo(scene)


def test_a_protocol_that_throws_loses_its_connection_only() -> None:
    class Throwing(Recorder):
        def data_received(self, data: bytes) -> None:
            raise ValueError("bug of the program")

    async def scene(a: Network, b: Network) -> None:
        complaints: list[Any] = []
        a.loop.set_exception_handler(lambda _loop, context: complaints.append(context))
        throwing: list[Throwing] = []

        def factory() -> Throwing:
            throwing.append(Throwing())
            return throwing[-1]

        await b.create_server(factory, B4, 80)
        await b.start_server(echo, B4, 81)
        _, client = await a.create_connection(Recorder, B4, 80)
        reader, writer = await a.open_connection(B4, 81)
        client.transport.write(b"x")
        assert isinstance(await client.lost, ConnectionResetError)
        assert isinstance(await throwing[0].lost, ValueError)
        assert "data_received() failed" in complaints[0]["message"]
        writer.write(b"still here")
        assert await reader.readexactly(10) == b"still here"
        writer.close()

    duo(scene)


def test_buffered_protocols_get_their_own_buffer_filled() -> None:
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.buffer = bytearray(7)
            self.data = b""

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.data += self.buffer[:nbytes]

    async def scene(a: Network, b: Network) -> None:
        await b.start_server(echo, B4, 80)
        transport, protocol = await a.create_connection(Buffered, B4, 80)
        transport.write(b"0123456789" * 3)
        await until(lambda: protocol.data == b"0123456789" * 3)
        transport.close()

    duo(scene)


def test_connection_errors_are_the_usual_exceptions() -> None:
    async def scene(a: Network, b: Network) -> None:
        with pytest.raises(ConnectionRefusedError):
            await a.open_connection(B4, 9)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(a.open_connection("10.64.0.77", 9), 0.05)
        with pytest.raises(socket.gaierror, match=r"no-such-host\.example"):
            await a.open_connection("no-such-host.example", 9)
        server = await b.create_server(Recorder, B4, 80)
        with pytest.raises(OSError, match="port 80 is taken"):
            await b.create_server(Recorder, None, 80)
        with pytest.raises(OSError, match="not an address"):
            await b.create_server(Recorder, "10.64.0.77", 80)
        server.close()
        again = await b.create_server(Recorder, B4, 80)
        again.close()
        assert not list(a.stack.tcp.conns())

    duo(scene)


def test_a_client_can_choose_its_address_and_port() -> None:
    async def scene(a: Network, b: Network) -> None:
        await b.start_server(echo, B4, 80)
        _, writer = await a.open_connection(B4, 80, local_addr=(A4, 5555))
        assert writer.get_extra_info("sockname") == (A4, 5555)
        with pytest.raises(OSError, match=r"exists|taken"):
            await a.open_connection(B4, 80, local_addr=(A4, 5555))
        writer.close()

    duo(scene)


def test_a_server_takes_port_zero_and_waits_for_its_last_connection() -> None:
    async def scene(a: Network, b: Network) -> None:
        server = await b.start_server(echo)
        assert server.is_serving()
        assert server.port > 0
        assert server.addresses == [("::", server.port, 0, 0)]
        reader, writer = await a.open_connection(B4, server.port)
        writer.write(b"x")
        await reader.read(1)
        server.close()
        assert not server.is_serving()
        waiting = asyncio.create_task(server.wait_closed())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        writer.close()
        await waiting

    duo(scene)


def test_many_short_connections_leave_nothing_behind() -> None:
    async def scene(a: Network, b: Network) -> None:
        server = await b.start_server(echo, None, 80)

        async def one(number: int) -> None:
            reader, writer = await a.open_connection(B4 if number % 2 else B6, 80)
            writer.write(b"%d" % number)
            writer.write_eof()
            assert await reader.read() == b"%d" % number
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(*map(one, range(200)))
        server.close()
        await server.wait_closed()
        for net in (a, b):
            await until(lambda net=net: {conn.state.name for conn in net.stack.tcp.conns()} <= {"TIME_WAIT"})
            assert all(conn.owner is None for conn in net.stack.tcp.conns())

    duo(scene)
    gc.collect()


def test_datagrams_come_with_their_address_and_errors_are_told() -> None:
    class Datagrams(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.got: list[tuple[bytes, Any]] = []
            self.errors: list[Exception] = []
            self.transport: Any = None
            self.lost = False

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.got.append((data, addr))
            if data == b"ping":
                self.transport.sendto(b"pong", addr)

        def error_received(self, exc: Exception) -> None:
            self.errors.append(exc)

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost = True

    async def scene(a: Network, b: Network) -> None:
        server, at_server = await b.create_datagram_endpoint(Datagrams, local_addr=(B4, 53))
        client, at_client = await a.create_datagram_endpoint(Datagrams, remote_addr=(B4, 53))
        client.sendto(b"ping")
        await until(lambda: at_client.got)
        assert at_client.got == [(b"pong", (B4, 53))]
        assert at_server.got == [(b"ping", client.get_extra_info("sockname"))]
        nobody, at_nobody = await a.create_datagram_endpoint(Datagrams, remote_addr=(B6, 99))
        nobody.sendto(b"anybody?")
        await until(lambda: at_nobody.errors)
        assert isinstance(at_nobody.errors[0], ConnectionRefusedError)
        for transport in (client, server, nobody):
            transport.close()
        await until(lambda: at_client.lost and at_server.lost)

    duo(scene)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    words = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=nuse -addext subjectAltName=IP:{B4}"
    made = subprocess.run([*words.split(), "-keyout", "-", "-out", "-"], check=True, capture_output=True)
    path.write_bytes(made.stdout)
    return path


def test_tls_works_over_it(certificate: Path) -> None:
    at_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    at_server.load_cert_chain(certificate)
    at_client = ssl.create_default_context(cafile=str(certificate))

    async def scene(a: Network, b: Network) -> None:
        await b.start_server(echo, B4, 443, ssl=at_server)
        reader, writer = await a.open_connection(B4, 443, ssl=at_client)
        assert writer.get_extra_info("peername") == (B4, 443)
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        blob = bytes(range(256)) * 1024
        writer.write(blob)
        assert await reader.readexactly(len(blob)) == blob
        writer.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            await a.open_connection(B4, 443, ssl=True)

    duo(scene)


def test_names_are_literal_or_in_hosts(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("# comment\n10.0.0.1 one One.example # tail\n::1 one\nnonsense two\n")
    assert resolve("10.1.2.3") == [bytes([10, 1, 2, 3])]
    assert resolve(b"::1", hosts=hosts) == [bytes(15) + b"\1"]
    assert resolve("ONE", hosts=hosts) == [bytes([10, 0, 0, 1]), bytes(15) + b"\1"]
    assert resolve("one.example", hosts=hosts) == [bytes([10, 0, 0, 1])]
    assert resolve(None) == resolve("") == [bytes(16)]
    for name in ("two", "three", "comment"):
        with pytest.raises(socket.gaierror):
            resolve(name, hosts=hosts)
