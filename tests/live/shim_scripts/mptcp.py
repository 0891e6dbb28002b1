"""MPTCP sockets as a program sees them: what they say of themselves, and which options they take."""

import ctypes
import socket
import struct

from prelude import FAMILY, LOCAL, attempt, name, settle, show

MPTCP, SOL_MPTCP, TCP = 262, 284, socket.IPPROTO_TCP
INFO, TCPINFO, ADDRS, FULL = 1, 2, 3, 4
IS_MPTCP, ULP, SO_PROTOCOL = 43, 31, 38


def mptcp():
    return socket.socket(FAMILY, socket.SOCK_STREAM, MPTCP)


def pair(proto=MPTCP):
    listening = mptcp()
    listening.bind((LOCAL, 0))
    listening.listen()
    ours = socket.socket(FAMILY, socket.SOCK_STREAM, proto)
    ours.connect(listening.getsockname())
    theirs, _ = listening.accept()
    ours.send(b"hello")
    theirs.recv(5, socket.MSG_WAITALL)
    theirs.send(b"you")
    ours.recv(3, socket.MSG_WAITALL)
    settle()
    return ours, theirs, listening


def getsockopt(sock, option, request):
    """With a value that is read, too: what it was turned into, or the errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    raw = ctypes.create_string_buffer(request, len(request))
    length = ctypes.c_uint32(len(request))
    if libc.getsockopt(sock.fileno(), SOL_MPTCP, option, raw, ctypes.byref(length)):
        return name(ctypes.get_errno())
    return raw.raw[: length.value]


def about(label, sock):
    info = attempt(sock.getsockopt, SOL_MPTCP, INFO, 200)
    says = info if isinstance(info, str) else (len(info), info[:3], info[8:12], *struct.unpack_from("=3B", info, 40))
    show(
        label,
        sock.proto,
        sock.getsockopt(socket.SOL_SOCKET, SO_PROTOCOL),
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE),
        sock.getsockopt(TCP, IS_MPTCP),
        sock.getsockopt(TCP, ULP, 16),
        says,
    )


fresh = mptcp()
about("fresh", fresh)
ours, theirs, listening = pair()
about("connected", ours)
about("accepted", theirs)
about("listening", listening)
show("info may be cut", [len(ours.getsockopt(SOL_MPTCP, INFO, size)) for size in (1, 40, 96, 97)])
mine, other = (
    struct.unpack_from("=6B2xII3Q3BxI4Q4B3I", each.getsockopt(SOL_MPTCP, INFO, 96)) for each in (ours, theirs)
)
show("token", mine[7] != 0, mine[7] != other[7])
show("numbers agree", mine[8] == mine[9] == other[10], other[8] == other[9] == mine[10])
show("bytes", mine[14:19], mine[19], other[14:19])

for option in (TCPINFO, ADDRS):
    for header, user, room in ((16, 280, 560), (16, 256, 256), (16, 300, 600), (16, 8, 20), (20, 256, 256), (16, 0, 9)):
        got = getsockopt(ours, option, struct.pack("=4I", header, 0, 0, user).ljust(header + room, b"\0"))
        show("array", option, header, user, room, struct.unpack_from("=4I", got), len(got))
    for wrong in ((15, 0, 0, 9), (99, 0, 0, 9), (16, 1, 0, 9), (16, 0, 1, 9), (16, 0, 0, 1 << 31)):
        show("wrong", option, wrong, getsockopt(ours, option, struct.pack("=4I", *wrong) + bytes(64)))
    show("short", option, getsockopt(ours, option, bytes(15)))
got = getsockopt(ours, ADDRS, struct.pack("=4I", 16, 0, 0, 256) + bytes(256))
at = 4 if FAMILY == socket.AF_INET else 8
size = at if FAMILY == socket.AF_INET else 16
show("family", struct.unpack_from("=H", got, 16), struct.unpack_from("=H", got, 144))
show("addresses", got[16 + at : 16 + at + size], got[144 + at : 144 + at + size])
ports = int.from_bytes(got[18:20], "big"), int.from_bytes(got[146:148], "big")
show("ports", ports == (ours.getsockname()[1], ours.getpeername()[1]))
got = getsockopt(ours, TCPINFO, struct.pack("=4I", 16, 0, 0, 280) + bytes(280))
show("tcp_info", got[16] == 1, got[16:24] == ours.getsockopt(TCP, socket.TCP_INFO, 280)[:8])

subflows, infos = ctypes.create_string_buffer(600), ctypes.create_string_buffer(600)
where = ctypes.addressof(subflows), ctypes.addressof(infos)
for user in ((280, 264, 2), (300, 300, 1), (0, 264, 1), (280, 0, 1), (0, 0, 0), (8, 4, 9)):
    for room in (0, 50, 96, 200):
        request = struct.pack("=6I2Q", 0, user[0], 0, user[1], 0, user[2], *where) + bytes(room)
        got = getsockopt(ours, FULL, request)
        show("full", user, room, struct.unpack_from("=6I", got), len(got))
show("its arrays", subflows.raw[8:10], infos.raw[0] == 1)
show(
    "full wrong",
    getsockopt(ours, FULL, bytes(39)),
    getsockopt(ours, FULL, struct.pack("=6I2Q", 1, 0, 0, 0, 0, 0, 0, 0)),
)
show("no such option", attempt(ours.getsockopt, SOL_MPTCP, 9, 16), attempt(ours.setsockopt, SOL_MPTCP, INFO, 1))

plain = socket.socket(FAMILY, socket.SOCK_STREAM)
show("on TCP", plain.getsockopt(TCP, IS_MPTCP), attempt(plain.setsockopt, SOL_MPTCP, INFO, 1))
ours, theirs, listening = pair(TCP)
show("accepted from TCP", theirs.getsockopt(socket.SOL_SOCKET, SO_PROTOCOL), theirs.getsockopt(TCP, IS_MPTCP))
show("it has no info", attempt(theirs.getsockopt, SOL_MPTCP, INFO, 96) in ("ENOTSUP", "EOPNOTSUPP", "ENOPROTOOPT"))
listening.close()
listening = socket.create_server((LOCAL, 0), family=FAMILY)
ours = mptcp()
ours.connect(listening.getsockname())
ours.send(b"x")
settle()
show("fell back", ours.getsockopt(socket.SOL_SOCKET, SO_PROTOCOL), ours.getsockopt(TCP, IS_MPTCP))
show("which is told", attempt(ours.getsockopt, SOL_MPTCP, INFO, 96) in ("ENOTSUP", "EOPNOTSUPP", "ENOPROTOOPT"))

UNKNOWN = {(1, 62), (1, 63), (1, 64), (1, 65), (6, 33), (41, 75)}  # to the shim, whatever the socket
for level, names in ((1, range(1, 84)), (6, range(1, 48)), (0, range(1, 52)), (41, range(1, 82))):
    for option in names:
        if (level, option) in UNKNOWN or (level == 41 and FAMILY != socket.AF_INET6):
            continue
        sock = mptcp()
        got = attempt(sock.getsockopt, level, option) if level != 1 else "-"
        done = attempt(sock.setsockopt, level, option, 1)
        show(f"option {level} {option}", got if isinstance(got, str) else "taken", "taken" if done is None else done)
