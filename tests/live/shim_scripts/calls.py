"""Options and bad arguments: what each call answers, byte for byte."""

import ctypes
import errno
import fcntl
import socket
import struct

from prelude import FAMILY, LOCAL, attempt, client, server, settle, show, tcp, udp

SOL, TCP, IP, IPV6 = socket.SOL_SOCKET, socket.IPPROTO_TCP, socket.IPPROTO_IP, socket.IPPROTO_IPV6
SETTABLE = {
    (TCP, 1): (1, 0, 5),
    (TCP, 2): (1000, 10, 0, 40000),
    (TCP, 3): (1, 0),
    (TCP, 4): (10, 0, 32768),
    (TCP, 5): (1, 0),
    (TCP, 6): (5, 0, 128),
    (TCP, 7): (3, 0, 128),
    (TCP, 8): (5, -1),
    (TCP, 9): (3, 0),
    (TCP, 12): (0, 1),
    (TCP, 18): (1000, -1, 0),
    (TCP, 25): (10,),
    (SOL, 2): (1,),
    (SOL, 3): (1,),
    (SOL, 4): (1,),
    (SOL, 9): (1, 0),
    (SOL, 12): (3,),
    (SOL, 30): (1,),
    (SOL, 999): (1,),
    (TCP, 999): (1,),
    (IP, 1): (16, 255),
    (IP, 2): (5, 0, 256, -1),
    (IP, 10): (2, 6, -1),
    (IP, 999): (1,),
    (77, 1): (1,),
}
if FAMILY == socket.AF_INET6:
    SETTABLE |= {(IPV6, 16): (5, 256, -1), (IPV6, 26): (1, 0), (IPV6, 67): (1, 256), (IPV6, 999): (1,)}
    del SETTABLE[77, 1]  # Linux itself is not of one mind

stream = tcp()
for (level, option), values in SETTABLE.items():
    for value in values:
        result = attempt(stream.setsockopt, level, option, value)
        show(f"set {level} {option} {value}", result, attempt(stream.getsockopt, level, option))
    if level in (SOL, TCP):
        show(f"short {level} {option}", attempt(stream.setsockopt, level, option, b"\1\0"))
for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
    show("time", attempt(stream.setsockopt, SOL, option, struct.pack("qq", 1, 500_000)))
    show("time", stream.getsockopt(SOL, option, 16).hex(), attempt(stream.setsockopt, SOL, option, b"1234"))
    show("time", attempt(stream.setsockopt, SOL, option, struct.pack("qq", 1, 1_000_000)))
show("linger", attempt(stream.setsockopt, SOL, socket.SO_LINGER, struct.pack("ii", 1, 5)))
show("linger", stream.getsockopt(SOL, socket.SO_LINGER, 8).hex(), attempt(stream.setsockopt, SOL, 13, b"1234"))
show("congestion", attempt(stream.setsockopt, TCP, socket.TCP_CONGESTION, b"reno"))
show("congestion", stream.getsockopt(TCP, socket.TCP_CONGESTION, 16))
show("congestion", attempt(stream.setsockopt, TCP, socket.TCP_CONGESTION, b"none such"))
show("device", attempt(stream.setsockopt, SOL, 25, b"lo\0"), attempt(stream.setsockopt, SOL, 25, b"nosuch\0"))
show("no kernel TLS", attempt(tcp().setsockopt, TCP, 31, b"none"))

listening = server()
listening.setsockopt(TCP, socket.TCP_NODELAY, 1)
listening.setsockopt(SOL, socket.SO_KEEPALIVE, 1)
ours = client(listening)
theirs, _ = listening.accept()
for sock in (ours, theirs):
    show("inherited", sock.getsockopt(TCP, socket.TCP_NODELAY), sock.getsockopt(SOL, socket.SO_KEEPALIVE))
info = ours.getsockopt(TCP, socket.TCP_INFO, 300)
show("info", info[0], info[5] & 7, len(info) >= 104, len(ours.getsockopt(TCP, socket.TCP_INFO, 8)))
theirs.send(b"12345")
settle()
show("queued", struct.unpack("i", fcntl.ioctl(ours, 0x541B, bytes(4))))
show("unsent", struct.unpack("i", fcntl.ioctl(ours, 0x5411, bytes(4))))
show("interface", fcntl.ioctl(ours, 0x8933, struct.pack("16s24x", b"lo"))[16:20].hex())

libc = ctypes.CDLL(None, use_errno=True)
WILD = ctypes.c_void_p(1)
SIZE = 16 if FAMILY == socket.AF_INET else 28


def call(function, *args):
    result = function(*args)
    return result if result >= 0 else errno.errorcode[ctypes.get_errno()]


