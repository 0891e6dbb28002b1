"""Non-blocking connect in all its outcomes, and edges as epoll shows them."""

import select
import socket

from prelude import LOCAL, attempt, client, name, polled, server, settle, show, tcp, words


def start(address):
    sock = tcp()
    sock.setblocking(False)
    show("connect", attempt(sock.connect, address))
    return sock


def error(sock):
    return name(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))


listening = server()
sock = start(listening.getsockname())
settle()
show("connected polls", polled(sock), error(sock))
show("told", attempt(sock.connect, listening.getsockname()))
show("told twice", attempt(sock.connect, listening.getsockname()))
listening.accept()

sock = start((LOCAL, 1))
settle()
show("refused polls", polled(sock), error(sock), error(sock), polled(sock))
show("tried again", attempt(sock.connect, (LOCAL, 1)))
show("tried with success", attempt(sock.connect, listening.getsockname()))
settle()
show("polls", polled(sock), error(sock))
listening.accept()[0].send(b"alive")
settle()
show("reads", attempt(sock.recv, 10))

sock = start((LOCAL, 1))
settle()
show("refusal told by connect", attempt(sock.connect, (LOCAL, 1)))

epoll = select.epoll()
everything = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET


def edges(wait=0.3):
    return [words(bits) for _, bits in epoll.poll(wait)]


sock = start(listening.getsockname())
epoll.register(sock, everything)
show("edge of connect", edges())
settle()
edges(0)  # the carrier may show that edge twice
show("no more edges", edges(0.05))
peer = listening.accept()[0]
peer.send(b"x")
show("edge of data", edges())
peer.send(b"y")
settle()
show("edge of more data", edges())
peer.close()
settle()
show("edge of close", edges())
epoll.unregister(sock)

listening.setblocking(False)
epoll.register(listening, select.EPOLLIN | select.EPOLLET)
show("listener", edges(0))
first = client(listening)
show("edge of a connection", edges())
second = client(listening)
show("edge of the next", edges())
show("no more edges", edges(0.05))
show("accepted", listening.accept()[0].fileno() > 0, listening.accept()[0].fileno() > 0, attempt(listening.accept))

listening.setblocking(True)
for how in (0, select.EPOLLET, select.EPOLLONESHOT):  # registered with the file that had failed
    sock = start((LOCAL, 1))
    both = select.epoll()
    both.register(sock, select.EPOLLIN | select.EPOLLOUT | how)
    show("refusal seen by epoll", [words(bits) for _, bits in both.poll(1)], error(sock))
    if how == select.EPOLLONESHOT:
        both.modify(sock, select.EPOLLIN | select.EPOLLOUT | how)
    attempt(sock.connect, listening.getsockname())
    attempt(sock.connect, listening.getsockname())
    peer = listening.accept()[0]
    settle()
    show("success", [fd == sock.fileno() and words(bits & ~select.EPOLLHUP) for fd, bits in both.poll(1)])
    if how == select.EPOLLONESHOT:
        both.modify(sock, select.EPOLLIN | how)
    peer.send(b"x")
    settle()
    show("data", [fd == sock.fileno() and bits & select.EPOLLIN for fd, bits in both.poll(1)])
    both.unregister(sock)
