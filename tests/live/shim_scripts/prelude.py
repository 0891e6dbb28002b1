"""Helpers of the programs that run twice, on the kernel and on the stack, and must say the same."""

import contextlib
import errno
import os
import select
import socket
import struct
import time

FAMILY = socket.AF_INET6 if os.environ.get("FAMILY") == "6" else socket.AF_INET
LOCAL = "::1" if FAMILY == socket.AF_INET6 else "127.0.0.1"
SETTLE = 0.05  # seconds in which news cross the stack
_BITS = ((1, "IN"), (2, "PRI"), (4, "OUT"), (8, "ERR"), (16, "HUP"), (0x2000, "RDHUP"))


def show(label, *values):
    print(f"{label}:", *values, flush=True)


def name(code):
    """ENOTSUP and EOPNOTSUPP are one number on Linux."""
    return errno.errorcode.get(code, code)


def attempt(function, *args):
    """The result, or the errno's name."""
    try:
        return function(*args)
    except OSError as error:
        return name(error.errno)


def words(bits):
    return "|".join(word for bit, word in _BITS if bits & bit) or "-"


def polled(sock):
    poll = select.poll()
    poll.register(sock, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    found = poll.poll(0)
    return words(found[0][1]) if found else "-"


def settle():
    time.sleep(SETTLE)


def later(*values):
    """The last of `values`, after the news of the others have settled."""
    settle()
    return values[-1]


def tcp():
    return socket.socket(FAMILY, socket.SOCK_STREAM)


def udp():
    return socket.socket(FAMILY, socket.SOCK_DGRAM)


def server(backlog=8, port=0):
    sock = tcp()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((LOCAL, port))
    sock.listen(backlog)
    return sock


def client(listening):
    return socket.create_connection(listening.getsockname()[:2])


def pair():
    with server() as listening:
        ours = client(listening)
        return ours, listening.accept()[0]


def linger(sock, on, seconds):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", on, seconds))


@contextlib.contextmanager
def within(least, most):
    """Shows that the body took about as long as it should."""
    begun = time.monotonic()
    yield
    took = time.monotonic() - begun
    show("  in time", least <= took <= most)
