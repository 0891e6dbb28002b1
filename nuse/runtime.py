"""The assembled running stack: host links, Stack, Driver, devices, shim supervisor, debug and control sockets.

start() makes everything or nothing; stop() takes everything away, whatever state start() reached. Between them the
stack belongs to the event loop, and only a signal, control.sock or a private stack's launcher ends it.
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mptcp.host import MptcpHost
from mptcp.pm.endpoint import FLAG_NAMES, SIGNAL, SUBFLOW
from nuse.config import Config, check_choices, check_loopback, check_mptcp, check_rules, impair_targets
from nuse.control import ControlServer, Message
from nuse.debugsock import DebugServer
from nuse.driver import Driver
from nuse.hostnet import HostNet
from nuse.hostnet_netns import netns_path, resolv_path
from nuse.impair import parse_impair
from nuse.impair_device import impair
from nuse.linkspec import LinkSpec
from nuse.loop import monotonic_ns
from nuse.refusal import Refused
from nuse.shim.policy import Policy
from nuse.shim.rules import rules_of
from nuse.shim.supervisor import Supervisor
from nuse.statedir import StateDir
from nuse.sweep import sweep_private
from nuse.tun import Tun
from stack.host import Stack

log = logging.getLogger("nuse.runtime")

T = TypeVar("T")
SINK_BATCH = 64
FAREWELL_FLUSHES = 64  # turns in which resets of the last connections may leave


class Sink:
    """nuse0: what programs send past the shim ends here, counted."""

    def __init__(self, tun: Tun, loop: asyncio.AbstractEventLoop) -> None:
        self.packets = 0
        self._tun = tun
        self._loop = loop
        loop.add_reader(tun.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        for _ in range(SINK_BATCH):
            if self._tun.read() is None:
                return
            self.packets += 1

    def close(self) -> None:
        """Give the device up."""
        self._loop.remove_reader(self._tun.fileno())
        self._tun.close()


class Runtime:
    """One stack with everything round it. Make it inside its running loop."""

    def __init__(self, config: Config, state: StateDir | None = None) -> None:
        """`state` may be claimed already, by a parent that forked us."""
        self.config = config
        self.state = state or StateDir(config.name)
        self.loop = asyncio.get_running_loop()
        self.hostnet = HostNet(config, self.state)
        self.stack: Stack | None = None
        self.mptcp: MptcpHost | None = None
        self.driver: Driver | None = None
        self.supervisor: Supervisor | None = None
        self.debug: DebugServer | None = None
        self.control: ControlServer | None = None
        self.sink: Sink | None = None
        self.stopping = asyncio.Event()
        self._claimed = False

    # --- life

    async def start(self) -> None:
        """Bring everything up. Raises Refused or ConfigError with nothing left behind."""
        if not self.state.claimed and not self.state.claim():
            raise Refused(f"a stack named {self.config.name!r} is running already; `nuse down`, or take another --name")
        self._claimed = True
        try:
            await self._outside_loop(sweep_private)
            await self._outside_loop(self.hostnet.up)
            self._assemble()
            await self._listen()
        except BaseException:
            await self.stop()
            raise
        for warning in self.hostnet.warnings:
            log.warning("%s", warning)

    def _assemble(self) -> None:
        """Stack, driver and devices."""
        config = self.config
        knobs, mptcp_knobs = config.tables()
        self.stack = stack = Stack(sysctl=knobs, secret=os.urandom(32), now=monotonic_ns())
        self.mptcp = MptcpHost(stack, sysctl=mptcp_knobs)
        self.driver = driver = Driver(stack, self.loop)
        links = {}
        for spec in self.hostnet.links:
            tun = self.hostnet.open_link(spec, offload=config.offload)
            link = stack.add_link(
                spec.name,
                addrs=[(a.ip.packed, a.network.prefixlen) for a in spec.stack],
                mtu=spec.mtu,
                offload=tun.offload,
                gateway4=_packed_gateway(spec, 4),
                gateway6=_packed_gateway(spec, 6),
            )
            driver.attach(link, tun)
            links[spec.name] = link
            if spec.impair:
                impair(driver, link, parse_impair(spec.impair))
        self._endpoints(now=monotonic_ns())
        for text in config.impair:
            chosen, words = impair_targets(self.hostnet.links, text)
            for spec in chosen:
                impair(driver, links[spec.name], parse_impair(words))
        nuse0 = self.hostnet.open_netns()
        if nuse0 is not None:
            self.sink = Sink(nuse0, self.loop)

    def _endpoints(self, now: int) -> None:
        """If a link's SPEC says what it is for, all addresses are endpoints; else the path manager chooses."""
        specs = self.hostnet.links
        if self.mptcp is None or not any(spec.flags for spec in specs):
            return
        for spec in specs:
            flags = sum(FLAG_NAMES[word] for word in spec.flags)
            if not flags & SIGNAL:
                flags |= SUBFLOW
            for each in spec.stack:
                self.mptcp.pm.add(each.ip.packed, now, flags=flags, dev=spec.name)

    async def _listen(self) -> None:
        """The three ways to reach the stack."""
        assert self.driver is not None
        self.supervisor = Supervisor(self.driver, self.mptcp, self.config.name)
        self.debug = DebugServer(
            self.driver,
            self.state.debug_sock,
            name=self.config.name,
            mptcp=self.mptcp,
            programs=self.supervisor.rows,
        )
        await self.debug.start()
        self.control = ControlServer(self, self.loop, self.state.control_sock)

    async def stop(self) -> None:
        """Take everything away. Programs get ECONNRESET, peers a reset; harmless when repeated."""
        if self.control is not None:
            self.control.close()
            self.control = None
        if self.supervisor is not None:
            self.supervisor.close()
            self.supervisor = None
        if self.debug is not None:
            await self.debug.stop()
            self.debug = None
        if self.driver is not None:
            self._say_farewell()
            self.driver.close()
            self.driver = None
        if self.sink is not None:
            self.sink.close()
            self.sink = None
        if self._claimed:
            self._claimed = False
            for failure in await self._outside_loop(self.hostnet.down):
                log.warning("could not remove %s", failure)
            self.state.release()

    def _say_farewell(self) -> None:
        """Reset what is still connected, so that peers need not find out by time-out."""
        assert self.driver is not None
        assert self.stack is not None
        assert self.mptcp is not None
        for meta in list(self.mptcp):
            meta.abort()
        for conn in list(self.stack.tcp.conns()):
            conn.abort()
        for _ in range(FAREWELL_FLUSHES):
            self.driver.flush()

    async def serve(self, on_ready: Callable[[], None]) -> None:
        """Start, run until a signal or a request ends it, stop. A signal during the start waits for its end."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self.loop.add_signal_handler(number, self.request_stop)
        await self.start()
        try:
            self._ensure()
            on_ready()
            await self.stopping.wait()
        finally:
            await self.stop()

    def _ensure(self) -> None:
        """This process is the stack's own, so it may have a survivor: programs learn of its death, however it comes."""
        assert self.supervisor is not None
        try:
            self.supervisor.ensure()
        except OSError as error:
            log.warning("programs may not learn of this stack's sudden death: %s", error)

    def follow(self, leash: int) -> None:
        """Stop when the other end of a pipe closes: a private stack ends with its launcher, however that ends."""
        self.loop.add_reader(leash, self._on_leash, leash)

    def _on_leash(self, leash: int) -> None:
        self.loop.remove_reader(leash)
        self.request_stop()

    async def _outside_loop(self, work: Callable[[], T]) -> T:
        """Do host work in a thread of its own: pyroute2 runs an event loop, and two do not nest."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            return await self.loop.run_in_executor(pool, work)

    # --- what control.sock asks for

    def info(self) -> Message:
        """What a launcher needs to know."""
        name = self.config.name
        has_netns = self.hostnet.has_netns
        return {
            "name": name,
            "pid": os.getpid(),
            "netns": netns_path(name) if has_netns else None,
            "resolv": str(resolv_path(name)) if has_netns and resolv_path(name).exists() else None,
            "mptcp": self.config.mptcp,
            "run_netns": self.config.run_netns,
        }

    def attach(self, listener_fd: int, pid: int, policy: Message) -> None:
        """Serve a program; takes the descriptor over."""
        assert self.supervisor is not None
        mptcp = check_mptcp(str(policy.get("mptcp", self.config.mptcp)))
        scheduler, congestion = str(policy.get("scheduler", "")), str(policy.get("cc", ""))
        check_choices(scheduler, congestion)
        own = check_rules([str(text) for text in policy.get("rules", ())])
        loopback = check_loopback(str(policy.get("loopback") or self.config.loopback))
        rules = rules_of([*own, *self.config.rules], loopback)
        chosen = Policy(mptcp=mptcp, scheduler=scheduler, congestion=congestion, rules=rules)
        self.supervisor.attach(listener_fd, pid, chosen, int(policy.get("home", 0)))

    def request_stop(self) -> None:
        """Begin to stop."""
        self.stopping.set()


def _packed_gateway(spec: LinkSpec, version: int) -> bytes | None:
    gateway = spec.gateway(version)
    return None if gateway is None else gateway.ip.packed
