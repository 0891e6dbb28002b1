"""Plays a wire script (grammar: kit/script.py) against one stack. The `wire` fixture of every trace test.

wire.established(mss=1000)
wire.play('''
    +0     in     .  1:1001          # one segment: the ACK is delayed
    +40ms  out    .  1:1 ack 1001
''')
"""

import errno
import re
from dataclasses import dataclass
from typing import Any

import pytest

from kit.clock import show_time
from kit.script import Line, SegmentSpec, parse_script
from kit.wire import PORT, Wire, pattern
from stack import events
from stack.config import sysctl_set
from stack.errors import StackError
from stack.tcp.state import State
from stack.units import MSEC, Nanos

TOLERANCE: Nanos = MSEC  # of `out` at a time other than +0
EVENT_NAMES = {n: getattr(events, n) for n in dir(events) if n.isupper()}


class Mismatch(Exception):
    """The stack did something else than the script says."""


@dataclass(slots=True, eq=False)
class Trace(Wire):
    """A wire that plays scripts."""

    bursting: bool = False  # `in` lines were received and not yet answered
    loose: bool = False  # what the stack sends is not compared

    def established(
        self,
        *,
        role: str = "client",
        mss: int = 1000,
        wnd: int = 65535,
        wscale: int | None = None,
        sack: bool = False,
        ts: bool = False,
        rtt: str = "10ms",
        rcv_wnd: int = 0,
        **options: int | bool | str,
    ) -> None:
        """Handshake, the stack as `client` or `server`. mss, wnd, wscale, sack, ts are what the peer offers.

        `rcv_wnd` sets SO_RCVBUF, other keywords any TcpOptions field of the stack's side.
        """
        for name, value in options.items():
            setattr(self.options, name, value)
        if rcv_wnd:
            self.options.rcvbuf = rcv_wnd
        offer = f"<mss {mss}" + ",sackOK" * sack + ",TS val ? ecr ?" * ts
        offer += f",nop,wscale {wscale}>" if wscale is not None else ">"
        if role == "client":
            self.play(f"""
                +0     app    connect
                +0     out    S 0:0
                +{rtt} in     S. 0:0 ack 1 win {wnd} {offer}
                +0     out    . 1:1 ack 1
            """)
        else:
            self.play(f"""
                +0     app    listen
                +0     in     S 0:0 win {wnd} {offer}
                +0     out    S. 0:0 ack 1
                +{rtt} in     . 1:1 ack 1 win {wnd}
                +0     app    accept
            """)
        assert self.conn is not None
        assert self.conn.state is State.ESTABLISHED
        self.events = 0

    # --- the player

    def play(self, script: str, *, loose: bool = False) -> None:
        """Run a script to its end; on a mismatch fail with the script, the line and both packets.

        `loose` lets the stack say what it likes; the test finds it in `sent`.
        """
        self.loose = loose
        for line in parse_script(script):
            try:
                self._line(line)
            except (Mismatch, AssertionError, StackError, AttributeError) as error:
                self._fail(script, line, error)
        try:
            self._settle()
        except (Mismatch, AssertionError) as error:
            self._fail(script, None, error)

    def _fail(self, script: str, line: Line | None, error: Exception) -> None:
        text = []
        for number, source in enumerate(script.splitlines()):
            if source.strip():
                here = line is not None and number == line.number
                text.append((">>> " if here else "    ") + source.strip())
        if line is None:
            text.append(">>> (end of script)")
        text += [f"    {part}" for part in str(error).splitlines()]
        if not isinstance(error, Mismatch):
            text[-1] = f"    {type(error).__name__}: {error}"
            raise AssertionError("\n".join(["wire trace:", *text])) from error
        pytest.fail("\n".join(["wire trace:", *text]), pytrace=False)

    def _settle(self) -> None:
        """Answer a burst, and insist that the script asked for everything that came out."""
        self.bursting = False
        self.flush()
        if self.sent and not self.loose:
            raise Mismatch("unexpected: " + self._show_sent())

    def _show_sent(self) -> str:
        now = self.clock.now
        return "\n            ".join(f"{show_time(e.at - now)} {self.show(e.packet)}" for e in self.sent)

    def _wait(self, delay: Nanos) -> None:
        """Let `delay` pass in silence."""
        self._settle()
        if self.loose:
            self.run_until(self.clock.now + delay)
        elif delay and self.advance(self.clock.now + delay):
            raise Mismatch("unexpected: " + self._show_sent())

    def _line(self, line: Line) -> None:
        if line.verb == "out":
            self.bursting = False
            self.flush()
            self._out(line)
            return
        if line.verb == "in" and self.bursting and not line.delay:
            self.receive(self._incoming(line))
            return
        self._wait(line.delay)
        if line.verb == "in":
            self.receive(self._incoming(line))
            self.bursting = True
        elif line.verb == "app":
            self._app(line)
            self.flush()
        elif line.verb == "check":
            self._check(line.rest)

    def _incoming(self, line: Line) -> bytes:
        if line.icmp is not None:
            return self.icmp(line.icmp)
        assert line.segment is not None
        return self.segment(line.segment)

    def _out(self, line: Line) -> None:
        spec = line.segment
        assert isinstance(spec, SegmentSpec), "out icmp is not compared yet; use wire.sent"
        start = self.clock.now
        slack = TOLERANCE if line.latest else 0
        early, late = start + line.delay - slack * (line.delay > 0), start + line.latest + slack
        if not self.advance(late):
            state = self.conn.state.name if self.conn is not None else "-"
            raise Mismatch(f"expected: {line.rest}\ngot:      nothing until {show_time(late - start)} (state {state})")
        emitted = self.sent.pop(0)
        got = f"{show_time(emitted.at - start)} {self.show(emitted.packet)}"
        wrong = self.differences(spec, emitted.packet)
        if not early <= emitted.at <= late:
            wrong.append("time")
        if wrong:
            packet = emitted.packet
            raise Mismatch(
                f"expected: {line.rest}\ngot:      {got}\ndiffers:  {', '.join(wrong)}\n"
                f"on wire:  seq {packet.seq} ack {packet.ack} {packet.raw[10:].hex()[:160]}"
            )

    # --- app

    def _app(self, line: Line) -> None:
        text, arrow, wanted = line.rest.partition("->")
        verb, *args = text.split()
        try:
            getattr(self, f"app_{verb}")(*args)
        except StackError as error:
            got = errno.errorcode.get(error.errno or 0, str(error.errno))
            if got != wanted.strip():
                raise Mismatch(f"expected: {wanted.strip() or 'success'}\ngot:      {error}") from error
            return
        if arrow:
            raise Mismatch(f"expected: {wanted.strip()}\ngot:      success")

    def app_connect(self, number: str = "1") -> None:
        peer = self.peer(int(number))
        self.conn = self.stack.tcp.connect((self.peer_addr, peer.port), self.clock.now, options=self.options.copy())
        self.conn.owner = self

    def app_connectsend(self, count: str, number: str = "1") -> None:
        """sendto() with MSG_FASTOPEN."""
        remote = (self.peer_addr, self.peer(int(number)).port)
        data = pattern(self.written, int(count))
        self.conn = self.stack.tcp.connect(remote, self.clock.now, options=self.options.copy(), data=data)
        self.written += int(count)
        self.conn.owner = self

    def app_listen(self, backlog: str = "128") -> None:
        binding = self.stack.tcp.bind(self.stack_addr, PORT, reuseaddr=True)
        self.listener = self.stack.tcp.listen(binding, int(backlog), options=self.options.copy())
        self.listener.owner = self

    def app_accept(self) -> None:
        self.conn = self.listener.accept()
        if self.conn is None:
            raise Mismatch("nothing to accept")
        self.conn.owner = self

    def app_unlisten(self) -> None:
        self.listener.close()

    def app_send(self, count: str, more: str = "") -> None:
        self.conn.send(pattern(self.written, int(count)), more=bool(more))
        self.written += int(count)

    def app_recv(self, count: str = "") -> None:
        wanted = int(count) if count else self.conn.readable
        data = b"".join(self.conn.views(wanted)) if wanted else b""
        if len(data) != wanted:
            raise Mismatch(f"expected: {wanted} bytes to read\ngot:      {len(data)}, readable {self.conn.readable}")
        if data != pattern(self.taken, wanted):
            raise Mismatch(f"the {wanted} bytes read at offset {self.taken} are not those that were sent")
        self.conn.consume(wanted)
        self.taken += wanted

    def app_shutdown(self, which: str = "wr") -> None:
        if "r" in which.replace("wr", ""):
            self.conn.shutdown_read()
        if "wr" in which:
            self.conn.shutdown()

    def app_close(self) -> None:
        self.conn.close()

    def app_abort(self) -> None:
        self.conn.abort()

    def app_setopt(self, name: str, value: str) -> None:
        self.conn.set_option(name, int(value) if value.lstrip("-").isdigit() else value)

    def app_sysctl(self, name: str, *value: str) -> None:
        sysctl_set(self.stack.sysctl, name, " ".join(value))

    # --- check

    def names(self) -> dict[str, Any]:
        """Everything that a `check` line can speak of."""
        known: dict[str, Any] = dict(self.counters)
        known |= {name: name for name in errno.errorcode.values()}
        known |= {state.name: state.name for state in State}
        known |= {name: name for name in EVENT_NAMES}
        known |= {"conns": len(list(self.stack.tcp.conns())), "listeners": len(list(self.stack.tcp.listeners()))}
        known["events"] = [name for name, bit in EVENT_NAMES.items() if self.events & bit]
        if self.listener is not None:
            known["queued"] = self.listener.queued
        conn = self.conn
        if conn is not None:
            info = conn.info(self.clock.now)
            known |= {name: getattr(info, name) for name in type(info).__dataclass_fields__}
            for name in ("readable", "send_space", "send_queued", "peer_closed", "established", "options"):
                known[name] = getattr(conn, name)
            known["state"] = conn.state.name
            known["error"] = errno.errorcode.get(conn.error, "none")
        return known

    def _check(self, expression: str) -> None:
        known = self.names()
        code = re.sub(r"\bis\b", "==", expression)
        if not eval(code, {"none": "none"}, known):
            words = dict.fromkeys(re.findall(r"[A-Za-z_]\w*", code))
            values = [f"{word} = {known[word]!r}" for word in words if word in known and known[word] != word]
            raise Mismatch(f"expected: {expression}\ngot:      " + ", ".join(values))
        if "events" in expression:
            self.events = 0
