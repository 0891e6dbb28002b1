"""The debug socket over a stack of stand-ins: words and JSON-RPC give the same, and no client can hurt."""

import asyncio
import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kit.recorder import Recorder
from nuse import debugsock
from nuse.debugsock import MAX_CLIENTS, MAX_LINE, DebugServer
from nuse.device import pair
from nuse.driver import Driver
from nuse.loop import run
from stack.config import Sysctl
from stack.ip.link import Link
from stack.mib import Mib


@dataclass
class Info:
    rtt: int = 40


@dataclass
class Conn:
    id: int
    state: Any = field(default_factory=lambda: SimpleNamespace(name="ESTABLISHED"))
    local: tuple[bytes, int] = (bytes([10, 64, 0, 2]), 80)
    remote: tuple[bytes, int] = (b"\xfd\x64" + bytes(13) + b"\1", 4000)
    readable: int = 0
    send_queued: int = 5
    link: Link | None = None
    owner: object = None
    ext: object = None

    def info(self, now: int) -> Info:
        return Info()


class FakeStack(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.sysctl = Sysctl()
        self.mib = Mib()
        self.links = {"tun0": Link("tun0", 2, addrs=[(bytes([10, 64, 0, 2]), 24)])}
        self.list = [Conn(3, link=self.links["tun0"])]
        self.tcp = SimpleNamespace(
            conns=lambda: iter(self.list),
            listeners=lambda: [SimpleNamespace(local=(bytes(4), 80), queued=2, backlog=5, owner=None, extension=None)],
        )
        self.tracer: Callable[[str, Any], None] | None = None


Ask = Callable[[str], Awaitable[Any]]


def serving(tmp_path: Path, scene: Callable[[DebugServer, FakeStack, Ask], Awaitable[None]]) -> None:
    """Run a scene against a server; `ask` sends one line on a connection of its own."""

    async def main() -> None:
        stack = FakeStack()
        driver = Driver(stack)
        near, _ = pair()
        driver.attach(stack.links["tun0"], near)
        server = DebugServer(driver, tmp_path / "debug.sock", name="nuse")
        await server.start()

        async def ask(line: str) -> Any:
            reader, writer = await asyncio.open_unix_connection(server.path, limit=1 << 24)
            writer.write(line.encode() + b"\n")
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            assert answer.count(b"\n") <= 1
            return json.loads(answer) if answer else None

        try:
            async with asyncio.timeout(20):
                await scene(server, stack, ask)
        finally:
            await server.stop()
            driver.close()
        assert not server.path.exists()

    run(main())


CONN = {
    "id": 3,
    "proto": "tcp",
    "state": "ESTABLISHED",
    "local": "10.64.0.2:80",
    "remote": "[fd64::1]:4000",
    "recvq": 0,
    "sendq": 5,
    "link": "tun0",
    "owner": "",
    "info": {"rtt": 40},
}


def test_words_and_json_rpc_give_the_same_results(tmp_path: Path) -> None:
    async def scene(server: DebugServer, stack: FakeStack, ask: Ask) -> None:
        for words, method, params in [
            ("conns", "conns", []),
            ("conn 3", "conn", [3]),
            ("conn 3", "conn", {"id": 3}),
            ("listeners", "listeners", {}),
            ("links", "links", []),
            ("counters IpInReceives", "counters", {"name": "IpInReceives"}),
            ("sysctl net.ipv4.tcp_sack", "sysctl", ["net.ipv4.tcp_sack"]),
            ("sysctl net.ipv4.tcp_rmem 1 2 3", "sysctl", {"name": "net.ipv4.tcp_rmem", "value": [1, 2, 3]}),
            ("help", "help", []),
            ("version", "version", []),
        ]:
            plain = await ask(words)
            assert plain["ok"] is True
            call = {"jsonrpc": "2.0", "id": "x", "method": method, "params": params}
            assert await ask(json.dumps(call)) == {"jsonrpc": "2.0", "id": "x", "result": plain["result"]}
        assert (await ask("conns"))["result"] == [CONN]
        assert (await ask("listeners"))["result"][0]["local"] == "0.0.0.0:80"
        assert (await ask("stack"))["result"]["states"] == {"ESTABLISHED": 1}

    serving(tmp_path, scene)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("cons", "no method 'cons'; try help"),
        ("conn", "usage: conn ID"),
        ("conn x", "usage: conn ID; ids are in `conns`"),
        ("conn 99", "no connection 99"),
        ("sysctl net.ipv4.tcp_sac", "no sysctl 'net.ipv4.tcp_sac'; did you mean 'net.ipv4.tcp_sack'?"),
        ("sysctl net.ipv4.tcp_sack 7", "outside 0..1"),
        ("link tun9", "no link 'tun9'; there are tun0"),
        ("link tun0 sideways", "usage: link NAME"),
        ("link tun0 impair dealy 1ms", "unknown word 'dealy'"),
        ("subscribe everything", "usage: subscribe events"),
        ("events x", "usage: events"),
        ("counters Nope", "no counter 'Nope'"),
    ],
)
def test_a_wrong_request_is_told_why(tmp_path: Path, line: str, error: str) -> None:
    async def scene(server: DebugServer, stack: FakeStack, ask: Ask) -> None:
        answer = await ask(line)
        assert answer["ok"] is False
        assert error in answer["error"]
        word, *args = line.split()
        answer = await ask(json.dumps({"jsonrpc": "2.0", "id": 1, "method": word, "params": args}))
        assert error in answer["error"]["message"]
        assert answer["error"]["code"] in (-32601, -32602, -32000)

    serving(tmp_path, scene)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("{", -32700),
        ("{}", -32600),
        ('{"jsonrpc":"2.0","id":4,"method":5}', -32600),
        ('{"jsonrpc":"2.0","id":4,"method":"conn","params":{"nr":1}}', -32602),
        ('{"jsonrpc":"2.0","id":4,"method":"link","params":{"verb":"up"}}', -32602),
        ('{"jsonrpc":"2.0","id":4,"method":"conn","params":[[]]}', -32602),
    ],
)
def test_a_wrong_call_gets_the_json_rpc_code(tmp_path: Path, line: str, code: int) -> None:
    async def scene(server: DebugServer, stack: FakeStack, ask: Ask) -> None:
        answer = await ask(line)
        assert answer["error"]["code"] == code
        assert answer["id"] == (4 if "id" in line else None)

    serving(tmp_path, scene)


