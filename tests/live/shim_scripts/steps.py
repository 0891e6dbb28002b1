"""Plays random socket programs, each a line of JSON, and answers each with a line: what every step gave.

    steps.py REQUESTS ANSWERS       two FIFOs; it ends when nobody writes requests any more

A request is {"base": port, "patience": seconds, "steps": [[name, argument …] …]}. Sockets live in numbered slots; a
step on an empty slot does nothing. Ports are written P1, P2 (fixed ones, from `base`) and E1, E2 (ephemeral, in order
of appearance), since their numbers mean nothing. What could block for ever is asked about by poll before. After each
step everything is left to settle, and all sockets are polled.
"""

import array
import ctypes
import errno
import fcntl
import json
import os
import select
import socket
import struct
import sys
import tempfile
import time
from dataclasses import dataclass, field

from prelude import name, words

LIBC = ctypes.CDLL(None, use_errno=True)
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
TYPES = {"tcp": TCP, "udp": UDP}
HOSTS = {
    4: {"any": "0.0.0.0", "lo": "127.0.0.1", "lo2": "127.0.0.2", "mapped": "127.0.0.1", "alien": "192.0.2.1"},
    6: {"any": "::", "lo": "::1", "lo2": "::ffff:127.0.0.2", "mapped": "::ffff:127.0.0.1", "alien": "2001:db8::1"},
}
FIXED = 4  # ports from `base` that a program may name
POLLED = select.POLLIN | select.POLLOUT | select.POLLPRI | select.POLLRDHUP
ROUND_TRIPS = 4  # calls that the stack answers, after which it has done what was to do at once
TIMEOUT = struct.pack("qq", 0, 60_000)  # of calls that would wait for ever
SIOCOUTQ, FIONREAD = 0x5411, 0x541B
FLAGS = {
    "peek": socket.MSG_PEEK,
    "dontwait": socket.MSG_DONTWAIT,
    "waitall": socket.MSG_WAITALL,
    "trunc": socket.MSG_TRUNC,
    "more": socket.MSG_MORE,
    "nosignal": socket.MSG_NOSIGNAL,
    "oob": socket.MSG_OOB,
}
EDGES = {"in": select.EPOLLIN, "out": select.EPOLLOUT, "rdhup": select.EPOLLRDHUP, "et": select.EPOLLET}
EDGES |= {"oneshot": select.EPOLLONESHOT}


def flags_of(text):
    return sum(FLAGS[word] for word in text.split("|") if word)


def letters(data):
    """Text with its length; what is long is told by its beginning and end."""
    text = data.decode("latin1")
    return f"{len(data)} {text if len(text) <= 12 else text[:6] + '…' + text[-6:]}"


@dataclass(eq=False)
class Slot:
    """A socket, and whether it ever had or began a connection: one that did not is asked with recvmsg and sendmsg."""

    sock: socket.socket
    kind: int
    family: int
    life: dict = field(default_factory=dict)  # its duplicates share it

    @property
    def connected(self):
        return self.life.get("connected", False)

    @connected.setter
    def connected(self, value):
        self.life["connected"] = value

    @property
    def word(self):
        """Tells in a line what kind of socket it is: fresh, TCP, UDP."""
        return "u" if self.kind == UDP else "t" if self.connected else "f"


