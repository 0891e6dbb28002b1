"""Datagrams' finer points: control messages both ways, error queues, groups, UDP segmentation, raw sockets."""

import socket
import struct

from prelude import FAMILY, LOCAL, attempt, later, name, settle, show, udp

SIX = socket.AF_INET6 == FAMILY
LEVEL = socket.IPPROTO_IPV6 if SIX else socket.IPPROTO_IP
RECVERR, MTU_DISCOVER, MTU = (25, 23, 24) if SIX else (11, 10, 14)
ERRQUEUE = 0x2000


def told(sock, size=4000, room=500, flags=0):
    try:
        data, ancillary, bits, source = sock.recvmsg(size, room, flags)
    except OSError as error:
        return name(error.errno)
    return data[:40], len(data), [(level, kind, payload.hex()) for level, kind, payload in ancillary], bits, source[:1]


one, two = udp(), udp()
one.bind((LOCAL, 0))
two.bind((LOCAL, 0))
home = one.getsockname()
two.connect(home)

# told with a datagram
for option in (49, 51, 66, 74) if SIX else (8, 12, 13, 20):
    one.setsockopt(LEVEL, option, 1)
two.setsockopt(LEVEL, *((16, 33) if SIX else (2, 33)))
two.setsockopt(LEVEL, *((67, 0x28) if SIX else (1, 0x28)))
two.send(b"told")
data, ancillary, bits, _ = one.recvmsg(100, 500)
port = struct.pack("!H", home[1])
show("told", data, [(level, kind, payload.replace(port, b"PP").hex()) for level, kind, payload in ancillary], bits)
for room in (16, 20, 36, 40, 60):
    two.send(b"less room")
    data, ancillary, bits, _ = one.recvmsg(100, room)
    show("room", room, [(level, kind, len(payload)) for level, kind, payload in ancillary], bits)

# said with a datagram
ttl, tos, pktinfo = (52, 67, 50) if SIX else (2, 1, 8)
address = socket.inet_pton(FAMILY, LOCAL)
info = address + struct.pack("i", 1) if SIX else struct.pack("i", 1) + address + bytes(4)
cases = {
    "ttl": (LEVEL, ttl, struct.pack("i", 7)),
    "tos": (LEVEL, tos, struct.pack("i", 0x10)),
    "pktinfo": (LEVEL, pktinfo, info),
    "ttl range": (LEVEL, ttl, struct.pack("i", 300)),
    "ttl short": (LEVEL, ttl, b"\7\0"),
    "pktinfo short": (LEVEL, pktinfo, info[:8]),
    "unknown": (LEVEL, 99, struct.pack("i", 1)),
    "unknown socket level": (socket.SOL_SOCKET, 99, struct.pack("i", 1)),
    "other level": (77, 1, struct.pack("i", 1)),
    "no such interface": (LEVEL, pktinfo, bytes(16) + struct.pack("i", 99) if SIX else struct.pack("i", 99) + bytes(8)),
}
for case, message in cases.items():
    result = attempt(two.sendmsg, [b"said"], [message])
    show("said", case, result, [entry[:2] for entry in later(one.recvmsg(100, 500)[1])] if result == 4 else "")
two.sendmsg([b"seven"], [cases["ttl"], cases["tos"]])
data, ancillary, _, _ = one.recvmsg(100, 500)
show("seven", [payload[0] for level, kind, payload in ancillary if kind in (ttl, tos)])

# error queues
three = udp()
three.setsockopt(LEVEL, RECVERR, 1)
show("recverr", three.getsockopt(LEVEL, RECVERR))
show("no error", told(three, flags=ERRQUEUE | socket.MSG_DONTWAIT), told(three, flags=ERRQUEUE))
three.sendto(b"to nobody", (LOCAL, 9))
settle()
show("queue", told(three, flags=ERRQUEUE), three.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
three.sendto(b"to nobody", (LOCAL, 9))
settle()
show("reported", attempt(three.sendto, b"again", (LOCAL, 9)))
show("queue", told(three, room=0, flags=ERRQUEUE), told(three, flags=ERRQUEUE))
three.sendto(b"cut here", (LOCAL, 9))
settle()
show("queue", told(three, 3, 24, flags=ERRQUEUE))
show("quiet again", told(three, flags=socket.MSG_DONTWAIT))
three.setsockopt(LEVEL, MTU_DISCOVER, 2)
three.connect(home)
show(
    "mtu",
    three.getsockopt(LEVEL, MTU_DISCOVER),
    two.getsockopt(LEVEL, MTU) >= 65535,
    attempt(udp().getsockopt, LEVEL, MTU),
)
show("bad mode", attempt(three.setsockopt, LEVEL, MTU_DISCOVER, 9))

# groups
group, other = ("ff02::4242", "ff05::4243") if SIX else ("239.77.1.2", "239.77.1.3")
packed = socket.inet_pton(FAMILY, group)
listener, speaker = udp(), udp()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("", 0))
where = (group, listener.getsockname()[1])
if SIX:
    JOIN, LEAVE, member = 20, 21, packed + struct.pack("i", 1)
    speaker.setsockopt(LEVEL, 17, 1)
    show("interface", speaker.getsockopt(LEVEL, 17), attempt(speaker.setsockopt, LEVEL, 17, 99))
    options = (18, 19, 29)
else:
    JOIN, LEAVE, member = 35, 36, packed + address
    speaker.setsockopt(LEVEL, 32, address)
    show("interface", speaker.getsockopt(LEVEL, 32, 4), attempt(speaker.setsockopt, LEVEL, 32, b"\1\2\3\4"))
    options = (33, 34, 49)