def test_a_notification_is_done_and_not_answered(tmp_path: Path) -> None:
    async def scene(server: DebugServer, stack: FakeStack, ask: Ask) -> None:
        call = {"jsonrpc": "2.0", "method": "sysctl", "params": ["net.ipv4.tcp_sack", 0]}
        assert await ask(json.dumps(call)) is None
        assert stack.sysctl.tcp_sack == 0

    serving(tmp_path, scene)


def test_a_link_is_taken_down_and_impaired(tmp_path: Path) -> None:
    async def scene(server: DebugServer, stack: FakeStack, ask: Ask) -> None:
        assert (await ask("link tun0 down"))["result"]["up"] is False
        assert stack.links["tun0"].up is False
        link = (await ask("link tun0 impair delay 5ms seed 1 egress"))["result"]
        assert link["impair"]["egress"]["spec"] == "delay 5ms seed 1"
        assert (await ask("link tun0"))["result"]["impair"] == link["impair"]
        assert (await ask("link tun0 impair clear"))["result"]["impair"] == {}
        assert (await ask("events"))["result"][0]["event"] == "link-down"

    serving(tmp_path, scene)


def test_events_are_kept_and_streamed(tmp_path: Path) -> None:
    async def scene(server: DebugServer, stack: FakeStack, ask: Ask) -> None:
        assert stack.tracer is not None
        stack.tracer("opened", stack.list[0])
        (event,) = (await ask("events"))["result"]
        assert (event["event"], event["id"], event["remote"]) == ("opened", 3, "[fd64::1]:4000")
        reader, writer = await asyncio.open_unix_connection(server.path)
        writer.write(b"subscribe events\n")
        writer.write_eof()
        assert json.loads(await reader.readline())["ok"] is True
        stack.tracer("closed", stack.list[0])
        assert json.loads(await reader.readline())["event"] == "closed"
        rpc_reader, rpc_writer = await asyncio.open_unix_connection(server.path)
        rpc_writer.write(b'{"jsonrpc":"2.0","id":1,"method":"subscribe","params":["events"]}\n')
        assert json.loads(await rpc_reader.readline())["result"] == {"subscribed": "events"}
        stack.tracer("reset", stack.list[0])
        note = json.loads(await rpc_reader.readline())
        assert (note["method"], note["params"]["event"]) == ("event", "reset")
        writer.close()
        rpc_writer.close()

    serving(tmp_path, scene)


