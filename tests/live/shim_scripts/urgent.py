"""Urgent data: MSG_OOB both ways, the mark, POLLPRI, SIGURG, SO_OOBINLINE; what FIONREAD counts is not asked."""

import fcntl
import os
import select
import signal
import socket
import struct

from prelude import attempt, pair, server, settle, show, tcp

SIOCATMARK = 0x8905
OOB, PEEK, DONTWAIT = socket.MSG_OOB, socket.MSG_PEEK, socket.MSG_DONTWAIT
signals = []
signal.signal(signal.SIGURG, lambda *_: signals.append(1))


def state(sock):
    """Does it poll PRI, is it at the mark, how many SIGURGs were there?"""
    poll = select.poll()
    poll.register(sock, select.POLLIN | select.POLLPRI)
    bits = dict(poll.poll(0)).get(sock.fileno(), 0)
    mark = struct.unpack("i", fcntl.ioctl(sock, SIOCATMARK, bytes(4)))[0]
    return bool(bits & select.POLLIN), bool(bits & select.POLLPRI), mark, len(signals)


def take(sock, size, flags=0):
    return attempt(sock.recv, size, flags | DONTWAIT)


show("fresh", attempt(tcp().recv, 1, OOB), attempt(tcp().send, b"x", OOB))
with server() as listening:
    show("listening", attempt(listening.recv, 1, OOB), attempt(listening.send, b"x", OOB))
one, two = pair()
for ours, theirs in ((one, two), (two, one)):
    signals.clear()
    fcntl.fcntl(theirs, fcntl.F_SETOWN, os.getpid())
    show("none", take(theirs, 1, OOB), state(theirs))
    show("sent", ours.send(b"abc"), ours.send(b"de!", OOB), ours.sendmsg([b"f", b"gh"]))
    settle()
    show("to the mark", state(theirs), take(theirs, 100), state(theirs))
    show("out of band", take(theirs, 1, OOB | PEEK), take(theirs, 1, OOB), take(theirs, 1, OOB), state(theirs))
    show("after", take(theirs, 100), state(theirs), take(theirs, 100))
    ours.sendmsg([b"first", b"?"], [], OOB)
    settle()
    show("early", take(theirs, 1, OOB), take(theirs, 100), state(theirs)[1:])
    ours.send(b"then")
    settle()
    show("then", take(theirs, 100), state(theirs))
    ours.send(b"p")
    ours.send(b"!", OOB)
    ours.send(b"q")
    settle()
    show("skipped", take(theirs, 100), take(theirs, 100), state(theirs))
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    ours.send(b"abc")
    ours.send(b"!", OOB)
    ours.send(b"fgh")
    settle()
    show("in line", state(theirs), take(theirs, 1, OOB), take(theirs, 100), state(theirs), take(theirs, 100))
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 0)
    block = os.urandom(300_000)
    ours.setblocking(True)
    ours.sendall(block)
    show("behind much", ours.send(b"!", OOB))
    got = b""
    while len(got) < len(block):
        got += theirs.recv(1 << 20)
    settle()
    show("arrived", got == block, state(theirs)[1:3], take(theirs, 1, OOB))
one.shutdown(socket.SHUT_WR)
settle()
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
show("half closed", attempt(one.send, b"x", OOB), two.send(b"!", OOB))
settle()
show("half closed", take(one, 1, OOB), take(two, 10))
with server() as listening:
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    with socket.create_connection(listening.getsockname()[:2]) as ours, listening.accept()[0] as theirs:
        ours.send(b"a!", OOB)
        settle()
        show("inherited", theirs.getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE), take(theirs, 9), take(theirs, 9))
