"""Scheduler, congestion control and weights of a connection: chosen by its program, and changed while it runs."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kit.duo import A4, B4, duo, echo, until
from mptcp.connection import MptcpConn
from mptcp.host import MptcpHost
from mptcp.sockopt import MptcpOptions
from mptcp.subflow import Subflow
from nuse.aio import Network
from nuse.debugrpc import DebugError, DebugMethods, parse_request
from nuse.eventlog import EventLog
from nuse.mptcpset import change_lines
from stack.errors import StackError
from stack.ip.addr import parse_addr

TEXT = bytes(range(256)) * 400
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def talk(streams: Streams) -> None:
    reader, writer = streams
    writer.write(TEXT)
    assert await reader.readexactly(len(TEXT)) == TEXT


class Asker:
    """The debug socket's side of a network; `obey` speaks of one connection."""

    def __init__(self, net: Network, conn: Any) -> None:
        self.methods = DebugMethods(net.driver, EventLog(), "nuse", net.mptcp)
        self.conn = conn

    def obey(self, what: str, *more: object) -> Any:
        return self.methods.call("mptcp", [what, str(self.conn.id), *map(str, more)])

    def refused(self, what: str, *more: object) -> str:
        with pytest.raises(DebugError) as caught:
            self.obey(what, *more)
        return str(caught.value)


@asynccontextmanager
async def begun(a: Network, b: Network, **options: Any) -> AsyncIterator[tuple[Streams, Any, Asker]]:
    """A connection that has proved itself."""
    await b.start_server(echo, None, 80, mptcp=True)
    streams = await a.open_connection(B4, 80, **({"mptcp": True} | options))
    await talk(streams)
    meta = streams[1].get_extra_info("conn")
    yield streams, meta, Asker(a, meta)
    streams[1].close()


async def join(a: Network, meta: MptcpConn) -> Subflow:
    """One subflow more, over the same two addresses."""
    sub = meta.join(parse_addr(A4), (parse_addr(B4), 80), local_id=0, remote_id=0, backup=False, now=a.driver.now())
    a.driver.wake()
    await until(lambda: sub.joined)
    return sub


def test_the_scheduler_is_exchanged_while_text_flows() -> None:
    async def scene(a: Network, b: Network) -> None:
        async with begun(a, b) as (streams, meta, ask):
            await join(a, meta)
            assert ask.obey("scheduler") == {"id": meta.id, "scheduler": "minrtt"}
            for name in ("roundrobin", "redundant", "blest", "ecf", "weighted", "minrtt"):
                talking = asyncio.ensure_future(talk(streams))
                await asyncio.sleep(0)
                assert ask.obey("scheduler", name) == {"id": meta.id, "scheduler": name}
                await talking
            assert change_lines(ask.obey("scheduler")) == ["minrtt"]
            assert "no scheduler 'fastest'" in ask.refused("scheduler", "fastest")
            assert meta.scheduler.name == "minrtt"

    duo(scene)


def test_congestion_control_holds_for_all_subflows_and_later_ones() -> None:
    async def scene(a: Network, b: Network) -> None:
        async with begun(a, b) as (streams, meta, ask):
            await join(a, meta)
            assert change_lines(ask.obey("cc")) == ["cubic"]
            assert ask.obey("cc", "lia") == {"id": meta.id, "cc": "lia"}
            await join(a, meta)
            assert [sub.conn.cc.name for sub in meta.subflows] == ["lia"] * 3
            assert meta.group.members == [sub.conn.cc for sub in meta.subflows]
            await talk(streams)
            assert "no congestion control 'vegas'" in ask.refused("cc", "vegas")
            a.stack.sysctl.tcp_allowed_congestion_control = "cubic reno"
            assert "tcp_allowed_congestion_control" in ask.refused("cc", "bbr")
            assert ask.obey("cc") == {"id": meta.id, "cc": "lia"}

    duo(scene)


