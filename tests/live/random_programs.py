"""Random socket programs as data: lists of steps that shim_scripts/steps.py plays. See there for what a step means.

A program begins with a known scene (a connection, a listener with somebody waiting, two UDP sockets …), so that most of
the random steps after it find something to do, and goes on with steps on any slot, sensible or not.
"""

import struct

from hypothesis import strategies as st

SLOTS = 6
SOL_SOCKET, SOL_IP, SOL_TCP, SOL_IPV6 = 1, 0, 6, 41
FIONREAD, SIOCOUTQ = 0x541B, 0x5411
OPTIONS = (  # level, name, values
    (SOL_SOCKET, 2, (0, 1)),  # SO_REUSEADDR
    (SOL_SOCKET, 15, (0, 1)),  # SO_REUSEPORT
    (SOL_SOCKET, 9, (0, 1)),  # SO_KEEPALIVE
    (SOL_SOCKET, 10, (0, 1)),  # SO_OOBINLINE
    (SOL_SOCKET, 18, (0, 1, 5, 2000)),  # SO_RCVLOWAT
    (SOL_SOCKET, 13, (struct.pack("ii", 1, 0).hex(), struct.pack("ii", 0, 0).hex())),  # SO_LINGER
    (SOL_SOCKET, 6, (0, 1)),  # SO_BROADCAST
    (SOL_SOCKET, 8, (4096, 100_000)),  # SO_RCVBUF
    (SOL_SOCKET, 7, (4096, 100_000)),  # SO_SNDBUF
    (SOL_IP, 1, (16,)),  # IP_TOS
    (SOL_IP, 2, (5, 0)),  # IP_TTL
    (SOL_IP, 8, (0, 1)),  # IP_PKTINFO
    (SOL_IP, 12, (0, 1)),  # IP_RECVTTL
    (SOL_IP, 13, (0, 1)),  # IP_RECVTOS
    (SOL_IPV6, 26, (0, 1)),  # IPV6_V6ONLY
    (SOL_IPV6, 49, (0, 1)),  # IPV6_RECVPKTINFO
    (SOL_TCP, 4, (30,)),  # TCP_KEEPIDLE
    (SOL_TCP, 2, (1000,)),  # TCP_MAXSEG
)
TYPE, ERROR, ACCEPTCONN, PROTOCOL, DOMAIN = ((SOL_SOCKET, each) for each in (3, 4, 30, 38, 39))
TOLD = ((SOL_TCP, 2), (SOL_SOCKET, 7), (SOL_SOCKET, 8))  # their values tell of windows and autotuning
ASKED = tuple(
    sorted({each[:2] for each in OPTIONS if each[:2] not in TOLD} | {TYPE, ERROR, ACCEPTCONN, PROTOCOL, DOMAIN})
)

slots = st.integers(0, SLOTS - 1)
hosts = st.sampled_from(("any", "lo", "lo2", "mapped", "alien"))
ports = st.sampled_from((0, 1, 1, 2, 3))
places = st.tuples(hosts, ports).map(list)
somewhere = places | st.tuples(st.just("slot"), slots).map(list)
sizes = st.sampled_from((1, 2, 5, 100, 1500))
rooms = st.sampled_from((1, 2, 5, 100, 4000))
SEND_FLAGS = st.sampled_from(("", "", "nosignal", "dontwait"))
RECV_FLAGS = st.sampled_from(("", "", "peek", "dontwait", "trunc", "waitall", "peek|dontwait", "peek|trunc"))
EVENTS = st.sampled_from(("in", "in|et", "in|out|et", "in|out|rdhup|et", "in|out|oneshot", "in|rdhup", "out|et", ""))


def _step(name, *arguments):
    return st.tuples(st.just(name), *arguments).map(list)


def _option(level, option, values):
    return _step("set", slots, st.just(level), st.just(option), st.sampled_from(values))


LIFE = (
    _step("socket", slots, st.sampled_from(("tcp", "udp")), st.sampled_from((4, 6)), st.booleans()),
    _step("close", slots),
    _step("close", slots),
    _step("dup", slots, slots),
    _step("pass", slots, slots),
    _step("block", slots, st.booleans()),
    _step("bind", slots, places),
    _step("bind", slots, places),
    _step("listen", slots, st.sampled_from((0, 1, 8))),
    _step("connect", slots, somewhere),
    _step("connect", slots, st.tuples(st.just("slot"), slots).map(list)),
    _step("accept", slots, slots),
    _step("accept", slots, slots),
    _step("shutdown", slots, st.integers(0, 3)),
    _step("shutdown", slots, st.integers(0, 2)),
)
DATA = (
    _step("send", slots, sizes, st.sampled_from(("send", "write", "sendmsg", "sendfile")), SEND_FLAGS),
    _step("send", slots, sizes, st.just("send"), st.just("")),
    _step("sendto", slots, sizes, somewhere, SEND_FLAGS),
    _step(
        "recv", slots, rooms, st.sampled_from(("recv", "read", "recvmsg", "recvfrom", "into", "control")), RECV_FLAGS
    ),
    _step("recv", slots, rooms, st.just("recv"), RECV_FLAGS),
    _step("splice", slots, slots, rooms),
)
QUESTIONS = (
    _step("sockname", slots),
    _step("peername", slots),
    _step("error", slots),
    _step("ioctl", slots, st.sampled_from((FIONREAD, SIOCOUTQ))),
    _step("ctl", st.sampled_from(("add", "add", "mod", "del")), slots, EVENTS),
    _step("wait"),
    _step("wait"),
    st.one_of([_option(*each) for each in OPTIONS]),
    st.sampled_from(ASKED).flatmap(
        lambda key: _step("get", slots, st.just(key[0]), st.just(key[1]), st.sampled_from((4, 4, 1, 8)))
    ),
)


def _scene(kind, family):
    """How a program begins: slot 0 listens, 1 and 2 are the ends of a connection; or 0 and 1 are UDP sockets."""
    here = ["lo", 1]
    listener = [["socket", 0, "tcp", family, True], ["bind", 0, here], ["listen", 0, 8]]
    client = [["socket", 1, "tcp", family, True], ["connect", 1, here]]
    return {
        "nothing": [],
        "fresh": [["socket", 0, "tcp", family, True], ["socket", 1, "tcp", 10 - family, True]],
        "listener": [*listener, ["socket", 1, "tcp", family, False]],
        "waiting": [*listener, *client],
        "pair": [*listener, *client, ["accept", 0, 2]],
        "lone pair": [*listener, *client, ["accept", 0, 2], ["close", 0]],
        "starting": [*listener, ["socket", 1, "tcp", family, False], ["connect", 1, here], ["accept", 0, 2]],
        "udp": [["socket", 0, "udp", family, True], ["bind", 0, here], ["socket", 1, "udp", family, True]],
        "udp pair": [
            ["socket", 0, "udp", family, True],
            ["bind", 0, here],
            ["socket", 1, "udp", family, True],
            ["connect", 1, here],
            ["connect", 0, ["slot", 1]],
        ],
    }[kind]


SCENES = ("nothing", "fresh", "listener", "waiting", "pair", "pair", "lone pair", "starting", "udp", "udp pair")
STEPS = st.lists(st.one_of(st.one_of(LIFE), st.one_of(DATA), st.one_of(DATA), st.one_of(QUESTIONS)), max_size=10)


def programs():
    """A whole program."""
    scenes = st.tuples(st.sampled_from(SCENES), st.sampled_from((4, 6))).map(lambda pair: _scene(*pair))
    return st.tuples(scenes, STEPS, STEPS, STEPS).map(lambda parts: [step for part in parts for step in part])