fd = tcp().detach()
zeroes = bytes(200)
inet = b"\2\0" if FAMILY == socket.AF_INET else b"\x0a\0"
show("bind to a wild pointer", call(libc.bind, fd, WILD, SIZE))
show("bind short", call(libc.bind, fd, WILD, 0), call(libc.bind, fd, inet, 2), call(libc.bind, fd, zeroes, 200))
show("bind another family", call(libc.bind, fd, b"\1\0" + zeroes, SIZE))
show("connect to a wild pointer", call(libc.connect, fd, WILD, SIZE))
show(
    "connect short", call(libc.connect, fd, inet, 2), call(libc.connect, fd, inet, 1), call(libc.connect, fd, inet, -1)
)
show("connect another family", call(libc.connect, fd, b"\1\0" + zeroes, SIZE))
show("names", call(libc.getsockname, fd, WILD, WILD), call(libc.getpeername, ours.fileno(), WILD, WILD))
show("options", call(libc.getsockopt, fd, SOL, 3, WILD, WILD), call(libc.setsockopt, fd, SOL, 2, WILD, 4))
negative, room = ctypes.c_int(-1), ctypes.c_int(5)
space = ctypes.create_string_buffer(b"\xee" * 40)
show("negative length", call(libc.getsockname, fd, space, ctypes.byref(negative)))
show("negative length", call(libc.getsockopt, fd, SOL, 3, space, ctypes.byref(negative)))
show("negative length", call(libc.setsockopt, fd, SOL, 2, WILD, -1))
show("little room", call(libc.getsockname, fd, space, ctypes.byref(room)), room.value, space.raw[5] == 0xEE)
waiting = client(listening)
show("accept to a wild pointer", call(libc.accept, listening.fileno(), WILD, WILD))
listening.setblocking(False)
show("which costs the connection", attempt(listening.accept))
show("accept4 flags", call(libc.accept4, listening.fileno(), None, None, 1))
dgram = udp()
target = (
    inet + b"\0\x09" + (socket.inet_pton(FAMILY, LOCAL) if SIZE == 16 else bytes(4) + socket.inet_pton(FAMILY, LOCAL))
)
target += zeroes
show("sendto wild data", call(libc.sendto, dgram.fileno(), WILD, 10, 0, target, SIZE))
show("sendto a wild pointer", call(libc.sendto, dgram.fileno(), b"x", 1, 0, WILD, SIZE))
show("wild messages", call(libc.sendmsg, dgram.fileno(), WILD, 0), call(libc.recvmsg, dgram.fileno(), WILD, 0x40))
show("no descriptor", call(libc.bind, 99, target, SIZE), call(libc.accept, -1, None, None))
show("no socket", call(libc.getsockname, 0, space, ctypes.byref(room)))
for kind in ((FAMILY, 1, 0), (FAMILY, 1, 17), (FAMILY, 2, 6), (FAMILY, 7, 0), (FAMILY, 3, 255), (1, 1, 0), (99, 1, 0)):
    result = attempt(socket.socket, *kind)
    show("socket", kind[1:], result if isinstance(result, str) else "made")
show("shutdown how", attempt(ours.shutdown, 3), attempt(ours.shutdown, -1))

second = tcp()
show("in use", attempt(second.bind, listening.getsockname()))
second.setsockopt(SOL, socket.SO_REUSEADDR, 1)
show("in use by a listener", attempt(second.bind, listening.getsockname()))
show("not ours", attempt(second.bind, ("10.99.9.9" if FAMILY == socket.AF_INET else "fd77::9", 0)))
port = listening.getsockname()[1]
for sock in (listening, ours, theirs, waiting):
    sock.close()
third = server(port=port)
show("the port is free at once", third.getsockname()[1] == port)

if FAMILY == socket.AF_INET6:
    both = tcp()
    both.bind(("::", 0))
    both.listen()
    port = both.getsockname()[1]
    old = socket.create_connection(("127.0.0.1", port))
    mapped, address = both.accept()
    show("mapped", address[0], mapped.getsockname()[0])
    sock = tcp()
    show("mapped", attempt(sock.connect, ("::ffff:127.0.0.1", port)), sock.getsockname()[0], sock.getpeername()[0])
    only = tcp()
    only.setsockopt(IPV6, socket.IPV6_V6ONLY, 1)
    show("only IPv6", attempt(only.connect, ("::ffff:127.0.0.1", port)))
    only.bind(("::", 0))
    only.listen()
    show("only IPv6", attempt(socket.create_connection, ("127.0.0.1", only.getsockname()[1])))
    show("too late", attempt(only.setsockopt, IPV6, socket.IPV6_V6ONLY, 0))
