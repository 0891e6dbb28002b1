"""MPTCP by asyncio and by the debug socket: who gets it, and what is told of it."""

import asyncio
import json
from pathlib import Path

import pytest

from kit.duo import A4, B4, B6, duo, echo, until
from mptcp.connection import MptcpConn
from nuse.aio import Network
from nuse.debugrpc import DebugError, DebugMethods
from nuse.eventlog import EventLog
from stack.tcp.conn import TcpConn


def methods(net: Network) -> DebugMethods:
    return DebugMethods(net.driver, EventLog(), "nuse", net.mptcp)


async def talk(writer: asyncio.StreamWriter, reader: asyncio.StreamReader, text: bytes = b"hello") -> None:
    writer.write(text)
    assert await reader.readexactly(len(text)) == text


def test_a_program_says_whether_it_wants_mptcp() -> None:
    async def scene(a: Network, b: Network) -> None:
        await b.start_server(echo, None, 80, mptcp=True)
        for host, wanted, kind in (
            (B4, True, MptcpConn),
            (B6, True, MptcpConn),
            (B4, False, TcpConn),
            (B4, None, TcpConn),
        ):
            reader, writer = await a.open_connection(host, 80, mptcp=wanted)
            await talk(writer, reader)
            assert isinstance(writer.get_extra_info("conn"), kind)
            info = writer.get_extra_info("mptcp_info")
            if wanted:
                assert (info["bytes_sent"], info["bytes_acked"], info["subflows_total"]) == (5, 5, 1)
            else:
                assert info is None
            writer.close()
        assert a.mptcp is not None
        a.mptcp.sysctl.mptcp_upgrade = 1
        reader, writer = await a.open_connection(B4, 80)
        await talk(writer, reader)
        assert isinstance(writer.get_extra_info("conn"), MptcpConn)
        writer.close()

    duo(scene, mptcp=False)


def test_a_stack_without_mptcp_says_so() -> None:
    async def scene(a: Network, _b: Network) -> None:
        plain = Network(a.driver)
        with pytest.raises(OSError, match="no MPTCP"):
            await plain.open_connection(B4, 80, mptcp=True)

    duo(scene)


@pytest.mark.rfc("8684", "3.3.3")
@pytest.mark.parametrize("words", ["", "loss 20% delay 1ms seed 3"])
def test_a_connection_that_carried_nothing_ends(words: str) -> None:
    """DATA_FIN goes although the peer has not yet shown that it got our key."""

    async def scene(a: Network, b: Network) -> None:
        ended = []

        async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            ended.append(await reader.read())
            writer.close()

        server = await b.start_server(on_client, None, 80)
        _, writer = await a.open_connection(B4, 80)
        writer.close()
        await until(lambda: ended == [b""])
        server.close()
        await server.wait_closed()

    duo(scene, mptcp=True, words=words)


def test_the_debug_socket_shows_connections_subflows_and_listeners() -> None:
    async def scene(a: Network, b: Network) -> None:
        await b.start_server(echo, None, 80)
        reader, writer = await a.open_connection(B4, 80)
        await talk(writer, reader)
        ask = methods(a).call
        (row,) = ask("mptcp", [])
        (conn,) = ask("conns", [])
        assert json.loads(json.dumps(row)) == row
        assert (row["proto"], row["state"], row["remote"]) == ("mptcp", "ESTABLISHED", f"{B4}:80")
        assert (row["scheduler"], row["path_manager"], row["fallback"]) == ("minrtt", "kernel", "")
        assert row["info"]["bytes_received"] == 5
        (sub,) = row["subflows"]
        assert (sub["conn"], sub["local"], sub["initial"], sub["joined"]) == (conn["id"], row["local"], True, True)
        assert conn["ulp"].startswith(f"flags:Mmec token:0000(id:0)/{row['info']['token']:04x}(id:0) seq:")
        assert conn["ulp"].endswith("maplen:5")
        protos = [each["proto"] for each in methods(b).call("listeners", [])]
        assert sorted(protos) == ["mptcp", "tcp"]
        writer.close()

    duo(scene, mptcp=True)


def test_explain_knows_a_connection_by_id_subflow_or_address() -> None:
    async def scene(a: Network, b: Network) -> None:
        await b.start_server(echo, None, 80)
        reader, writer = await a.open_connection(B4, 80)
        await talk(writer, reader)
        ask = methods(a).call
        (row,) = ask("mptcp", [])
        names = [row["id"], row["local"], row["remote"], row["subflows"][0]["conn"]]
        (lines, *others) = [ask("explain", [name])["lines"] for name in names]
        assert others == [lines] * 3
        text = "\n".join(lines)
        assert lines[0] == f"{row['id']}: ESTABLISHED {row['local']} → {B4}:80"
        assert f"token {row['info']['token']:08x}, 5 bytes sent, 5 bytes received" in text
        assert f"subflow 1: {row['local']} → {B4}:80 on tun0, ESTABLISHED: the first" in text
        other_reader, other = await a.open_connection(B4, 80)
        await talk(other, other_reader)
        with pytest.raises(DebugError, match="several connections"):
            ask("explain", [f"{B4}:80"])
        with pytest.raises(DebugError, match="no connection"):
            ask("explain", ["10.0.0.1:80"])
        writer.close()
        other.close()

    duo(scene, mptcp=True)


def test_explain_says_why_it_is_tcp() -> None:
    async def scene(a: Network, b: Network) -> None:
        await b.start_server(echo, None, 80, mptcp=False)
        ask = methods(a).call
        for wanted, why in (
            (True, "the server's SYN-ACK had no usable MP_CAPABLE"),
            (False, "its program asked for TCP"),
        ):
            reader, writer = await a.open_connection(B4, 80, mptcp=wanted)
            await talk(writer, reader)
            port = writer.get_extra_info("sockname")[1]
            assert ask("explain", [f"{A4}:{port}"])["lines"][1].startswith(f"plain TCP: {why}")
            assert ask("mptcp", []) == []
            writer.close()

    duo(scene)


def test_sysctls_counters_and_endpoints_are_one_table_for_the_user(tmp_path: Path) -> None:
    async def scene(a: Network, _b: Network) -> None:
        ask = methods(a).call
        assert ask("sysctl", ["net.mptcp.scheduler", "blest"]) == {"net.mptcp.scheduler": "blest"}
        everything = ask("sysctl", [])
        assert everything["net.mptcp.scheduler"] == "blest"
        assert everything["net.ipv4.tcp_sack"] == 1
        assert list(everything) == sorted(everything)
        assert ask("counters", ["MPTcpExtMPCapableSYNTX"]) == {"MPTcpExtMPCapableSYNTX": 0}
        with pytest.raises(DebugError, match=r"did you mean 'net\.mptcp\.enabled'"):
            ask("sysctl", ["net.mptcp.enable"])
        assert ask("mptcp", ["endpoint", "add", A4, "subflow", "id", "7"]) == [
            {"address": A4, "id": 7, "subflow": True}
        ]
        assert ask("mptcp", ["limits", "show"]) == {"add_addr_accepted": 8, "subflows": 8}
        with pytest.raises(DebugError, match="usage: mptcp"):
            ask("mptcp", ["endpint"])

    duo(scene)