show("defaults", [listener.getsockopt(LEVEL, option) for option in options])
show("join", attempt(listener.setsockopt, LEVEL, JOIN, member), attempt(listener.setsockopt, LEVEL, JOIN, member))
show("short", attempt(listener.setsockopt, LEVEL, JOIN, member[:6]))
show("not a group", attempt(listener.setsockopt, LEVEL, JOIN, address + member[len(address) :]))
show("sent", attempt(speaker.sendto, b"to all", where))
settle()
show("heard", attempt(listener.recv, 100, socket.MSG_DONTWAIT))
show("leave", attempt(listener.setsockopt, LEVEL, LEAVE, member), attempt(listener.setsockopt, LEVEL, LEAVE, member))
listener.setsockopt(LEVEL, options[2], 0)
show("sent", attempt(speaker.sendto, b"to nobody", where))
settle()
show("not heard", attempt(listener.recv, 100, socket.MSG_DONTWAIT))
storage = struct.pack("=H", FAMILY) + (bytes(6) + packed + bytes(104) if SIX else bytes(2) + packed + bytes(120))
source = struct.pack("=H", FAMILY) + (bytes(6) + address + bytes(104) if SIX else bytes(2) + address + bytes(120))
request = struct.pack("=I4x", 1) + storage
show(
    "MCAST_JOIN_GROUP",
    attempt(listener.setsockopt, LEVEL, 42, request),
    attempt(listener.setsockopt, LEVEL, 42, request),
)
show("sent", attempt(speaker.sendto, b"group req", where))
settle()
show("heard", attempt(listener.recv, 100, socket.MSG_DONTWAIT))
show("blocked", attempt(listener.setsockopt, LEVEL, 43, request + source))
show("sent", attempt(speaker.sendto, b"blocked", where))
settle()
show("not heard", attempt(listener.recv, 100, socket.MSG_DONTWAIT))
show("left", attempt(listener.setsockopt, LEVEL, 45, request), attempt(listener.setsockopt, LEVEL, 45, request))
show("source", attempt(listener.setsockopt, LEVEL, 46, request + source))
show("sent", attempt(speaker.sendto, b"from a source", where))
settle()
show("heard", attempt(listener.recv, 100, socket.MSG_DONTWAIT))
speaker.setsockopt(LEVEL, options[1], 0)
show("sent", attempt(speaker.sendto, b"not looped", where))
settle()
show("not heard", attempt(listener.recv, 100, socket.MSG_DONTWAIT))
stream = socket.socket(FAMILY, socket.SOCK_STREAM)
show("streams", attempt(stream.setsockopt, LEVEL, JOIN, member), attempt(stream.setsockopt, LEVEL, options[0], 3))

# UDP_SEGMENT, UDP_GRO
show("segment", two.getsockopt(17, 103), attempt(two.setsockopt, 17, 103, 70000), two.getsockopt(17, 104))
two.sendmsg([b"a" * 2500], [(17, 103, struct.pack("=H", 1000))])
show("in three", [len(one.recv(5000)) for _ in range(3)])
show("bad", attempt(two.sendmsg, [b"a"], [(17, 103, b"\1")]), attempt(two.sendmsg, [b"a"], [(17, 9, b"\1\0")]))
show("too many", attempt(two.sendmsg, [b"a" * 1000], [(17, 103, struct.pack("=H", 1))]))
two.setsockopt(17, 103, 500)
show("stored", two.getsockopt(17, 103), two.send(b"b" * 1200), [len(one.recv(5000)) for _ in range(3)])
fresh = udp()
fresh.bind((LOCAL, 0))
fresh.setsockopt(17, 104, 1)
two.connect(fresh.getsockname())
two.send(b"c" * 1200)
show("gro", told(fresh)[:4])

# raw sockets
proto = socket.IPPROTO_ICMPV6 if SIX else socket.IPPROTO_ICMP
show("raw 0", attempt(socket.socket, FAMILY, socket.SOCK_RAW, 0), attempt(socket.socket, FAMILY, socket.SOCK_RAW, 300))
raw = socket.socket(FAMILY, socket.SOCK_RAW, proto)
raw.settimeout(5)
show("raw", raw.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE), raw.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL))
reply = 129 if SIX else 0
if SIX:
    raw.setsockopt(58, 1, bytes(b & ~(1 << reply % 8) if i == reply // 8 else b for i, b in enumerate(b"\xff" * 32)))
    show("filter", raw.getsockopt(58, 1, 32).hex())
else:
    raw.setsockopt(255, 1, struct.pack("=I", 0xFFFFFFFF & ~1))
    show("filter", raw.getsockopt(255, 1, 4).hex())
body = struct.pack("!BBHHH", 128 if SIX else 8, 0, 0, 77, 1) + b"echo this"
total = sum(struct.unpack("!8H", body[:16])) + (body[16] << 8)
total = (total & 0xFFFF) + (total >> 16)
if not SIX:
    body = body[:2] + struct.pack("!H", ~total & 0xFFFF) + body[4:]
show("sent", raw.sendto(body, (LOCAL, 0)))
answer, source = raw.recvfrom(1000)
head = 0 if SIX else (answer[0] & 15) * 4
show("reply", answer[head], answer[head + 4 :], source[0], source[1])
show(
    "options",
    attempt(raw.getsockopt, LEVEL, 7 if SIX else 3),
    attempt(raw.setsockopt, 17, 103, 1),
    attempt(raw.getsockopt, 17, 103),
)
show("no listen", attempt(raw.listen, 1), attempt(raw.sendmsg, [b"x"]))
udp_raw = socket.socket(FAMILY, socket.SOCK_RAW, socket.IPPROTO_UDP)
udp_raw.settimeout(5)
two.connect(home)
two.setsockopt(17, 103, 0)
two.send(b"overheard")
show("overheard", udp_raw.recv(1000)[-9:], one.recv(100))
