"""Run inside a namespace: our Multipath TCP over several TUN devices in this process, and the kernel's in a child.

    python mptcp_lab.py '{"role": "client", "down": 10000000, …}'        prints one line of JSON: what the test looks at

The wires are tun0, tun1 …: 10.(64+N).0.1 and fd64:N::1 on the kernel's side, .2 and ::2 on ours.
"""

import asyncio
import hashlib
import json
import os
import socket
import subprocess
import sys
from typing import Any

from mptcp.config import MptcpSysctl
from mptcp.host import MptcpHost
from nuse.driver import Driver
from nuse.impair import parse_impair
from nuse.impair_device import impair
from nuse.loop import monotonic_ns, run
from nuse.tun import Tun
from stack import Stack, events
from stack.ip.addr import parse_addr
from stack.tcp.options import TcpOptions
from stack.tcp.state import CLOSED

PORT = 7777
IPPROTO_MPTCP = 262
SOME = 250_000
CHUNK = bytes(range(256)) * 256
DEFAULTS: dict[str, Any] = {
    "role": "client",  # ours
    "v6": False,
    "mixed": False,  # the kernel's socket is for IPv6, whatever the first subflow is
    "wires": 2,
    "up": 0,  # bytes from the client
    "down": 0,  # … and from the server
    "impair": [],  # words for each wire
    "mtus": [],
    "offload": True,
    "mptcp": {},  # our sysctls
    "kernel": {},  # the kernel's, under net.mptcp.
    "endpoints": [],  # words for `ip mptcp endpoint add`
    "our_endpoints": [],  # [address, flags]
    "limits": [8, 8],  # the kernel's
    "kernel_proto": IPPROTO_MPTCP,
    "patience": 60,
    "events": [],  # [seconds after the start of the transfer, verb, …]
    "used": [],  # … or after these wires have carried some text each way
    "rcvbuf": 0,  # the kernel's
    "our_rcvbuf": 0,
    "gate": 0,  # so many subflows must be up before more than a first piece is sent, either way
    "kernel_mode": "",  # "wait": it writes after it read to the end; "abort": it closes with text unread
    "we_wait": False,  # we write after we read to the end
}


def piece(at: int, size: int) -> bytes:
    return (hashlib.sha256(b"%d" % at).digest() + CHUNK)[: min(len(CHUNK), size - at)]


def digest_of(size: int) -> str:
    digest = hashlib.sha256()
    for at in range(0, size, len(CHUNK)):
        digest.update(piece(at, size))
    return digest.hexdigest()


# ---------------------------------------------------------------------- the kernel's side


def kernel(role: str, family: int, proto: int, address: str, send: int, rcvbuf: int, mode: str) -> None:
    """A blocking socket that writes `send` bytes while it reads to the end; prints what it got.

    With mode "gate" a first piece only, until more than a piece has come.
    """
    mapped = family == socket.AF_INET6 and ":" not in address
    sock = socket.socket(family, socket.SOCK_STREAM, proto)
    if rcvbuf:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    if role == "server":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("::" if family == socket.AF_INET6 else "", PORT))  # joins too want a listener, at any address
        sock.listen()
        print("listening", flush=True)
        conn, _ = sock.accept()
    else:
        sys.stdin.readline()
        sock.connect(("::ffff:" + address if mapped else address, PORT))
        conn = sock
    if mode == "abort":
        conn.recv(1 << 20, socket.MSG_WAITALL)
        conn.recv(1, socket.MSG_PEEK)
        conn.close()
        print(json.dumps({"size": 1 << 20, "digest": "", "writer": 0, "error": 0}), flush=True)
        return
    digest, size, error, begun = hashlib.sha256(), 0, 0, 0
    buffer = bytearray(1 << 20)
    writer = 0
    if mode == "gate":
        conn.sendall(piece(0, send))
        begun = len(CHUNK)
    elif mode != "wait":
        writer = write_on(conn, 0, send)
    try:
        while got := conn.recv_into(buffer):
            digest.update(memoryview(buffer)[:got])
            size += got
            if not writer and mode == "gate" and size > begun:
                writer = write_on(conn, begun, send)
    except OSError as exc:
        error = exc.errno or -1
    if not writer:
        writer = write_on(conn, begun, send)
    status = os.waitpid(writer, 0)[1]
    print(json.dumps({"size": size, "digest": digest.hexdigest(), "writer": status, "error": error}), flush=True)


def write_on(conn: socket.socket, begin: int, send: int) -> int:
    """A process that writes the rest."""
    writer = os.fork()
    if writer == 0:
        try:
            for at in range(begin, send, len(CHUNK)):
                conn.sendall(piece(at, send))
            conn.shutdown(socket.SHUT_WR)
        except OSError:
            os._exit(1)
        os._exit(0)
    return writer


