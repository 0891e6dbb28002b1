"""Run inside a namespace: path management of ours against the kernel's, while one connection idles and sometimes talks.

    python mptcp_pm_lab.py '{"role": "client", "steps": [["ip", "mptcp endpoint add …"], ["look"]]}'

`ours` and `ip` are commands before the connection. Steps: `ours` (`mptcp …` words of the debug socket), `ip`, `talk`,
`wait` (seconds), `reset` (a subflow of ours by its place). Prints a line of JSON: what each `look` saw, which may
wait for a number of subflows.
"""

import asyncio
import json
import os
import socket
import subprocess
import sys
from typing import Any

from mptcp_lab import DEFAULTS, IPPROTO_MPTCP, PORT, Acceptor, nstat, prepare_kernel, wires

from mptcp.config import MptcpSysctl
from mptcp.host import MptcpHost
from nuse.driver import Driver
from nuse.eventlog import EventLog
from nuse.loop import monotonic_ns, run
from nuse.mptcpcmd import mptcp_command
from nuse.show_ipmptcp import monitor_line
from stack import Stack
from stack.ip.addr import parse_addr, show_addr

PATIENCE = 5.0
SIZE = 20_000


def kernel(role: str, address: str) -> None:
    """Echoes what it gets, in either role."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
    if role == "server":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("::" if ":" in address else "", PORT))
        sock.listen()
        print("listening", flush=True)
        _listener, sock = sock, sock.accept()[0]  # both stay: joins too want a listener
    else:
        sys.stdin.readline()
        sock.connect((address, PORT))
    while data := sock.recv(65536):
        sock.sendall(data)


class Scene:
    """One connection and what is done to it."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts
        self.stack = Stack(secret=os.urandom(32), now=monotonic_ns())
        self.host = MptcpHost(self.stack, sysctl=MptcpSysctl(**facts["mptcp"]))
        self.driver = Driver(self.stack)
        self.log = EventLog()
        self.stack.tracer = self.log.record
        self.conn: Any = None
        self.child: asyncio.subprocess.Process | None = None
        self.looks: list[dict[str, Any]] = []

    async def connect(self) -> None:
        """In the role that is wanted."""
        ours = self.facts["role"]
        where = ("fd64:0::%d" if self.facts["v6"] else "10.64.0.%d") % (1 if ours == "client" else 2)
        kernels = "server" if ours == "client" else "client"
        child = await asyncio.create_subprocess_exec(
            sys.executable, __file__, "kernel", kernels, where, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.child = child
        assert child.stdin is not None
        assert child.stdout is not None
        if ours == "client":
            await child.stdout.readline()
            self.conn = self.host.connect((parse_addr(where), PORT), self.driver.now())
            self.driver.wake()
        else:
            listener = self.host.listen(self.stack.tcp.bind(bytes(16), PORT), 16)
            accepted = asyncio.get_running_loop().create_future()
            listener.owner = Acceptor(accepted)
            child.stdin.write(b"go\n")
            await asyncio.wait_for(accepted, PATIENCE)
            self.conn = listener.accept()
        await self.talk()

    async def talk(self) -> None:
        """Send SIZE bytes and wait until they have come back."""
        got = sent = 0
        async with asyncio.timeout(PATIENCE):
            while got < SIZE:
                if self.conn.established and sent < SIZE and self.conn.send_space > 0:
                    self.conn.send(bytes(1000))
                    sent += 1000
                got += self.conn.readable
                self.conn.consume(self.conn.readable)
                self.driver.wake()
                await asyncio.sleep(0.002)

    async def settled(self, subflows: int = 0) -> None:
        """So many are there, and all that was under way has come."""
        async with asyncio.timeout(PATIENCE):
            while sum(each.joined for each in self.conn.subflows) < subflows:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.15)

    def look(self) -> None:
        """What there is now."""
        self.looks.append(
            {
                "ways": sorted(
                    [_wire(each.conn.local), _wire(each.conn.remote), each.remote_id, each.request_bkup, each.peer_bkup]
                    for each in self.conn.subflows
                    if each.joined
                ),
                "mib": {name: value for name in self.host.mib.__slots__ if (value := getattr(self.host.mib, name))},
                "kernel": nstat(),
            }
        )

    async def step(self, verb: str, *args: Any) -> None:
        """One of the list."""
        if verb == "ours":
            mptcp_command(self.host.pm, args[0].split()[1:], self.driver.now())
        elif verb == "ip":
            subprocess.run(["ip", *args[0].split()], check=True)
        elif verb == "talk":
            await self.talk()
        elif verb == "wait":
            await asyncio.sleep(args[0])
        elif verb == "reset":
            [each for each in self.conn.subflows if each.joined][args[0]].conn.abort()
        elif verb == "look":
            await self.settled(*args)
            self.look()
        else:
            raise ValueError(verb)
        self.driver.wake()

    async def play(self) -> dict[str, Any]:
        """All of it."""
        wires(self.facts, self.driver)
        prepare_kernel(self.facts)
        nstat()
        for words in self.facts["ours"]:
            await self.step("ours", words)
        await self.connect()
        for step in self.facts["steps"]:
            await self.step(*step)
        await self.talk()
        self.conn.close()
        self.driver.wake()
        assert self.child is not None
        await asyncio.wait_for(self.child.wait(), PATIENCE)
        self.child = None
        await asyncio.sleep(0.1)
        self.host.check()
        lines = [monitor_line(event) for event in self.log.ring]
        return {
            "looks": self.looks,
            "why": list(self.conn.why),
            "fallback": self.conn.fallback,
            "faults": self.driver.faults,
            "monitor": [line for line in lines if line],
        }


def _wire(where: tuple[bytes, int]) -> int:
    text = show_addr(where[0])
    return int(text.split(":")[1] or "0", 16) if ":" in text else int(text.split(".")[1]) - 64


if __name__ == "__main__":
    if sys.argv[1] == "kernel":
        kernel(sys.argv[2], sys.argv[3])
    else:
        found: list[dict[str, Any]] = []

        async def main() -> None:
            scene = Scene(DEFAULTS | {"ours": [], "steps": [["look"]]} | json.loads(sys.argv[1]))
            try:
                found.append(await scene.play())
            finally:
                if scene.child is not None:
                    scene.child.kill()
                scene.driver.close()

        run(main())
        print(json.dumps(found[0]))
