"""Children that die with everything open, at any moment: `crashes.py COUNT SEED HOLE` runs COUNT, a few at a time.

Each does one thing at random with sockets and is killed by its alarm meanwhile, or by itself at the end. HOLE is an
address that nobody answers at. What a child leaves behind (its own children) dies by an alarm, too.
"""

import array
import contextlib
import os
import random
import signal
import socket
import sys
import threading

AT_ONCE = 8
MOMENTS = (-3.3, -0.9)  # of an alarm, which ends the process where it is: powers of ten, in seconds
LOCAL = "127.0.0.1"
ENDS = (signal.SIGKILL, signal.SIGABRT, signal.SIGTERM, None)
COUNT, SEED, HOLE = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
listening = socket.create_server((LOCAL, 0), backlog=512)  # nobody but dying children accepts here
PORT = listening.getsockname()[1]


def connected():
    return socket.create_connection((LOCAL, PORT))


def connect_blocked():
    socket.socket().connect((HOLE, 9))


def connect_later():
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex((random.choice((HOLE, LOCAL)), random.choice((PORT, 1))))
    return sock


def accept_blocked():
    while True:
        listening.accept()


def accept_one():
    ours = connected()
    theirs, _ = listening.accept()  # perhaps not the other end of `ours`
    ours.send(bytes(100_000))
    theirs.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        theirs.send(bytes(100_000))
    theirs.recv(1)
    return ours, theirs


def queued():
    with socket.create_server((LOCAL, 0)) as own:
        return own.dup(), [socket.create_connection(own.getsockname()) for _ in range(4)]


def send_blocked():
    connected().sendall(bytes(20_000_000))


def shut_down():
    sock = connected()
    sock.shutdown(random.choice((socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR)))
    return sock


def receive_blocked():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((LOCAL, 0))
    sock.sendto(b"x" * 1000, sock.getsockname())
    sock.recvfrom(10)
    sock.recvfrom(10)


def receive_stream():
    connected().recvmsg(10)


def in_flight():
    left, right = socket.socketpair()
    left.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [connected().fileno()]))])
    return left, right


def opened():
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    return [socket.socket(random.choice((socket.AF_INET, socket.AF_INET6)), random.choice(kinds)) for _ in range(20)]


def renewed():
    sock = connect_later()
    for _ in range(3):
        sock.connect_ex((LOCAL, 1))
    return sock


def forked():
    kept = connected(), socket.create_server((LOCAL, 0))
    if os.fork() == 0:
        arm()
        random.choice(PLAIN)()
    return kept


def threads():
    for _ in range(5):
        threading.Thread(target=attempt, args=(random.choice(PLAIN),)).start()
    attempt(random.choice(PLAIN))


def executed():
    sock = connected()
    sock.set_inheritable(True)
    arm()
    os.execv("/bin/sh", ["sh", "-c", f"echo x >&{sock.fileno()}; kill -9 $$"])


PLAIN = [
    *(connect_blocked, connect_later, accept_blocked, accept_one, queued, send_blocked, shut_down, receive_blocked),
    *(receive_stream, in_flight, opened, renewed),
]
ALL = [*PLAIN, forked, threads, executed]


def attempt(what):
    with contextlib.suppress(OSError):
        return what()


def arm():
    signal.setitimer(signal.ITIMER_REAL, 10 ** random.uniform(*MOMENTS))


def child(number):
    random.seed(SEED * 1_000_000 + number)
    arm()
    kept = attempt(random.choice(ALL))
    end = random.choice(ENDS)
    if end is None:
        os._exit(1)
    os.kill(os.getpid(), end)
    return kept


running = set()
for number in range(COUNT):
    pid = os.fork()
    if pid == 0:
        child(number)
        os._exit(1)
    running.add(pid)
    if len(running) >= AT_ONCE:
        running.discard(os.wait()[0])
while running:
    running.discard(os.wait()[0])
print("survived", flush=True)
signal.pause()  # it is still the same session: what is left must not wait for its end