@dataclass(eq=False)
class Player:
    """One program."""

    base: int
    patience: float
    scratch: socket.socket
    slots: dict = field(default_factory=dict)
    ephemeral: dict = field(default_factory=dict)
    watched: dict = field(default_factory=dict)
    epoll: object = None
    sent: int = 0

    # ------------------------------------------------------------------ words

    def port(self, number):
        if self.base <= number < self.base + FIXED:
            return f"P{number - self.base}"
        return f"E{self.ephemeral.setdefault(number, len(self.ephemeral) + 1)}" if number else "0"

    def show_address(self, address):
        return f"{address[0]} {self.port(address[1])}" if address else str(address)

    def address(self, slot, where):
        """["host", port] or ["slot", number]: where the socket in that slot is."""
        kind, which = where
        if kind != "slot":
            return HOSTS[slot.family][kind], self.base + which if which else 0
        other = self.slots.get(which)
        host, port = other.sock.getsockname()[:2] if other else (HOSTS[slot.family]["lo"], self.base + FIXED - 1)
        if slot.family == 6 and "." in host and ":" not in host:
            host = "::" if host == "0.0.0.0" else f"::ffff:{host}"
        if slot.family == 4 and ":" in host:
            host = host.removeprefix("::ffff:") if "." in host else "0.0.0.0" if host == "::" else "127.0.0.1"
        return host, port

    def text(self, size):
        self.sent += 1
        return bytes([96 + self.sent % 26 + (self.sent % 26 == 0)]) * size

    # ------------------------------------------------------------------ playing

    def settle(self):
        for _ in range(ROUND_TRIPS):
            self.scratch.getsockname()
        if self.patience:
            time.sleep(self.patience)
            for _ in range(ROUND_TRIPS):
                self.scratch.getsockname()

    def polls(self):
        poll = select.poll()
        for slot in self.slots.values():
            poll.register(slot.sock.fileno(), POLLED)
        found = dict(poll.poll(0))
        return self.masks({number: found.get(slot.sock.fileno(), 0) for number, slot in self.slots.items()})

    def masks(self, found):
        return " ".join(
            f"{self.slots[number].word if number in self.slots else 'x'}{number}={words(bits)}"
            for number, bits in sorted(found.items())
        )

    def play(self, steps):
        lines = []
        for step, *arguments in steps:
            try:
                result = getattr(self, f"step_{step}")(*arguments)
            except OSError as error:
                result = name(error.errno)
            except Exception as error:
                result = f"{type(error).__name__}: {error}"
            self.settle()
            lines.append([" ".join(map(str, (step, *arguments))), str(result), self.polls()])
        return lines

    def end(self):
        for slot in self.slots.values():
            slot.sock.close()
        if self.epoll is not None:
            self.epoll.close()

    def put(self, number, sock, kind, family, life=None):
        self.step_close(number)
        self.slots[number] = Slot(sock, kind, family, {} if life is None else life)

    def bounded(self, sock):
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            sock.setsockopt(socket.SOL_SOCKET, option, TIMEOUT)

    def readable(self, slot):
        """It can be read without waiting for the time-out."""
        poll = select.poll()
        poll.register(slot.sock.fileno(), select.POLLIN | select.POLLRDHUP)
        return bool(poll.poll(0)) or not slot.sock.getblocking()

    # ------------------------------------------------------------------ steps: life

    def step_socket(self, number, kind, family, block):
        sock = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, TYPES[kind])
        self.bounded(sock)
        if kind == "tcp":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(block)
        self.put(number, sock, TYPES[kind], family)
        return "ok"

    def step_close(self, number):
        slot = self.slots.pop(number, None)
        if slot:
            slot.sock.close()
        return "ok"

    def step_dup(self, number, other):
        if slot := self.slots.get(number):
            self.put(other, slot.sock.dup(), slot.kind, slot.family, slot.life)

    def step_pass(self, number, other):
        """Through an AF_UNIX socket with SCM_RIGHTS."""
        if slot := self.slots.get(number):
            here, there = socket.socketpair()
            with here, there:
                socket.send_fds(here, [b"x"], [slot.sock.fileno()])
                fd = socket.recv_fds(there, 1, 1)[1][0]
            block = slot.sock.getblocking()
            sock = socket.socket(slot.sock.family, slot.kind, slot.sock.proto, fileno=fd)
            sock.setblocking(block)
            self.put(other, sock, slot.kind, slot.family, slot.life)

    def step_block(self, number, block):
        if slot := self.slots.get(number):
            slot.sock.setblocking(block)

    def step_bind(self, number, where):
        if slot := self.slots.get(number):
            slot.sock.bind(self.address(slot, where))
            return self.show_address(slot.sock.getsockname())
        return None

    def step_listen(self, number, backlog):
        if slot := self.slots.get(number):
            slot.sock.listen(backlog)
            return self.show_address(slot.sock.getsockname())
        return None

    def step_connect(self, number, where):
        if slot := self.slots.get(number):
            address = self.address(slot, where)
            try:
                slot.sock.connect(address)
            except OSError as error:
                if error.errno not in (errno.EALREADY, errno.EISCONN):
                    slot.connected = error.errno == errno.EINPROGRESS
                raise
            slot.connected = True
            return f"{self.show_address(slot.sock.getsockname())} → {self.show_address(slot.sock.getpeername())}"
        return None

    def step_disconnect(self, number):
        """connect() to AF_UNSPEC."""
        if slot := self.slots.get(number):
            if LIBC.connect(slot.sock.fileno(), bytes(16), 16):
                raise OSError(ctypes.get_errno(), "connect")
            slot.connected = False
            return self.show_address(slot.sock.getsockname())
        return None

    def step_accept(self, number, other):
        if slot := self.slots.get(number):
            if slot.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and not self.readable(slot):
                return "nobody"
            sock, address = slot.sock.accept()
            sock.setblocking(True)
            self.put(other, sock, TCP, slot.family, {"connected": True})
            return f"{self.show_address(sock.getsockname())} ← {self.show_address(address)}"
        return None

    def step_shutdown(self, number, how):
        if slot := self.slots.get(number):
            slot.sock.shutdown(how)

    def step_sockname(self, number):
        if slot := self.slots.get(number):
            return self.show_address(slot.sock.getsockname())
        return None

    def step_peername(self, number):
        if slot := self.slots.get(number):
            return self.show_address(slot.sock.getpeername())
        return None

    # ------------------------------------------------------------------ steps: data

    def step_send(self, number, size, how, flags=""):
        if slot := self.slots.get(number):
            data, bits = self.text(size), flags_of(flags)
            if not slot.connected or how == "sendmsg":
                half = size // 2
                return slot.sock.sendmsg([data[:half], data[half:]], [], bits)
            if how == "write":
                return os.write(slot.sock.fileno(), data)
            if how == "sendfile":
                with tempfile.TemporaryFile() as file:
                    file.write(data)
                    file.flush()
                    return os.sendfile(slot.sock.fileno(), file.fileno(), 0, size)
            return slot.sock.send(data, bits)
        return None

    def step_sendto(self, number, size, where, flags=""):
        if slot := self.slots.get(number):
            return slot.sock.sendto(self.text(size), flags_of(flags), self.address(slot, where))
        return None

    def step_recv(self, number, size, how, flags=""):
        if slot := self.slots.get(number):
            bits = flags_of(flags)
            waits = slot.connected or slot.kind == UDP
            if waits and not bits & socket.MSG_DONTWAIT and not self.readable(slot):
                return "nothing"
            sock = slot.sock
            if how == "recvmsg" or (slot.kind == TCP and not slot.connected):
                return self.show_message(bits, *sock.recvmsg(size, 0, bits))
            if how.startswith("control"):
                return self.show_message(bits, *sock.recvmsg(size, int(how[7:]), bits))
            if how == "recvfrom" or (slot.kind == UDP and slot.connected):
                data, address = sock.recvfrom(size, bits)
                if bits & socket.MSG_TRUNC and slot.kind == TCP:
                    data = bytes(len(data))
                return f"{len(data)}: {letters(data[:size])} from {self.show_address(address)}"
            if how == "read":
                return letters(os.read(sock.fileno(), size))
            if how == "into":
                room = bytearray(size)
                count = sock.recv_into(room, size, bits)
                return count if bits & socket.MSG_TRUNC else f"{count}: {letters(bytes(room).rstrip(bytes(1)))}"
            if bits & socket.MSG_TRUNC and slot.kind == TCP:  # not written, so what was there before is seen
                return len(sock.recv(size, bits))
            data = sock.recv(size, bits)  # with MSG_TRUNC as long as the datagram was, whatever lies behind `size`
            return f"{len(data)}: {letters(data[:size])}"
        return None

    def show_message(self, bits, data, control, flags, address):
        if bits & socket.MSG_TRUNC and address is None:
            data = bytes(len(data))
        shown = [f"{level}.{kind}:{value.hex()}" for level, kind, value in control]
        return f"{letters(data)} {shown} {flags:#x} {self.show_address(address)}"

    def step_splice(self, number, other, size):
        source, sink = self.slots.get(number), self.slots.get(other)
        if not source or not sink or not (source.connected and sink.connected) or source.kind == UDP:
            return None
        if not self.readable(source):
            return "nothing"
        readable, writable = os.pipe()
        try:
            came = os.splice(source.sock.fileno(), writable, size)
            return f"{came} {os.splice(readable, sink.sock.fileno(), came) if came else ''}"
        finally:
            os.close(readable)
            os.close(writable)

    # ------------------------------------------------------------------ steps: questions

    def step_set(self, number, level, option, value):
        if slot := self.slots.get(number):
            slot.sock.setsockopt(level, option, bytes.fromhex(value) if isinstance(value, str) else value)

    def step_get(self, number, level, option, room):
        if slot := self.slots.get(number):
            return slot.sock.getsockopt(level, option, room).hex()
        return None

    def step_error(self, number):
        if slot := self.slots.get(number):
            return name(slot.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
        return None

    def step_ioctl(self, number, request):
        if slot := self.slots.get(number):
            room = array.array("i", [-1])
            fcntl.ioctl(slot.sock.fileno(), request, room)
            return room[0]
        return None

    def step_ctl(self, verb, number, events=""):
        """epoll_ctl; slots are told by number."""
        slot = self.slots.get(number)
        if slot is None:
            return None
        if self.epoll is None:
            self.epoll = select.epoll()
        bits = sum(EDGES[word] for word in events.split("|") if word)
        fd = slot.sock.fileno()
        if verb == "add":
            self.epoll.register(fd, bits)
            self.watched[fd] = number
        elif verb == "mod":
            self.epoll.modify(fd, bits)
        else:
            self.epoll.unregister(fd)
        return "ok"

    def step_wait(self):
        if self.epoll is None:
            return None
        return "told " + self.masks({self.watched[fd]: bits for fd, bits in self.epoll.poll(0)})


def main():
    scratch = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with open(sys.argv[1]) as requests, open(sys.argv[2], "w") as answers:
        for line in requests:
            request = json.loads(line)
            player = Player(request["base"], request["patience"], scratch)
            try:
                told = player.play(request["steps"])
            finally:
                player.end()
                player.settle()
            answers.write(json.dumps(told) + "\n")
            answers.flush()


main()