def test_a_weight_outlives_its_subflow() -> None:
    async def scene(a: Network, b: Network) -> None:
        async with begun(a, b, options=MptcpOptions(scheduler="weighted")) as (streams, meta, ask):
            assert ask.obey("weight") == {"id": meta.id, "weights": {"1": 1}}
            assert ask.obey("weight", 1, 7) == {"id": meta.id, "weights": {"1": 7}}
            sub = await join(a, meta)
            assert change_lines(ask.obey("weight")) == ["subflow 1 weight 7", f"subflow {sub.id} weight 7"]
            await talk(streams)
            (row,) = ask.methods.call("mptcp", [])
            assert [each["weight"] for each in row["subflows"]] == [7, 7]
            assert any("weight 7" in line for line in ask.methods.call("explain", [str(meta.id)])["lines"])

    duo(scene)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("scheduler", "usage: mptcp scheduler CONN"),
        ("scheduler {id} a b", "usage:"),
        ("cc {id} a b", "usage:"),
        ("weight {id} 1", "usage:"),
        ("weight {id} 9 2", "no subflow 9; connection {id} has 1"),
        ("weight {id} 1 0", "weight 0 is outside 1..1000"),
        ("weight {id} 1 1001", "weight 1001 is outside"),
        ("weight {id} 1 ²", "weight '²' is no number"),
        ("weight {id} 1 -1", "weight '-1' is no number"),
        ("scheduler 999", "no connection '999'"),
    ],
)
def test_what_makes_no_sense_is_refused(words: str, why: str) -> None:
    async def scene(a: Network, b: Network) -> None:
        async with begun(a, b) as (_, meta, ask):
            with pytest.raises(DebugError) as caught:
                ask.methods.call("mptcp", words.format(id=meta.id).split())
            assert why.format(id=meta.id) in str(caught.value)

    duo(scene)


def test_plain_tcp_has_a_congestion_control_but_no_scheduler() -> None:
    async def scene(a: Network, b: Network) -> None:
        async with begun(a, b, mptcp=False) as (_, conn, ask):
            assert ask.obey("cc", "reno") == {"id": conn.id, "cc": "reno"}
            assert change_lines(ask.obey("cc")) == [conn.cc.name] == ["reno"]
            for what in ("scheduler", "weight"):
                assert f"connection {conn.id} is plain TCP" in ask.refused(what)

    duo(scene)


def test_json_rpc_has_them_too() -> None:
    async def scene(a: Network, b: Network) -> None:
        async with begun(a, b) as (_, meta, ask):
            call = {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "mptcp",
                "params": {"words": ["scheduler", str(meta.id), "ecf"]},
            }
            request = parse_request(json.dumps(call), ask.methods.table)
            assert ask.methods.call(request.method, request.args) == {"id": meta.id, "scheduler": "ecf"}

    duo(scene)


def test_programs_choose_by_options_on_both_sides() -> None:
    async def scene(a: Network, b: Network) -> None:
        chosen: list[tuple[str, ...]] = []

        def note(conn: Any) -> None:
            mptcp = isinstance(conn, MptcpConn)
            chosen.append((conn.scheduler.name, conn.subflows[0].conn.cc.name) if mptcp else (conn.cc.name,))

        async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            note(writer.get_extra_info("conn"))
            await echo(reader, writer)

        theirs = MptcpOptions(scheduler="ecf", congestion="olia")
        await b.start_server(on_client, None, 80, mptcp=True, options=theirs)
        for mptcp in (True, False):
            ours = MptcpOptions(scheduler="blest", congestion="balia")
            streams = await a.open_connection(B4, 80, mptcp=mptcp, options=ours)
            await talk(streams)
            note(streams[1].get_extra_info("conn"))
            streams[1].close()
        assert chosen == [("ecf", "olia"), ("blest", "balia"), ("olia",), ("balia",)]

    duo(scene)


def test_a_name_that_is_none_is_refused_before_anything_happens() -> None:
    async def scene(a: Network, _b: Network) -> None:
        for wrong in (MptcpOptions(scheduler="fastest"), MptcpOptions(congestion="fastest")):
            with pytest.raises(StackError, match=r"no .* 'fastest'"):
                await a.open_connection(B4, 80, mptcp=True, options=wrong)
            with pytest.raises(StackError, match=r"no .* 'fastest'"):
                await a.start_server(echo, None, 80, mptcp=True, options=wrong)
        assert isinstance(a.mptcp, MptcpHost)
        assert not a.mptcp.conns
        assert not list(a.stack.tcp.conns())
        await a.start_server(echo, None, 80, mptcp=True)  # nor was the port kept

    duo(scene)
