"""RST in each direction, and what is left to be read then."""

import socket

from prelude import attempt, linger, name, pair, polled, settle, show


def error(sock):
    return name(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))


ours, theirs = pair()
linger(theirs, 1, 0)
theirs.send(b"last words")
settle()
theirs.close()
settle()
show("reset polls", polled(ours))
show("what came before", attempt(ours.recv, 100))
show("then", attempt(ours.recv, 100))
show("told once", error(ours), attempt(ours.recv, 100))
show("sends", attempt(ours.send, b"x"))
show("names", attempt(ours.getpeername))

ours, theirs = pair()
ours.send(b"never read")
settle()
theirs.close()
settle()
show("unread data resets", polled(ours), error(ours), error(ours))
show("then", attempt(ours.recv, 1), attempt(ours.send, b"x"))

ours, theirs = pair()
theirs.close()
settle()
show("closed polls", polled(ours))
show("first send", attempt(ours.send, b"x"))
settle()
show("is answered with a reset", polled(ours))
show("second send", attempt(ours.send, b"x"))

ours, theirs = pair()
linger(ours, 1, 0)
ours.close()
settle()
show("our reset", polled(theirs), attempt(theirs.recv, 1))
