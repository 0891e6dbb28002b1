"""control.sock: requests and answers, descriptors that travel, and clients that do not behave."""

import asyncio
import os
import socket
import stat

import pytest

from nuse.control import ControlClient, ControlServer
from nuse.refusal import Refused


class Target:
    """A stack that notes what is asked of it."""

    def __init__(self):
        self.attached = []
        self.stopped = asyncio.Event()
        self.refuse = ""

    def info(self):
        return {"name": "test", "pid": 1}

    def attach(self, listener_fd, pid, policy):
        if self.refuse:
            raise OSError(self.refuse)
        self.attached.append((os.read(listener_fd, 10), pid, policy.get("mptcp")))
        os.close(listener_fd)

    def request_stop(self):
        self.stopped.set()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "control.sock"


def served(path, talk, target=None):
    """Run `talk(client)` in a thread against a server; returns its result."""

    async def main():
        server = ControlServer(target or Target(), asyncio.get_running_loop(), path)
        try:
            return await asyncio.to_thread(talk)
        finally:
            server.close()

    return asyncio.run(main())


def ask(path, request, fds=None):
    client = ControlClient(path)
    try:
        return client.ask(request, fds)
    finally:
        client.close()


def test_info_is_answered_and_the_socket_is_for_its_owner(path):
    def talk():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        return ask(path, {"do": "info"})

    assert served(path, talk) == {"ok": True, "name": "test", "pid": 1}
    assert not path.exists()


def test_a_listener_travels_with_the_request(path):
    target = Target()

    async def main():
        server = ControlServer(target, asyncio.get_running_loop(), path)
        read, write = os.pipe()
        os.write(write, b"listener")
        await asyncio.to_thread(ask, path, {"do": "attach", "pid": 42, "mptcp": "off"}, [read])
        os.close(read)
        os.close(write)
        server.close()

    asyncio.run(main())
    assert target.attached == [(b"listener", 42, "off")]


def test_a_refusal_comes_back_in_the_stacks_words(path):
    async def main():
        target = Target()
        target.refuse = "not today"
        server = ControlServer(target, asyncio.get_running_loop(), path)
        read, write = os.pipe()
        try:
            with pytest.raises(Refused, match="not today"):
                await asyncio.to_thread(ask, path, {"do": "attach", "pid": 42}, [read])
        finally:
            server.close()
            os.close(write)
            os.close(read)

    asyncio.run(main())


@pytest.mark.parametrize("request_", [{"do": "dance"}, {"do": "attach", "pid": 1}, {"do": "attach"}, {}, []])
def test_a_bad_request_is_answered_and_harms_nothing(path, request_):
    def talk():
        with pytest.raises(Refused):
            ask(path, request_)
        return ask(path, {"do": "info"})

    assert served(path, talk)["ok"]


def test_bytes_that_are_no_json_are_answered(path):
    def talk():
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(str(path))
            sock.send(b"\xff{{{")
            return sock.recv(1000)

    assert b'"ok": false' in served(path, talk)


def test_descriptors_of_a_bad_request_are_closed(path):
    def talk():
        before = len(os.listdir("/proc/self/fd"))
        null = os.open(os.devnull, os.O_RDONLY)
        for _ in range(20):
            with pytest.raises(Refused):
                ask(path, {"do": "dance"}, [null, null])
        os.close(null)
        return len(os.listdir("/proc/self/fd")) - before

    assert served(path, talk) <= 1  # the server may not have seen the last client leave


def test_stop_stops(path):
    async def main():
        target = Target()
        server = ControlServer(target, asyncio.get_running_loop(), path)
        await asyncio.to_thread(ask, path, {"do": "stop"})
        await asyncio.wait_for(target.stopped.wait(), 5)
        server.close()

    asyncio.run(main())


def test_nobody_there_is_one_line(path):
    with pytest.raises(Refused, match="cannot reach the stack"):
        ControlClient(path)


def test_a_server_that_dies_is_one_line(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(str(path))
        sock.listen()
        client = ControlClient(path)
        sock.accept()[0].close()
        with pytest.raises(Refused, match="the stack is gone"):
            client.ask({"do": "info"})
        client.close()