def test_a_reader_that_does_not_read_loses_events_and_costs_nothing(tmp_path: Path) -> None:
    async def scene(server: DebugServer, stack: FakeStack, ask: Ask) -> None:
        reader, writer = await asyncio.open_unix_connection(server.path, limit=1 << 10)
        writer.write(b"subscribe events\n")
        assert json.loads(await reader.readline())["ok"] is True
        assert stack.tracer is not None
        for _ in range(100):
            for _ in range(100):
                stack.tracer("opened", stack.list[0])
            await asyncio.sleep(0)
        (subscriber,) = server.log.subscribers
        assert len(subscriber._queue) <= 1000
        lost = 0
        seen = 0
        while seen + lost < 10_000:
            event = json.loads(await reader.readline())
            seen += event["event"] == "opened"
            lost += event.get("count", 0)
        assert lost > 0
        writer.close()

    serving(tmp_path, scene)


def test_a_hundred_thousand_connections_do_not_hold_up_the_loop(tmp_path: Path) -> None:
    async def scene(server: DebugServer, stack: FakeStack, ask: Ask) -> None:
        stack.list = [Conn(i) for i in range(20_000)]
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        counting = asyncio.create_task(count())
        answer = await ask("conns")
        counting.cancel()
        assert [conn["id"] for conn in answer["result"]] == list(range(20_000))
        assert turns >= 20_000 / debugsock.SLICE

    serving(tmp_path, scene)


def test_several_requests_on_one_connection_are_answered_in_turn(tmp_path: Path) -> None:
    async def scene(server: DebugServer, stack: FakeStack, ask: Ask) -> None:
        reader, writer = await asyncio.open_unix_connection(server.path)
        writer.write(b"version\n\r\n  conn 3  \nnonsense\n")
        assert "protocol" in json.loads(await reader.readline())["result"]
        assert json.loads(await reader.readline())["result"]["id"] == 3
        assert json.loads(await reader.readline())["ok"] is False
        writer.close()

    serving(tmp_path, scene)


def test_an_endless_line_ends_the_connection(tmp_path: Path) -> None:
    async def scene(server: DebugServer, stack: FakeStack, ask: Ask) -> None:
        answer = await ask("x" * (2 * MAX_LINE))
        assert "at most 65536 bytes" in answer["error"]

    serving(tmp_path, scene)


def test_clients_are_bounded_and_places_come_back(tmp_path: Path) -> None:
    async def scene(server: DebugServer, stack: FakeStack, ask: Ask) -> None:
        clients = [await asyncio.open_unix_connection(server.path) for _ in range(MAX_CLIENTS)]
        for reader, writer in clients:
            writer.write(b"version\n")
            await reader.readline()
        reader, writer = await asyncio.open_unix_connection(server.path)
        assert "more than 32 clients" in json.loads(await reader.readline())["error"]
        writer.close()
        for _, writer in clients:
            writer.close()
        while server._clients:
            await asyncio.sleep(0.001)
        assert (await ask("version"))["ok"] is True

    serving(tmp_path, scene)


def test_the_socket_is_the_owners_alone_and_replaces_a_dead_one(tmp_path: Path) -> None:
    async def scene(server: DebugServer, stack: FakeStack, ask: Ask) -> None:
        assert stat.S_IMODE(os.stat(server.path).st_mode) == 0o600
        with pytest.raises(OSError, match="in use by a running stack"):
            await DebugServer(server.driver, server.path).start()

    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "debug.sock"))
    serving(tmp_path, scene)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "notes"
        path.write_text("mine")
        driver = Driver(FakeStack())
        with pytest.raises(OSError, match="is no socket"):
            await DebugServer(driver, path).start()
        with pytest.raises(OSError, match="longer than 107"):
            await DebugServer(driver, tmp_path / ("x" * 120)).start()
        assert path.read_text() == "mine"
        driver.close()

    run(main())
