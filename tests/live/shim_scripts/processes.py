"""fork, exec, dup, descriptor passing, threads, signals at any moment, killed peers."""

import contextlib
import os
import signal
import socket
import sys
import threading
import time

from prelude import FAMILY, LOCAL, attempt, client, server, show, udp

listening = server(64)
home = listening.getsockname()


def child(function):
    pid = os.fork()
    if not pid:
        try:
            function()
            os._exit(0)
        except Exception as error:
            print("child", error, flush=True)
            os._exit(1)
    return pid


def status(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def serve_five():
    for _ in range(5):
        sock, _ = listening.accept()
        sock.sendall(sock.recv(100) + b"!")
        sock.close()


children = [child(serve_five) for _ in range(4)]
right = 0
for i in range(20):
    with client(listening) as sock:
        sock.sendall(b"%d" % i)
        right += sock.recv(100) == b"%d!" % i
show("pre-forked", right, [status(each) for each in children])

sock = client(listening)
peer, _ = listening.accept()
pid = child(lambda: (peer.sendall(b"from the child"), peer.close()))
show("child", sock.recv(100), status(pid))
peer.sendall(b"from the parent")
show("parent", sock.recv(100))
peer.close()
show("both closed", sock.recv(100))


def echo(sock):
    while data := sock.recv(65536):
        sock.sendall(data)
    sock.close()


def echo_all():
    while True:
        threading.Thread(target=echo, args=(listening.accept()[0],), daemon=True).start()


threading.Thread(target=echo_all, daemon=True).start()
results = []


def exchange():
    with client(listening) as sock:
        data = os.urandom(200_000)
        writer = threading.Thread(target=sock.sendall, args=(data,))
        writer.start()
        got = b""
        while len(got) < len(data):
            got += sock.recv(65536)
        results.append(got == data)
        writer.join()


threads = [threading.Thread(target=exchange) for _ in range(10)]
for each in threads:
    each.start()
for each in threads:
    each.join()
show("threads", results.count(True))

sock = client(listening)
copy = sock.dup()
sock.close()
copy.sendall(b"copy")
show("dup", copy.recv(10), copy.getpeername() == home)
left, right = socket.socketpair()
socket.send_fds(left, [b"f"], [copy.fileno()])
passed = socket.socket(fileno=socket.recv_fds(right, 10, 1)[1][0])
copy.close()
passed.sendall(b"passed")
show("passed", passed.recv(10), passed.getpeername() == home, passed.family == FAMILY)
os.set_inheritable(passed.fileno(), True)
after_exec = """
import socket, sys
sock = socket.socket(fileno=int(sys.argv[1]))
sock.sendall(b"exec")
print(sock.recv(9), sock.getpeername()[0])
"""
pid = child(lambda: os.execv(sys.executable, [sys.executable, "-c", after_exec, str(passed.fileno())]))
show("exec", status(pid))
passed.close()


class Alarm(Exception):
    pass


def ring(*_):
    raise Alarm


def interrupted(function, *args):
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    begun = time.monotonic()
    try:
        function(*args)
    except Alarm:
        return "interrupted", time.monotonic() - begun < 2
    return "returned"


signal.signal(signal.SIGALRM, ring)
quiet = server()
dgram = udp()
dgram.bind((LOCAL, 0))
show("accept", interrupted(quiet.accept))
show("recvfrom", interrupted(dgram.recvfrom, 10))
show("recvmsg", interrupted(dgram.recvmsg, 10))
show("recv", interrupted(dgram.recv, 10))

signal.signal(signal.SIGALRM, lambda *_: None)
signal.siginterrupt(signal.SIGALRM, False)
signal.setitimer(signal.ITIMER_REAL, 0.1, 0.01)
threading.Timer(0.5, lambda: [client(quiet) for _ in range(3)]).start()
show("accepted under signals", [quiet.accept()[0].fileno() > 0 for _ in range(3)])
right = 0
for i in range(200):
    with client(listening) as sock:
        sock.sendall(b"%d" % i)
        right += sock.recv(10) == b"%d" % i
show("connections under signals", right)
sender = udp()
got = []
dgram.settimeout(2)
while len(got) < 200:
    sender.sendto(b"%d" % len(got), dgram.getsockname())
    with contextlib.suppress(TimeoutError):  # one in a hundred thousand is lost, as datagrams may be: docs/shim.md
        got.append(int(dgram.recvfrom(10)[0]))
show("datagrams under signals", got == list(range(200)))
signal.setitimer(signal.ITIMER_REAL, 0)

ready, tell = os.pipe()


def hang(delay):
    sock = client(quiet)
    time.sleep(delay)
    os.write(tell, b"x")
    time.sleep(100)
    sock.close()


pid = child(lambda: hang(0))
os.read(ready, 1)
peer, _ = quiet.accept()
os.kill(pid, signal.SIGKILL)
status(pid)
show("peer was killed", attempt(peer.recv, 1))
pid = child(lambda: hang(0.3))
peer, _ = quiet.accept()
peer.send(b"never read")
os.read(ready, 1)
os.kill(pid, signal.SIGKILL)
status(pid)
time.sleep(0.1)
show("peer was killed with unread data", attempt(peer.recv, 1))
