"""UDP: addresses, sizes, flags, errors, ancillary data, native and notified calls mixed."""

import os
import socket
import struct
import threading
import time

from prelude import FAMILY, LOCAL, attempt, later, name, polled, settle, show, udp, within

one, two = udp(), udp()
one.bind((LOCAL, 0))
home = one.getsockname()
show("polls", polled(one), attempt(one.getpeername))
show("nowhere", attempt(two.sendmsg, [b"x"]))
for option in (socket.SO_TYPE, socket.SO_PROTOCOL):
    show("option", one.getsockopt(socket.SOL_SOCKET, option))
show("sendto", two.sendto(b"first", home))
data, away = one.recvfrom(100)
show("from", data, away[:2] == (LOCAL, two.getsockname()[1]))
show("answer", one.sendto(b"second", away), two.recv(100), polled(two))

for word in (b"aaa", b"", b"bbbb", b"ccccc"):
    one.sendto(word, away)
settle()
show("native, notified", polled(two), two.recv(10), two.recvfrom(10)[0])
data, source = later(two.recv(2), two.recvfrom(10))
show("native, notified", data, source == home)
one.sendto(b"x" * 50000, away)
show("large", len(two.recvfrom(60000)[0]))
show("too large", attempt(one.sendto, b"x" * 66000, away))
show("port 0", attempt(one.sendto, b"x", (LOCAL, 0)))

one.sendto(b"peek at me", away)
settle()
show("peeked", two.recvfrom(4, socket.MSG_PEEK)[0])
data, _, flags, source = two.recvmsg(4)
show("cut", data, bool(flags & socket.MSG_TRUNC), source == home)
buffer = bytearray(4)
one.sendto(b"whole length", away)
settle()
show("true length, notified", two.recvfrom_into(buffer, 4, socket.MSG_TRUNC)[0])
one.sendto(b"whole length", away)
settle()
show("true length, native", two.recv_into(buffer, 4, socket.MSG_TRUNC))

show("nothing", attempt(two.recvfrom, 9, socket.MSG_DONTWAIT), attempt(two.recv, 9, socket.MSG_DONTWAIT))
two.setblocking(False)
show("nothing", attempt(two.recvfrom, 9), attempt(two.recv, 9))
two.setblocking(True)
two.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("qq", 0, 100_000))
with within(0.08, 0.6):
    show("time-out, notified", attempt(two.recvfrom, 9))
with within(0.08, 0.6):
    show("time-out, native", attempt(two.recv, 9))
two.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bytes(16))
threading.Timer(0.2, one.sendto, (b"late", away)).start()
data, source = two.recvfrom(10)
show("waited for", data, source == home)

two.connect(home)
show("connected", two.getpeername() == home)
os.write(two.fileno(), b"written")
show("write, read", one.recv(10), one.sendto(b"back", away), os.read(two.fileno(), 10))
three = udp()
three.sendto(b"stranger", away)
settle()
show("strangers are not heard", polled(two))
show("scattered", two.sendmsg([b"a", b"bc"]), one.recv(10))
show("connected sendto", attempt(two.sendto, b"q", home), one.recv(10))

three.connect((LOCAL, 9))
show("to a closed port", three.send(b"x"))
time.sleep(0.1)
show("told by SO_ERROR", name(three.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)))
for receive in (three.recvfrom, three.recvmsg):
    three.send(b"x")
    time.sleep(0.1)
    show("told by a receive", attempt(receive, 10))
show("told once", attempt(three.recvfrom, 10, socket.MSG_DONTWAIT))

four = udp()
show("in use", attempt(four.bind, home))
show("not ours", attempt(four.bind, ("10.99.9.9" if FAMILY == socket.AF_INET else "fd77::9", 0)))
show("no stream", attempt(four.listen, 1), attempt(four.accept), attempt(four.shutdown, socket.SHUT_WR))
show("bind twice", attempt(four.bind, (LOCAL, 0)), attempt(four.bind, (LOCAL, 0)))

level, options = (socket.IPPROTO_IP, (8, 12, 13)) if FAMILY == socket.AF_INET else (socket.IPPROTO_IPV6, (49, 51, 66))
for option in options:
    one.setsockopt(level, option, 1)
two.send(b"info")
data, ancillary, _, _ = one.recvmsg(10, 200)
show("ancillary", data, sorted((level, kind, len(payload)) for level, kind, payload in ancillary))
one.setsockopt(socket.SOL_SOCKET, 29, 1)
two.send(b"time")
stamps = [payload for level, kind, payload in one.recvmsg(10, 200)[1] if (level, kind) == (socket.SOL_SOCKET, 29)]
show("time stamp", [abs(struct.unpack("qq", each)[0] - time.time()) < 2 for each in stamps])
two.send(b"no room")
data, _, flags, _ = one.recvmsg(10, 8)
show("ancillary cut", data, bool(flags & socket.MSG_CTRUNC))
two.shutdown(socket.SHUT_WR)
show("shut", attempt(two.send, b"x"), one.sendto(b"still", away), two.recv(10))
