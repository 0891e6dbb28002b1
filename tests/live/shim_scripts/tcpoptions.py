"""TCP's socket options: lengths, defaults, errnos, and the parts of tcp_info that are facts."""

import socket
import struct

from prelude import LOCAL, attempt, pair, polled, server, settle, show, tcp

TCP, INFO, CONGESTION = 6, 11, 13
LAYOUT = struct.Struct("=8B24I4Q6I4Q2I2Q6I2HI7I2H")

fresh = tcp()
show("sizes", [len(fresh.getsockopt(TCP, INFO, room)) for room in (1, 7, 100, 248, 280, 1000)])
show("closed", LAYOUT.unpack(fresh.getsockopt(TCP, INFO, 280))[0])
with server(5) as listening:
    info = LAYOUT.unpack(listening.getsockopt(TCP, INFO, 280))
    show("listening", info[0], info[12], info[13])
ours, theirs = pair()
ours.sendall(b"x" * 10_000)
read = 0
while read < 10_000:
    read += len(theirs.recv(65536))
settle()
sent, got = (LAYOUT.unpack(each.getsockopt(TCP, INFO, 280)) for each in (ours, theirs))
names = {"state": 0, "ca_state": 1, "retransmits": 2, "probes": 3, "backoff": 4, "unacked": 12, "retrans": 15}
show("info", {word: sent[at] for word, at in names.items()}, sent[5] & 7)
show("bytes", sent[34] in (10_000, 10_001), got[35], sent[38], sent[48], sent[49])
show("rto", sent[56:59], got[56:59], sent[33] == 2**64 - 1)

for option in (2, 3, 9, 10, 23, 25, 27, 30, 34, 36):
    show("default", option, attempt(fresh.getsockopt, TCP, option))
fresh.setsockopt(TCP, CONGESTION, b"cubic")
for option in (26, 28):
    show("blob", option, attempt(lambda each=option: len(fresh.getsockopt(TCP, each, 64))))
for option, value in ((38, bytes(8)), (99, bytes(4)), (28, bytes(4))):
    show("refused", option, len(value), attempt(fresh.setsockopt, TCP, option, value))
show("congestion", attempt(fresh.setsockopt, TCP, CONGESTION, b"cubic"), fresh.getsockopt(TCP, CONGESTION, 16))
show("congestion", fresh.getsockopt(TCP, CONGESTION, 3), attempt(fresh.setsockopt, TCP, CONGESTION, b"nonesuch"))
show("congestion", attempt(fresh.setsockopt, TCP, CONGESTION, b""), fresh.getsockopt(TCP, CONGESTION, 100))
wanted = ((2, 87), (2, 40000), (2, 1000), (4, 0), (4, 40000), (6, 200), (7, 0), (18, -1), (36, 2), (27, 3), (9, 3))
for option, value in (*wanted, (23, -1), (23, 5), (30, 2), (30, 1), (30, 0)):
    show("set", option, value, attempt(fresh.setsockopt, TCP, option, value), fresh.getsockopt(TCP, option))

ours.setsockopt(TCP, 25, 16384)
show("lowat", ours.getsockopt(TCP, 25), polled(ours))

theirs.setsockopt(TCP, 36, 1)
show("inq", theirs.getsockopt(TCP, 36))
ours.sendall(b"1234567890")
settle()
show("inq", theirs.recv(4), theirs.recv(100))

with server() as listening:
    listening.setsockopt(TCP, 27, 1)
    with socket.create_connection(listening.getsockname()[:2]) as one, listening.accept()[0] as two:
        syn = two.getsockopt(TCP, 28, 500)
        again = attempt(lambda: len(two.getsockopt(TCP, 28, 500)))
        show("saved", syn[0] >> 4, len(syn) > 40, again, one.getsockopt(TCP, 27))
        show("late", attempt(one.setsockopt, TCP, 23, 1), attempt(one.setsockopt, TCP, 30, 1))
for _ in range(2):
    with server() as listening, tcp() as one:
        listening.setsockopt(TCP, 23, 5)
        show("fast", one.sendto(b"in the SYN", 0x20000000, listening.getsockname()))
        with listening.accept()[0] as two:
            show("got", two.recv(100), attempt(one.sendto, b"x", 0x20000000, listening.getsockname()))
    with server() as listening, tcp() as one:
        listening.setsockopt(TCP, 23, 5)
        one.setsockopt(TCP, 30, 1)
        show("connect", one.connect(listening.getsockname()), one.send(b"first words"))
        with listening.accept()[0] as two:
            show("got", two.recv(100))

SOCK, PACING = socket.SOL_SOCKET, 47
plain = tcp()
show("pacing", *(plain.getsockopt(SOCK, PACING, room) for room in (8, 4, 100)))
for value in (struct.pack("Q", 5_000_000_000), struct.pack("I", 125_000), b"\xff" * 4, b"\xff" * 8, bytes(4)):
    plain.setsockopt(SOCK, PACING, value)
    show("pacing", LAYOUT.unpack(plain.getsockopt(TCP, INFO, 280))[33])
    show("pacing", plain.getsockopt(SOCK, PACING, 8), plain.getsockopt(SOCK, PACING, 4))
show("pacing", attempt(plain.setsockopt, SOCK, PACING, b"\0\0"), plain.getsockopt(SOCK, PACING, 2))
ours, theirs = pair()
for name in (b"cubic", b"reno", b"bbr"):
    ours.setsockopt(TCP, CONGESTION, name)
    ours.sendall(b"x" * 1000)
    theirs.recv(1000)
    settle()
    sizes = [len(ours.getsockopt(TCP, 26, room)) for room in (64, 20, 8)]
    show("cc info", name, sizes, ours.getsockopt(TCP, 26, 64)[12:20] if name == b"bbr" else b"")
ours.setsockopt(SOCK, PACING, 2_000_000)
show("limit", LAYOUT.unpack(ours.getsockopt(TCP, INFO, 280))[33])

NO_PORT, CPU = 24, 49
bound = tcp()
show("no port", bound.getsockopt(0, NO_PORT), attempt(bound.setsockopt, 0, NO_PORT, 1), bound.getsockopt(0, NO_PORT))
show("bound", bound.bind((LOCAL, 0)), bound.getsockname()[:2])
with server() as listening:
    bound.connect(listening.getsockname())
    show("connected", bound.getsockname()[1] > 0, attempt(bound.bind, (LOCAL, 0)))
bound = tcp()
bound.setsockopt(0, NO_PORT, 1)
show("listening", bound.bind((LOCAL, 0)), bound.listen(), bound.getsockname()[0], bound.getsockname()[1] > 0)
show("no address", attempt(tcp().bind, ("2001:db8::1" if ":" in LOCAL else "192.0.2.1", 0)))
show("cpu", fresh.getsockopt(SOCK, CPU), attempt(fresh.setsockopt, SOCK, CPU, 0), fresh.getsockopt(SOCK, CPU))
device = tcp()
show("device", device.getsockopt(SOCK, 25, 16), attempt(device.setsockopt, SOCK, 25, b"nonesuch"))
show("device", attempt(device.setsockopt, SOCK, 25, b"lo"), device.getsockopt(SOCK, 25, 16))
with server() as listening:
    show("over lo", device.connect(listening.getsockname()), device.getsockname()[0])
show("device", attempt(device.setsockopt, SOCK, 25, b""), device.getsockopt(SOCK, 25, 16))
show("timeout", ours.setsockopt(TCP, 18, 5000), ours.getsockopt(TCP, 18))
