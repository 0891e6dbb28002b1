"""What the debug socket can be asked: one method a row, the same results for words and for JSON-RPC 2.0.

A method takes positional arguments (words, or the `params` of a call) and returns plain data, or an iterator of rows
when there may be very many. docs/debug-protocol.md is the user's side of this file.
"""

import json
import logging
import os
import platform
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mptcp.host import MptcpHost
from nuse.debugmptcp import conn_named, explain_lines, mptcp_rows
from nuse.driver import Driver
from nuse.eventlog import EventLog
from nuse.impair import ImpairError, parse_impair
from nuse.impair_device import impair
from nuse.mptcpcmd import mptcp_command
from nuse.mptcpset import CONN_WORDS, change_conn
from nuse.netcmd import ROUTE_USAGE, change_link, change_route
from nuse.snapshot import conn_row, link_row, listener_row, route_row, socket_row
from stack.errors import StackError
from stack.ip.link import Link
from stack.knobs import Value, sysctl_get, sysctl_items, sysctl_set, table_of
from stack.mib import mib_items

log = logging.getLogger("nuse.debug")

PROTOCOL = 1  # counts changes that a client could stumble over

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
INTERNAL_ERROR, REFUSED = -32603, -32000


class DebugError(Exception):
    """A request that cannot be served; one line, and a JSON-RPC error code."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


@dataclass(slots=True, frozen=True)
class Method:
    """One row of the table."""

    call: Callable[..., Any]
    usage: str
    does: str
    least: int = 0
    most: int = 0
    names: tuple[str, ...] = ()  # of arguments, for calls whose params are an object


class DebugMethods:
    """The methods over one running stack. `stack` is a stack.host.Stack."""

    def __init__(
        self,
        driver: Driver,
        log: EventLog,
        name: str = "",
        mptcp: MptcpHost | None = None,
        programs: Callable[[], list[dict[str, Any]]] = list,
    ) -> None:
        self.driver = driver
        self.stack: Any = driver.stack
        self.mptcp = mptcp
        self.log = log
        self.name = name
        self.started = driver.now()
        many = 1 << 16
        self.table = {
            "help": Method(self._help, "help", "these methods"),
            "version": Method(self._version, "version", "versions of nuse, Python, the kernel and this protocol"),
            "stack": Method(self._stack, "stack", "what is running, in figures"),
            "links": Method(self._links, "links", "all links with addresses, impairment and counters"),
            "link": Method(
                self._link,
                "link NAME [up|down|mtu N|addr add|del ADDR/LENGTH|impair [SPEC…|clear]]",
                "one link; change it; make its network bad, see docs/debug-protocol.md",
                1,
                many,
                ("name", "verb", "spec"),
            ),
            "conns": Method(self._conns, "conns", "all TCP connections with their tcp_info"),
            "conn": Method(self._conn, "conn ID", "one TCP connection", 1, 1, ("id",)),
            "mptcp": Method(
                self._mptcp,
                "mptcp [endpoint …|limits …|scheduler CONN [NAME]|cc CONN [NAME]|weight CONN [SUBFLOW N]]",
                "MPTCP connections with their mptcp_info and subflows; endpoints and limits, in the words of ip mptcp; "
                "who chooses among a connection's subflows",
                0,
                many,
                ("words",),
            ),
            "explain": Method(
                self._explain,
                "explain CONN",
                "what a connection does and why, in words; CONN is an id of `conns` or `mptcp`, or an address:port",
                1,
                1,
                ("conn",),
            ),
            "listeners": Method(self._listeners, "listeners", "listening sockets and their queues"),
            "sockets": Method(self._sockets, "sockets", "UDP and ping sockets"),
            "programs": Method(
                programs, "programs", "what `nuse run` started, and how many of its calls stopped for us"
            ),
            "routes": Method(self._routes, "routes", "the routing table"),
            "route": Method(self._route, ROUTE_USAGE, "change the routing table", 2, many, ("verb", "words")),
            "counters": Method(self._counters, "counters [NAME]", "MIB counters, named as nstat does", 0, 1, ("name",)),
            "sysctl": Method(
                self._sysctl, "sysctl [NAME [VALUE…]]", "read or set a sysctl", 0, many, ("name", "value")
            ),
            "events": Method(self._events, "events [COUNT]", "the last things that happened", 0, 1, ("count",)),
            "subscribe": Method(
                self._subscribe, "subscribe events", "events as they happen, a line each", 1, 1, ("what",)
            ),
        }

    def call(self, name: str, args: list[Any]) -> Any:
        """The result of a method. Raises DebugError."""
        method = self.table.get(name)
        if method is None:
            raise DebugError(METHOD_NOT_FOUND, f"no method {name!r}; try help")
        if not method.least <= len(args) <= method.most:
            raise DebugError(INVALID_PARAMS, f"usage: {method.usage}")
        try:
            return method.call(*args)
        except (StackError, ImpairError) as exc:
            raise DebugError(REFUSED, getattr(exc, "strerror", None) or str(exc)) from None
        except DebugError:
            raise
        except Exception as exc:
            log.exception("debug method %s failed", name)
            raise DebugError(INTERNAL_ERROR, f"{name} failed: {exc}") from exc

    # --- methods

    def _help(self) -> list[dict[str, str]]:
        return [{"usage": method.usage, "does": method.does} for method in self.table.values()]

    def _version(self) -> dict[str, Any]:
        try:
            nuse = version("nuse")
        except PackageNotFoundError:
            nuse = "unknown"
        return {"nuse": nuse, "protocol": PROTOCOL, "python": platform.python_version(), "kernel": platform.release()}

    def _stack(self) -> dict[str, Any]:
        stack = self.stack
        states = Counter(conn.state.name for conn in stack.tcp.conns())
        return {
            "name": self.name,
            "pid": os.getpid(),
            "uptime_s": (self.driver.now() - self.started) // 1_000_000_000,
            "links": sorted(stack.links),
            "conns": sum(states.values()),
            "states": dict(states),
            "listeners": sum(1 for _ in stack.tcp.listeners()),
            "loop": type(self.driver.loop).__module__.split(".", maxsplit=1)[0],
            "faults": self.driver.faults,
            "subscribers": len(self.log.subscribers),
        }

    def _links(self) -> list[dict[str, Any]]:
        return [link_row(self.driver, link) for link in self.stack.links.values()]

    def _find_link(self, name: str) -> Link:
        link: Link | None = self.stack.links.get(name)
        if link is None:
            raise DebugError(REFUSED, f"no link {name!r}; there are {' '.join(sorted(self.stack.links))}")
        return link

    def _link(self, name: str, verb: str = "", *spec: str) -> dict[str, Any]:
        link = self._find_link(str(name))
        if verb in ("up", "down") and not spec:
            self._set_up(link, verb == "up")
        elif verb == "impair":
            if spec:
                words = " ".join(map(str, spec))
                try:
                    impair(self.driver, link, None if words == "clear" else parse_impair(words))
                except KeyError:
                    raise DebugError(REFUSED, f"link {link.name!r} has no device to impair") from None
        elif verb and verb not in ("mtu", "addr"):
            raise DebugError(INVALID_PARAMS, f"usage: {self.table['link'].usage}")
        elif verb:
            before = {addr for addr, _length in link.addrs}
            change_link(self.stack, link, verb, spec)
            self._tell_addrs(link, before)
            self.driver.wake()
        return link_row(self.driver, link)

    def _set_up(self, link: Link, up: bool) -> None:
        if link.up != up:
            self.stack.set_link_up(link, up)
            if up and self.mptcp is not None:
                self.mptcp.pm.on_link_up(link, self.driver.now())
            self.log.record("link-up" if up else "link-down", {"link": link.name})
            self.driver.wake()

    def _tell_addrs(self, link: Link, before: set[bytes]) -> None:
        """Let MPTCP's path manager know what addresses came and went."""
        if self.mptcp is None:
            return
        now, after = self.driver.now(), {addr for addr, _length in link.addrs}
        for addr in before - after:
            self.mptcp.pm.on_addr_removed(link, addr, now)
        for addr in after - before:
            self.mptcp.pm.on_addr_added(link, addr, now)

    def _conns(self) -> Iterator[dict[str, Any]]:
        conns = list(self.stack.tcp.conns())
        return (conn_row(conn, self.driver.now()) for conn in conns)

    def _conn(self, ident: int | str) -> dict[str, Any]:
        try:
            number = int(ident)
        except (TypeError, ValueError):
            raise DebugError(INVALID_PARAMS, f"usage: {self.table['conn'].usage}; ids are in `conns`") from None
        for conn in self.stack.tcp.conns():
            if conn.id == number:
                return conn_row(conn, self.driver.now())
        raise DebugError(REFUSED, f"no connection {number}")

    def _mptcp(self, *words: object) -> Any:
        now = self.driver.now()
        if self.mptcp is None:
            if words:
                raise DebugError(REFUSED, "this stack has no MPTCP")
            return []
        if not words:
            return mptcp_rows(self.mptcp, now)
        spelled = [each for word in words for each in _word(word).split()]
        if spelled and spelled[0] in CONN_WORDS:
            answer: Any = change_conn(self.stack, self.mptcp, spelled)
        else:
            answer = mptcp_command(self.mptcp.pm, spelled, now)
        self.driver.wake()
        return answer

    def _explain(self, conn: object) -> dict[str, Any]:
        found = conn_named(self.stack, self.mptcp, str(conn))
        return {"lines": explain_lines(found, self.driver.now())}

    def _listeners(self) -> list[dict[str, Any]]:
        listeners = list(self.stack.tcp.listeners())
        return [
            *(listener_row(listener) for listener in listeners),
            *(listener_row(listener, "mptcp") for listener in listeners if listener.extension is not None),
        ]

    def _sockets(self) -> Iterator[dict[str, Any]]:
        udp = [("udp", endpoint) for endpoint in self.stack.udp.endpoints()]
        echo = [("icmp", endpoint) for endpoint in self.stack.icmp.echo.endpoints()]
        raw = [("raw", endpoint) for endpoint in self.stack.raw.endpoints()]
        return (socket_row(proto, endpoint) for proto, endpoint in [*udp, *echo, *raw])

    def _routes(self) -> list[dict[str, Any]]:
        return [route_row(entry) for entry in self.stack.routes.entries()]

    def _route(self, verb: str, *words: Any) -> list[dict[str, Any]]:
        change_route(self.stack, verb, [each for word in words for each in _word(word).split()])
        self.driver.wake()
        return self._routes()

    def _counters(self, name: str | None = None) -> dict[str, int]:
        counters = dict(mib_items(self.stack.mib))
        if self.mptcp is not None:
            counters |= mib_items(self.mptcp.mib)
        if name is None:
            return counters
        if name not in counters:
            raise DebugError(REFUSED, f"no counter {name!r}")
        return {name: counters[name]}

    def _sysctl(self, name: str | None = None, *value: object) -> dict[str, Value]:
        tables = [self.stack.sysctl] if self.mptcp is None else [self.stack.sysctl, self.mptcp.sysctl]
        if name is None:
            return dict(sorted(item for knobs in tables for item in sysctl_items(knobs)))
        name = str(name)
        knobs = table_of(tables, name)
        if value:
            return {name: sysctl_set(knobs, name, " ".join(map(_word, value)))}
        return {name: sysctl_get(knobs, name)}

    def _events(self, count: int | str | None = None) -> list[dict[str, Any]]:
        events = list(self.log.ring)
        if count is None:
            return events
        try:
            return events[-int(count) :] if int(count) > 0 else []
        except (TypeError, ValueError):
            raise DebugError(INVALID_PARAMS, f"usage: {self.table['events'].usage}") from None

    def _subscribe(self, what: str) -> "StreamWanted":
        if what != "events":
            raise DebugError(INVALID_PARAMS, f"usage: {self.table['subscribe'].usage}")
        return StreamWanted()


