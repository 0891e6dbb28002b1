"""Run inside a namespace of its own: one cell of the grid, a transfer both ways at once, our stack and the kernel.

    unshare --net python grid_lab.py '{"role": "server", "words": "loss 1%", …}'     prints one line of JSON

The kernel's end is a child, this file with the word `peer`. Both ends send a stream of `size` bytes, half-close, and
read the other's to its end; each tells the sha256 of what it got.
"""

import asyncio
import contextlib
import hashlib
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nuse
from nuse.impair import parse_impair
from nuse.impair_device import impair, impairment
from stack.tcp.options import TcpOptions

PORT = 7777
TINY = 4096  # SO_RCVBUF and SO_SNDBUF of the cells with tiny windows, as getsockopt would show them
BLOCK = bytes(range(256)) * 64
PATIENCE = 100.0


def stream(size: int, who: str) -> Iterator[bytes]:
    """`size` bytes that repeat nowhere near a packet's length; each end has its own."""
    for at in range(0, size, len(BLOCK)):
        yield (hashlib.sha256(f"{who}{at}".encode()).digest() + BLOCK)[: min(len(BLOCK), size - at)]


def digest_of(size: int, who: str) -> str:
    digest = hashlib.sha256()
    for piece in stream(size, who):
        digest.update(piece)
    return digest.hexdigest()


# --- the kernel's end


def peer(cell: dict[str, Any], host: str) -> None:
    """One blocking socket, a thread to write."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        if cell["tiny"]:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, TINY // 2)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, TINY // 2)
        if cell["role"] == "server":
            sock.settimeout(PATIENCE)
            sock.connect((host, PORT))
            exchange(sock, cell["size"])
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, PORT))
            sock.listen()
            print("ready", flush=True)
            conn, _ = sock.accept()
            with conn:
                conn.settimeout(PATIENCE)
                exchange(conn, cell["size"])


def exchange(sock: socket.socket, size: int) -> None:
    def write() -> None:
        for piece in stream(size, "kernel"):
            sock.sendall(piece)
        sock.shutdown(socket.SHUT_WR)

    writer = threading.Thread(target=write)
    writer.start()
    digest = hashlib.sha256()
    while data := sock.recv(1 << 16):
        digest.update(data)
    writer.join()
    print(digest.hexdigest(), flush=True)


# --- our end


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int) -> str:
    async def write() -> None:
        for piece in stream(size, "ours"):
            writer.write(piece)
            await writer.drain()
        writer.write_eof()

    task = asyncio.create_task(write())
    digest = hashlib.sha256()
    while data := await reader.read(1 << 16):
        digest.update(data)
    await task
    writer.close()
    return digest.hexdigest()


async def run(cell: dict[str, Any]) -> dict[str, Any]:
    spec = f"tun0,stack=10.98.0.2/24,host=10.98.0.1/24,stack6=fd98::2/64,host6=fd98::1/64,mtu={cell['mtu']}"
    if cell["mtu"] < 1280:
        spec = f"tun0,stack=10.98.0.2/24,host=10.98.0.1/24,mtu={cell['mtu']}"
    options = TcpOptions(rcvbuf=TINY, sndbuf=TINY) if cell["tiny"] else TcpOptions()
    v6 = cell["version"] == 6
    ours, host = ("fd98::2", "fd98::1") if v6 else ("10.98.0.2", "10.98.0.1")
    async with nuse.open_stack(offload=cell["offload"], links=[spec]) as net:
        link = next(link for link in net.stack.links.values() if not link.loopback)
        if cell["words"]:
            impair(net.driver, link, parse_impair(f"{cell['words']} seed {cell['seed']}"))
        done: asyncio.Future[str] = net.loop.create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                done.set_result(await talk(reader, writer, cell["size"]))
            except OSError as error:
                done.set_exception(error)

        began = time.monotonic()
        argv = [sys.executable, __file__, "peer", json.dumps(cell), ours if cell["role"] == "server" else host]
        if cell["role"] == "server":
            await net.start_server(serve, ours, PORT, options=options)
        child = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
        assert child.stdout is not None
        try:
            if cell["role"] == "client":
                await child.stdout.readline()
                began = time.monotonic()
                reader, writer = await net.open_connection(host, PORT, options=options)
                got = await asyncio.wait_for(talk(reader, writer, cell["size"]), PATIENCE)
            else:
                got = await asyncio.wait_for(done, PATIENCE)
            theirs = (await asyncio.wait_for(child.stdout.readline(), PATIENCE)).decode().strip()
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
        net.stack.check()
        mib = net.stack.mib
        return {
            "down": got == digest_of(cell["size"], "kernel"),
            "up": theirs == digest_of(cell["size"], "ours"),
            "seconds": round(time.monotonic() - began, 2),
            "retransmitted": mib.TcpRetransSegs,
            "timeouts": mib.TcpExtTCPTimeouts,
            "faults": net.driver.faults,
            "impaired": impairment(net.driver, link) if cell["words"] else None,
        }


def main() -> None:
    if sys.argv[1] == "peer":
        peer(json.loads(sys.argv[2]), sys.argv[3])
        return
    for name, value in (("tcp_congestion_control", "cubic"), ("ip_forward", "0")):
        with contextlib.suppress(OSError):
            Path(f"/proc/sys/net/ipv4/{name}").write_text(value)
    try:
        facts = nuse.run(run(json.loads(sys.argv[1])))
    except (OSError, TimeoutError) as error:
        facts = {"error": repr(error)}
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