def nstat() -> dict[str, int]:
    text = subprocess.run(["nstat", "-asz"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in text.splitlines() if line.startswith(("MPTcp", "TcpRetrans"))]
    return {row[0]: int(row[1]) for row in rows if int(row[1])}


# ---------------------------------------------------------------------- ours


class Program:
    """Writes `total` bytes and reads to the end; until `opened` a first piece only, or nothing where it `waits`."""

    def __init__(
        self, conn: Any, total: int, done: "asyncio.Future[None]", wake: Any, *, waits: bool, gate: int
    ) -> None:
        self.conn, self.total, self.done, self.wake = conn, total, done, wake
        self.written = self.size = 0
        self.digest = hashlib.sha256()
        self.shut = False
        self.waits, self.gate = waits, gate
        conn.owner = self

    @property
    def limit(self) -> int:
        """How far it may write."""
        if (self.waits and not self.conn.peer_closed) or self.conn.state is CLOSED:
            return 0
        if self.gate and sum(sub.joined for sub in getattr(self.conn, "subflows", ())) >= self.gate:
            self.gate = 0
        return min(self.total, len(CHUNK)) if self.gate else self.total

    def on_events(self, mask: int) -> None:
        conn = self.conn
        if mask & events.FAILED and not self.done.done():
            self.done.set_result(None)
            return
        while self.written < self.limit and conn.established and conn.send_space > 0:
            data = piece(self.written, self.total)
            conn.send(data)
            self.written += len(data)
        while conn.readable:
            size = 0
            for view in conn.views(1 << 20):
                self.digest.update(view)
                size += len(view)
            conn.consume(size)
            self.size += size
        if self.waits and conn.peer_closed:
            self.waits = False
            self.on_events(0)
        if conn.established and self.written >= self.total and not self.shut and not self.waits:
            self.shut = True
            conn.shutdown()
        over = mask & events.CLOSED or (conn.peer_closed and self.shut)
        if over and not conn.readable and not self.done.done():
            self.done.set_result(None)
        self.wake()

    async def open_gate(self) -> None:
        """Look again until the subflows are up."""
        while self.gate and not self.done.done():
            await asyncio.sleep(0.005)
            self.on_events(0)


def wires(facts: dict[str, Any], driver: Driver) -> None:
    for number in range(facts["wires"]):
        name = f"tun{number}"
        mtu = facts["mtus"][number] if facts["mtus"] else 1500
        tun = Tun(name, offload=facts["offload"])
        four = parse_addr(f"10.{64 + number}.0.2"), 24
        six = parse_addr(f"fd64:{number}::2"), 64
        for words in (
            f"link set {name} up mtu {mtu}",
            f"addr add 10.{64 + number}.0.1/24 dev {name}",
            f"addr add fd64:{number}::1/64 dev {name} nodad",
            # For IPv4 Linux takes every address to be on the link that a socket is bound to; for IPv6 it wants a route.
            *([f"-6 route add fd64:0::/64 dev {name} metric {4096 + number}"] if number else []),
        ):
            if mtu >= 1280 or "fd64" not in words:
                subprocess.run(["ip", *words.split()], check=True)
        link = driver.stack.add_link(name, [four, six] if mtu >= 1280 else [four], mtu=mtu, offload=facts["offload"])
        driver.attach(link, tun)
        if number < len(facts["impair"]) and facts["impair"][number]:
            impair(driver, link, parse_impair(facts["impair"][number]))


def prepare_kernel(facts: dict[str, Any]) -> None:
    for name, value in facts["kernel"].items():
        subprocess.run(["sysctl", "-qw", f"net.mptcp.{name}={value}"], check=True)
    limits = facts["limits"]
    subprocess.run(
        ["ip", "mptcp", "limits", "set", "subflows", str(limits[0]), "add_addr_accepted", str(limits[1])], check=True
    )
    for words in facts["endpoints"]:
        subprocess.run(["ip", "mptcp", "endpoint", "add", *words.split()], check=True)


async def scene(facts: dict[str, Any]) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    stack = Stack(secret=os.urandom(32), now=monotonic_ns())
    host = MptcpHost(stack, sysctl=MptcpSysctl(**facts["mptcp"]))
    driver = Driver(stack)
    wires(facts, driver)
    prepare_kernel(facts)
    for address, flags in facts["our_endpoints"]:
        host.pm.add(parse_addr(address), driver.now(), flags=flags)
    nstat()
    ours = facts["role"]
    kernels = "server" if ours == "client" else "client"
    send = facts["down"] if kernels == "server" else facts["up"]
    family = socket.AF_INET6 if facts["v6"] or facts["mixed"] else socket.AF_INET
    text = (
        ("fd64:0::1" if facts["v6"] else "10.64.0.1")
        if kernels == "server"
        else ("fd64:0::2" if facts["v6"] else "10.64.0.2")
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        "kernel",
        kernels,
        str(int(family)),
        str(facts["kernel_proto"]),
        text,
        str(send),
        str(facts["rcvbuf"]),
        "gate" if facts["gate"] else facts["kernel_mode"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    assert child.stdin is not None
    done = loop.create_future()
    options = TcpOptions()
    options.rcvbuf = facts["our_rcvbuf"]
    if ours == "client":
        await child.stdout.readline()
        conn = host.connect((parse_addr(text), PORT), driver.now(), options=options)
        driver.wake()
    else:
        listener = host.listen(stack.tcp.bind(bytes(16), PORT), 16, options=options)
        accepted = loop.create_future()
        listener.owner = Acceptor(accepted)
        child.stdin.write(b"go\n")
        await asyncio.wait_for(accepted, facts["patience"])
        conn = listener.accept()
    start = monotonic_ns()
    total = facts["up"] if ours == "client" else facts["down"]
    program = Program(conn, total, done, driver.wake, waits=facts["we_wait"], gate=facts["gate"])

    async def happen() -> None:
        links = [stack.links[f"tun{number}"] for number in facts["used"]]
        while any(min(link.stats.tx_bytes, link.stats.rx_bytes) < SOME for link in links):
            await asyncio.sleep(0.01)
        for when, *what in facts["events"]:
            loop.call_later(when, act, driver, host, conn, what)

    events_happen = asyncio.ensure_future(happen())
    program.on_events(0)
    gate = asyncio.ensure_future(program.open_gate())
    seen: dict[str, Any] = {"timeout": False}
    try:
        await asyncio.wait_for(done, facts["patience"])
        raw = await asyncio.wait_for(child.stdout.readline(), facts["patience"])
        seen |= {"kernel": json.loads(raw)}
    except TimeoutError:
        seen["timeout"] = True
        child.kill()
    await gate
    events_happen.cancel()
    seen |= {
        "seconds": (monotonic_ns() - start) / 1e9,
        "size": program.size,
        "digest": program.digest.hexdigest(),
        "error": conn.error,
        "why": list(getattr(conn, "why", ())),
        "fallback": getattr(conn, "fallback", "plain"),
        "state": conn.state.name,
        "subflows": [
            [sub.id, sub.bytes_sent, sub.conn.counts.bytes_received, sub.silent]
            for sub in getattr(conn, "subflows", ())
        ],
        "links": {name: [link.stats.tx_bytes, link.stats.rx_bytes] for name, link in stack.links.items()},
        "faults": driver.faults,
    }
    conn.close()
    driver.wake()
    await asyncio.wait_for(child.wait(), 10)
    await asyncio.sleep(facts.get("linger", 0.1))
    seen["nstat"] = nstat()
    seen["mib"] = {name: value for name in host.mib.__slots__ if (value := getattr(host.mib, name))}
    host.check()
    stack.check()
    driver.close()
    seen["good"] = not seen["timeout"] and (
        seen["digest"] == digest_of(facts["down"] if ours == "client" else facts["up"])
        and seen["kernel"]["digest"] == digest_of(facts["up"] if ours == "client" else facts["down"])
        and not seen["kernel"]["writer"]
    )
    return seen


def act(driver: Driver, host: MptcpHost, conn: Any, what: list[Any]) -> None:
    verb, *args = what
    stack, now = driver.stack, driver.now()
    if verb == "impair":
        impair(driver, stack.links[args[0]], parse_impair(args[1]) if args[1] else None)
    elif verb == "link":
        stack.set_link_up(stack.links[args[0]], args[1])
        if args[1]:
            host.pm.on_link_up(stack.links[args[0]], now)
    elif verb == "backup":
        conn.set_backup(next(sub for sub in conn.subflows if sub.id == args[0]), args[1], now)
    elif verb == "ip":
        subprocess.run(["ip", *args[0].split()], check=True)
    elif verb == "scheduler":
        conn.set_scheduler(args[0])
    elif verb == "remove":
        link = stack.links[args[0]]
        stack.remove_addr(link, parse_addr(args[1]))
        host.pm.on_addr_removed(link, parse_addr(args[1]), now)
    elif verb == "abort":
        conn.abort()
    driver.wake()


class Acceptor:
    """Says when there is a connection."""

    def __init__(self, accepted: "asyncio.Future[None]") -> None:
        self._accepted = accepted

    def on_events(self, mask: int) -> None:
        if mask & events.ACCEPTABLE and not self._accepted.done():
            self._accepted.set_result(None)


if __name__ == "__main__":
    if sys.argv[1] == "kernel":
        role_, family_, proto_, address_, send_, rcvbuf_, mode_ = sys.argv[2:]
        kernel(role_, int(family_), int(proto_), address_, int(send_), int(rcvbuf_), mode_)
    else:
        found: list[dict[str, Any]] = []

        async def main() -> None:
            found.append(await scene(DEFAULTS | json.loads(sys.argv[1])))

        run(main())
        print(json.dumps(found[0]))
