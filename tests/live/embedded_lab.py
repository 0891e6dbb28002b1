"""Run inside a namespace: a stack of our own in this process, and the kernel's TCP in a child as its peer.

    python embedded_lab.py SCENE [ARGS…]        prints one line of JSON, the facts that the test looks at

The child is this file too, with the scene `peer`; it uses blocking sockets, as plain as can be.
"""

import asyncio
import contextlib
import hashlib
import json
import socket
import sys
from typing import Any

import nuse
from nuse.aio import Network
from nuse.impair import parse_impair
from nuse.impair_device import impair, impairment

PORT = 7777
CHUNK = bytes(range(256)) * 256


def stream(size: int) -> Any:
    """Pieces of a stream of `size` bytes that repeats nowhere near a packet's length."""
    for at in range(0, size, len(CHUNK)):
        yield (hashlib.sha256(b"%d" % at).digest() + CHUNK)[: min(len(CHUNK), size - at)]


def digest_of(size: int) -> str:
    digest = hashlib.sha256()
    for piece in stream(size):
        digest.update(piece)
    return digest.hexdigest()


# --- the kernel's side


def peer(verb: str, host: str, port: str, size: str = "0") -> None:
    """upload: send a stream, half-close, print the answer. download: print the digest of what comes."""
    with socket.create_connection((host, int(port)), 10) as sock:
        sock.settimeout(120)
        if verb == "upload":
            for piece in stream(int(size)):
                sock.sendall(piece)
            sock.shutdown(socket.SHUT_WR)
            print(sock.makefile().read())
        else:
            digest = hashlib.sha256()
            while data := sock.recv(1 << 18):
                digest.update(data)
            print(digest.hexdigest())


async def kernel(*words: object) -> str:
    """Run `peer` in a child, print aside."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "peer", *map(str, words), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await child.communicate()
    return out.decode().strip()


# --- our side


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    digest = hashlib.sha256()
    while data := await reader.read(1 << 18):
        digest.update(data)
    writer.write(digest.hexdigest().encode())
    writer.close()


async def transfer(net: Network, size: str, version: str, words: str = "") -> dict[str, Any]:
    """Both directions over one link, impaired by `words`."""
    own = next(str(address) for address in net.addresses if address.version == int(version))
    link = next(link for link in net.stack.links.values() if not link.loopback)
    if words:
        impair(net.driver, link, parse_impair(words))

    async def gush(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in stream(int(size)):
            writer.write(piece)
            await writer.drain()
        writer.close()

    await net.start_server(serve, own, PORT)
    await net.start_server(gush, own, PORT + 1)
    wanted = digest_of(int(size))
    up = await kernel("upload", own, PORT, size)
    down = await kernel("download", own, PORT + 1)
    counters = {name: getattr(net.stack.mib, name) for name in ("TcpRetransSegs", "TcpInCsumErrors", "TcpInErrs")}
    return {
        "up": up == wanted,
        "down": down == wanted,
        "impair": impairment(net.driver, link),
        "faults": net.driver.faults,
        **counters,
    }


async def client(net: Network, version: str) -> dict[str, Any]:
    """Our stack connects to the kernel: data both ways, refused, and what the peer sees of close and abort."""
    host = next(str(address) for address in net.host_addresses if address.version == int(version))
    family = socket.AF_INET if version == "4" else socket.AF_INET6
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        listener.listen()
        port = listener.getsockname()[1]
        loop = asyncio.get_running_loop()

        async def accept() -> socket.socket:
            sock, _ = await loop.run_in_executor(None, listener.accept)
            sock.settimeout(5)
            return sock

        reader, writer = await net.open_connection(host, port)
        first = await accept()
        writer.write(b"question")
        question = await loop.run_in_executor(None, first.recv, 100)
        await loop.run_in_executor(None, first.sendall, b"answer")
        answer = await reader.readexactly(6)
        names = [first.getpeername()[:2] == writer.get_extra_info("sockname")[:2]]
        names.append(first.getsockname()[:2] == writer.get_extra_info("peername")[:2])
        writer.close()
        end = await loop.run_in_executor(None, first.recv, 100)
        first.close()

        _, writer = await net.open_connection(host, port)
        second = await accept()
        writer.transport.abort()
        reset = ""
        try:
            await loop.run_in_executor(None, second.recv, 100)
        except ConnectionResetError:
            reset = "reset"
    refused = ""
    try:
        await net.open_connection(host, port)
    except ConnectionRefusedError:
        refused = "refused"
    return {
        "question": question.decode(),
        "answer": answer.decode(),
        "end": end.decode(),
        "names": names,
        "reset": reset,
        "refused": refused,
        "faults": net.driver.faults,
    }


async def datagrams(net: Network, version: str) -> dict[str, Any]:
    """UDP both ways against the kernel, a datagram of several fragments, and a port where nobody is."""
    host = next(str(address) for address in net.host_addresses if address.version == int(version))
    got: asyncio.Queue[Any] = asyncio.Queue()

    class Protocol(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            got.put_nowait(data)

        def error_received(self, exc: Exception) -> None:
            got.put_nowait(type(exc).__name__)

    family = socket.AF_INET if version == "4" else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.settimeout(5)
        port = sock.getsockname()[1]
        transport, _ = await net.create_datagram_endpoint(Protocol, remote_addr=(host, port))
        loop = asyncio.get_running_loop()
        sizes = []
        for size in (1, 1400, 9000):
            transport.sendto(bytes(size))
            data, addr = await loop.run_in_executor(None, sock.recvfrom, 65536)
            sock.sendto(data, addr)
            sizes.append(len(await asyncio.wait_for(got.get(), 5)))
    transport.sendto(b"anybody?")
    error = await asyncio.wait_for(got.get(), 5)
    return {"sizes": sizes, "error": error, "faults": net.driver.faults}


SCENES = {"transfer": transfer, "client": client, "datagrams": datagrams}


async def main(scene: str, offload: bool, *args: str) -> None:
    async with nuse.open_stack(offload=offload) as net:
        facts = await SCENES[scene](net, *args)
    print(json.dumps(facts))


if __name__ == "__main__":
    if sys.argv[1] == "peer":
        with contextlib.suppress(BrokenPipeError):
            peer(*sys.argv[2:])
    else:
        nuse.run(main(sys.argv[1], sys.argv[2] == "on", *sys.argv[3:]))
