"""Run inside a namespace: Fast Open between our stack and the kernel's, one role each. Prints one line of JSON.

python fastopen_lab.py serve|connect 4|6
"""

import asyncio
import json
import socket
import sys
from pathlib import Path
from typing import Any

import nuse
from nuse.aio import Network
from stack.events import READABLE
from stack.tcp.options import TcpOptions

PORT = 7777
MSG_FASTOPEN = 0x20000000
TCPI_OPT_SYN_DATA = 32
ROUNDS = 3


def kernel_client(host: str) -> None:
    """Ask three times with MSG_FASTOPEN; print each answer and whether the SYN's text was acknowledged."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    facts = []
    for _ in range(ROUNDS):
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            sock.sendto(b"question", MSG_FASTOPEN, (host, PORT))
            sock.settimeout(5)
            answer = sock.recv(100).decode()
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
            facts.append([answer, bool(info[5] & TCPI_OPT_SYN_DATA)])
    print(json.dumps(facts))


class Answering:
    """Owner of a listener and of what it accepts."""

    def __init__(self, net: Network, endpoint: Any) -> None:
        self.net = net
        self.endpoint = endpoint

    def on_events(self, _mask: int) -> None:
        while (conn := self.endpoint.accept()) is not None:
            conn.owner = Answer(self.net, conn)
            conn.owner.on_events(READABLE)


class Answer:
    def __init__(self, net: Network, conn: Any) -> None:
        self.net = net
        self.conn = conn

    def on_events(self, _mask: int) -> None:
        conn = self.conn
        if conn.readable == 8:
            conn.consume(8)
            conn.send(b"answer")
        if conn.peer_closed:
            conn.close()
        self.net.driver.wake()


async def serve(net: Network, version: str) -> dict[str, Any]:
    """The kernel's client and our listener."""
    own = next(address for address in net.addresses if address.version == int(version))
    tcp = net.stack.tcp
    net.stack.sysctl.tcp_fastopen = 3
    listener = tcp.listen(tcp.bind(own.packed, PORT), 16, TcpOptions(fastopen=8))
    listener.owner = Answering(net, listener)
    child = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "kernel_client", str(own), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await child.communicate()
    mib = net.stack.mib
    return {"rounds": json.loads(out), "asked": mib.TcpExtTCPFastOpenCookieReqd, "fast": mib.TcpExtTCPFastOpenPassive}


async def connect(net: Network, version: str) -> dict[str, Any]:
    """Our client and the kernel's listener."""
    host = next(address for address in net.host_addresses if address.version == int(version))
    family = socket.AF_INET if version == "4" else socket.AF_INET6
    loop = asyncio.get_running_loop()
    got = []
    with socket.socket(family) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5)
        listener.bind((str(host), PORT))
        listener.listen()
        for _ in range(ROUNDS):
            conn = net.stack.tcp.connect((host.packed, PORT), net.driver.now(), data=b"question")
            net.driver.wake()
            sock, _ = await loop.run_in_executor(None, listener.accept)
            sock.settimeout(5)
            question = await loop.run_in_executor(None, sock.recv, 100)
            await loop.run_in_executor(None, sock.sendall, b"answer")
            while not conn.readable:
                await asyncio.sleep(0.01)
            got.append([question.decode(), bytes(conn.views(100)[0]).decode()])
            conn.consume(6)
            conn.close()
            net.driver.wake()
            sock.close()
    mib = net.stack.mib
    return {"rounds": got, "fast": mib.TcpExtTCPFastOpenActive, "failed": mib.TcpExtTCPFastOpenActiveFail}


async def main(scene: str, version: str) -> None:
    Path("/proc/sys/net/ipv4/tcp_fastopen").write_text("3", encoding="ascii")
    async with nuse.open_stack() as net:
        facts = await {"serve": serve, "connect": connect}[scene](net, version)
    print(json.dumps(facts | {"faults": net.driver.faults}))


if __name__ == "__main__":
    if sys.argv[1] == "kernel_client":
        kernel_client(sys.argv[2])
    else:
        nuse.run(main(*sys.argv[1:]))
