"""The carrier alone: what an AF_UNIX pair can be made to look like, and the pump between it and a connection."""

import os
import select
import socket

import pytest

from nuse.shim import carrier
from nuse.shim.pump import READ, Pump
from stack.errors import StackError
from stack.tcp.options import TcpOptions

IN, OUT, HUP, ERR, RDHUP = select.POLLIN, select.POLLOUT, select.POLLHUP, select.POLLERR, select.POLLRDHUP


def polled(sock):
    poll = select.poll()
    poll.register(sock, IN | OUT | RDHUP)
    found = poll.poll(0)
    return found[0][1] if found else 0


@pytest.fixture
def pair():
    ours, theirs = carrier.make_pair(socket.SOCK_STREAM, nonblock=True)
    yield ours, theirs
    ours.close()
    theirs.close()


def test_a_blocked_carrier_polls_nothing_and_an_unblocked_one_gives_an_edge(pair):
    ours, theirs = pair
    epoll = select.epoll()
    carrier.block(theirs)
    epoll.register(theirs, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
    assert polled(theirs) == 0
    assert epoll.poll(0) == []
    with pytest.raises(BlockingIOError):
        theirs.send(b"x")
    carrier.unblock(ours, theirs)
    assert [bits for _, bits in epoll.poll(0)] == [select.EPOLLOUT]
    assert carrier.unread(ours) == 0
    assert theirs.send(bytes(500_000)) == 500_000
    epoll.close()


def test_unblocking_without_a_copy_still_makes_it_writable(pair):
    ours, theirs = pair
    carrier.block(theirs)
    carrier.unblock(ours, None)
    assert polled(theirs) == OUT


def test_a_spoilt_carrier_resets_after_what_was_delivered(pair):
    ours, theirs = pair
    ours.send(b"delivered")
    carrier.spoil(theirs)
    ours.close()
    assert polled(theirs) == IN | OUT | ERR | HUP | RDHUP
    assert theirs.recv(100) == b"delivered"
    with pytest.raises(ConnectionResetError):
        theirs.recv(100)
    with pytest.raises(BrokenPipeError):
        theirs.send(b"x")


def test_a_datagram_carrier_keeps_boundaries_and_tells_of_its_end():
    ours, theirs = carrier.make_pair(socket.SOCK_SEQPACKET, nonblock=True)
    for size in (3, 0, 1000):
        ours.send(bytes(size))
    assert carrier.untaken(ours) > 0
    assert [len(theirs.recv(2000)) for _ in range(3)] == [3, 0, 1000]
    assert carrier.untaken(ours) == 0
    theirs.close()
    assert polled(ours) & HUP
    ours.close()


class FakePoller:
    def __init__(self):
        self.mask, self.soon_calls = None, []

    def watch(self, fd, mask, target):
        self.mask = mask

    def change(self, fd, mask):
        self.mask = mask

    def forget(self, fd):
        self.mask = None

    def soon(self, callback):
        self.soon_calls.append(callback)


class FakeConn:
    """The verbs of a TcpConn that the pump uses, over plain buffers."""

    def __init__(self):
        self.sent, self.send_space = [], 1 << 20
        self.incoming, self.peer_closed, self.dead = bytearray(), False, False
        self.options = TcpOptions()
        self.urgent = None

    @property
    def readable(self):
        return len(self.incoming)

    def views(self, limit):
        return [memoryview(bytes(self.incoming[:limit]))]

    def consume(self, count):
        del self.incoming[:count]

    def send(self, data):
        if self.dead:
            raise StackError(32, "dead")
        self.sent.append(data)
        self.send_space -= len(data)


class Recorder:
    def __init__(self):
        self.told = []

    def program_half_closed(self):
        self.told.append("half closed")

    def program_closed(self, unread):
        self.told.append("closed, unread" if unread else "closed")

    def all_delivered(self):
        self.told.append("delivered")


@pytest.fixture
def rig(pair):
    ours, theirs = pair
    conn, poller, ends = FakeConn(), FakePoller(), Recorder()
    pump = Pump(ours, conn, poller, ends, lambda: None)
    pump.start()
    return pump, conn, poller, ends, theirs


def test_what_the_program_writes_becomes_one_chunk(rig):
    pump, conn, _poller, _ends, theirs = rig
    theirs.send(b"a" * 1000)
    theirs.send(b"b" * 1000)
    pump.on_ready(IN)
    assert conn.sent == [b"a" * 1000 + b"b" * 1000]


def test_a_full_send_queue_leaves_the_carrier_unread_until_there_is_room(rig):
    pump, conn, poller, _ends, theirs = rig
    conn.send_space = READ
    theirs.send(bytes(READ))
    pump.on_ready(IN)
    theirs.send(b"waits")
    pump.on_ready(IN)
    assert not poller.mask & IN
    assert sum(map(len, conn.sent)) == READ
    conn.send_space = 1000
    pump.from_program()
    assert conn.sent[-1] == b"waits"
    assert poller.mask & IN


def test_a_full_carrier_leaves_data_in_the_connection_and_waits_for_room(rig):
    pump, conn, poller, _ends, theirs = rig
    conn.incoming += os.urandom(8 << 20)
    whole = bytes(conn.incoming)
    pump.to_program()
    assert conn.readable
    assert poller.mask & OUT
    got = b""
    while len(got) < len(whole):
        got += theirs.recv(1 << 20)
        if not conn.readable and len(got) < len(whole):
            continue
        pump.on_ready(OUT)
    assert got == whole
    assert not poller.mask & OUT


def test_the_peers_fin_is_shown_after_its_data(rig):
    pump, conn, _poller, _ends, theirs = rig
    conn.incoming += b"last"
    conn.peer_closed = True
    pump.to_program()
    assert (theirs.recv(10), theirs.recv(10)) == (b"last", b"")
    assert theirs.send(b"other half") == 10


def test_half_close_is_told_from_close(rig):
    pump, conn, _poller, ends, theirs = rig
    theirs.send(b"request")
    theirs.shutdown(socket.SHUT_WR)
    pump.on_ready(IN)
    pump.on_ready(IN)
    assert (conn.sent, ends.told) == ([b"request"], ["half closed"])
    theirs.close()
    pump.on_ready(HUP)
    assert ends.told == ["half closed", "closed"]


def test_close_comes_after_everything_that_was_written(rig):
    pump, conn, poller, ends, theirs = rig
    conn.send_space = 1
    theirs.send(b"first")
    theirs.close()
    pump.on_ready(IN | HUP)
    conn.send_space = 0
    pump.from_program()
    conn.send_space = 10
    while not ends.told:
        pump.from_program()
        for callback in poller.soon_calls:
            callback()
    assert (conn.sent, ends.told) == ([b"first"], ["closed"])


def test_close_with_unread_data_is_a_reset(rig):
    pump, conn, _poller, ends, theirs = rig
    conn.incoming += b"never read"
    pump.to_program()
    theirs.close()
    pump.on_ready(IN | HUP | ERR)
    assert ends.told == ["closed, unread"]


def test_after_shut_rd_data_is_thrown_away(rig):
    pump, conn, _poller, _ends, theirs = rig
    pump.discard = True
    theirs.shutdown(socket.SHUT_RD)
    conn.incoming += b"unwanted"
    pump.to_program()
    assert conn.readable == 0


def test_a_dead_connection_is_reported_when_all_is_delivered(rig):
    pump, conn, _poller, ends, theirs = rig
    conn.incoming += bytes(8 << 20)
    pump.fail()
    assert ends.told == []
    while not ends.told:
        theirs.recv(1 << 20)
        pump.on_ready(OUT)
    assert conn.readable == 0