def _word(value: object) -> str:
    """A sysctl value given in JSON, as `sysctl -w` would spell it."""
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


class StreamWanted:
    """Result of `subscribe`: the connection turns into a stream."""


@dataclass(slots=True)
class Request:
    """One request line, understood."""

    method: str
    args: list[Any]
    rpc: bool = False
    ident: Any = None
    silent: bool = False  # a JSON-RPC notification: no answer


def parse_request(line: str, table: dict[str, Method]) -> Request:
    """Words, or one JSON-RPC 2.0 object if it starts with `{`. Raises DebugError."""
    if not line.startswith("{"):
        words = line.split()
        return Request(words[0], list(words[1:]))
    try:
        call = json.loads(line)
    except (ValueError, RecursionError):
        raise DebugError(PARSE_ERROR, "not valid JSON") from None
    ident = call.get("id")
    method, params = call.get("method"), call.get("params", [])
    if call.get("jsonrpc") != "2.0" or not isinstance(method, str) or not isinstance(params, list | dict):
        raise DebugError(INVALID_REQUEST, 'a call looks like {"jsonrpc":"2.0","id":1,"method":"conns"}')
    if isinstance(params, dict):
        params = _positional(params, table[method].names if method in table else ())
    return Request(method, params, True, ident, "id" not in call)


def _positional(params: dict[str, Any], names: tuple[str, ...]) -> list[Any]:
    unknown = set(params) - set(names)
    if unknown:
        raise DebugError(
            INVALID_PARAMS, f"no parameter {min(unknown)!r}" + (f"; known: {' '.join(names)}" if names else "")
        )
    args = []
    for name in names[: len(params)]:
        if name not in params:
            raise DebugError(INVALID_PARAMS, f"parameter {name!r} is missing")
        args.append(params[name])
    return args
