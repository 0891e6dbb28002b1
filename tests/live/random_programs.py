"""Random socket programs as data: lists of steps that shim_scripts/steps.py plays. See there for what a step means.

A program begins with a known scene (a connection, a listener with somebody waiting, two UDP sockets …), so that most of
the random steps after it find something to do, and goes on with steps on any slot, sensible or not.
"""

import struct

from hypothesis import strategies as st

SLOTS = 6
SOL_SOCKET, SOL_IP, SOL_TCP, SOL_IPV6 = 1, 0, 6, 41
FIONREAD, SIOCOUTQ = 0x541B, 0x5411
LINGER_0 = struct.pack("ii", 1, 0).hex()
OPTIONS = (  # level, name, values
    (SOL_SOCKET, 2, (0, 1)),  # SO_REUSEADDR
    (SOL_SOCKET, 15, (0, 1)),  # SO_REUSEPORT
    (SOL_SOCKET, 9, (0, 1)),  # SO_KEEPALIVE
    (SOL_SOCKET, 10, (0, 1)),  # SO_OOBINLINE
    (SOL_SOCKET, 18, (0, 1, 5, 2000)),  # SO_RCVLOWAT
    (SOL_SOCKET, 13, (LINGER_0, struct.pack("ii", 0, 0).hex())),  # SO_LINGER
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
    (SOL_TCP, 3, (0, 1)),  # TCP_CORK
    (SOL_TCP, 9, (1,)),  # TCP_DEFER_ACCEPT
    (SOL_TCP, 4, (30,)),  # TCP_KEEPIDLE
    (SOL_TCP, 2, (1000,)),  # TCP_MAXSEG
)
TYPE, ERROR, ACCEPTCONN, PROTOCOL, DOMAIN = ((SOL_SOCKET, each) for each in (3, 4, 30, 38, 39))
TOLD = ((SOL_TCP, 2), (SOL_SOCKET, 7), (SOL_SOCKET, 8))  # their values tell of windows and autotuning
ASKED = tuple(
    sorted({each[:2] for each in OPTIONS if each[:2] not in TOLD} | {TYPE, ERROR, ACCEPTCONN, PROTOCOL, DOMAIN})
)

slots = st.sampled_from((0, 1, 2, 0, 1, 2, *range(3, SLOTS)))
hosts = st.sampled_from(("any", "lo", "lo2", "mapped", "alien"))
ports = st.sampled_from((0, 1, 1, 2))
places = st.tuples(hosts, ports).map(list)
somewhere = places | st.tuples(st.just("slot"), slots).map(list)
sizes = st.sampled_from((1, 2, 5, 100, 1500))
rooms = st.sampled_from((1, 2, 5, 100, 4000))
SEND_FLAGS = st.sampled_from(("", "", "", "nosignal", "dontwait", "oob"))
RECV_FLAGS = st.sampled_from(("", "", "peek", "dontwait", "trunc", "waitall", "peek|dontwait", "peek|trunc", "oob"))
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
    _step("disconnect", slots),
    _step("set", slots, st.just(SOL_SOCKET), st.just(13), st.just(LINGER_0)),
    _step("shutdown", slots, st.integers(0, 2)),
)
DATA = (
    _step("send", slots, sizes, st.sampled_from(("send", "write", "sendmsg", "sendfile")), SEND_FLAGS),
    _step("send", slots, sizes, st.just("send"), st.just("")),
    _step("sendto", slots, sizes, somewhere, SEND_FLAGS),
    _step(
        "recv",
        slots,
        rooms,
        st.sampled_from(("recv", "read", "recvmsg", "recvfrom", "into", "control200", "control40", "control5")),
        RECV_FLAGS,
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


def _tcp(slot, family, *, block=True):
    return ["socket", slot, "tcp", family, block]


def _udp(slot, family):
    return ["socket", slot, "udp", family, True]


def _scene(kind, family):
    """How a program begins: slot 0 listens, 1 and 2 are the ends of a connection; or 0 and 1 are UDP sockets."""
    here = ["lo", 1]
    listener = [_tcp(0, family), ["bind", 0, here], ["listen", 0, 8]]
    client = [_tcp(1, family), ["connect", 1, here]]
    starting = [_tcp(1, family, block=False), ["connect", 1, here]]
    pair = [*listener, *client, ["accept", 0, 2]]
    return {
        "nothing": [],
        "fresh": [_tcp(0, family), _tcp(1, 10 - family)],
        "listener": [*listener, _tcp(1, family, block=False)],
        "waiting": [*listener, *client],
        "pair": pair,
        "lone pair": [*pair, ["close", 0]],
        "text": [*pair, ["send", 1, 5, "send", ""], ["send", 2, 100, "send", ""]],
        "starting": [*listener, *starting, ["accept", 0, 2]],
        "watched": [*listener, *starting, ["ctl", "add", 1, "in|out|rdhup|et"], ["wait"], ["accept", 0, 2], ["wait"]],
        "refused": [*starting, ["set", 1, SOL_SOCKET, 2, 1]],
        "crowd": [
            *listener[:2],
            ["listen", 0, 0],
            *(step for slot in (1, 2, 3) for step in (_tcp(slot, family, block=False), ["connect", slot, here])),
        ],
        "dual": [_tcp(0, 6), ["bind", 0, ["any", 1]], ["listen", 0, 8], *client, ["accept", 0, 2]],
        "udp": [_udp(0, family), ["bind", 0, here], _udp(1, family)],
        "udp pair": [
            *(_udp(0, family), ["bind", 0, here]),
            *(_udp(1, family), ["connect", 1, here]),
            ["connect", 0, ["slot", 1]],
        ],
        "udp dual": [_udp(0, 6), ["bind", 0, ["any", 1]], _udp(1, family), ["connect", 1, here]],
    }[kind]


def _binders(kinds, families, options, wheres):
    """Several sockets that want the same port."""
    sockets = [["socket", slot, kinds, family, True] for slot, family in enumerate(families)]
    set_up = [["set", slot, SOL_SOCKET, each, 1] for slot, each in enumerate(options) if each]
    return [*sockets, *set_up, *(["bind", slot, [where, 1]] for slot, where in enumerate(wheres))]


def _three(*values):
    return st.tuples(*[st.sampled_from(values)] * 3)


PAIRS = ("pair", "lone pair", "text", "starting", "watched", "dual")
SCENES = ("nothing", "fresh", "listener", "waiting", "refused", "crowd", "udp", "udp pair", "udp dual", *PAIRS)
BINDERS = st.builds(
    _binders, st.sampled_from(("tcp", "udp")), _three(4, 6), _three(0, 2, 15), _three("any", "lo", "lo2", "mapped")
)
STEPS = st.lists(st.one_of(st.one_of(LIFE), st.one_of(DATA), st.one_of(DATA), st.one_of(QUESTIONS)), max_size=10)


def programs():
    """A whole program."""
    scenes = st.tuples(st.sampled_from(SCENES), st.sampled_from((4, 6))).map(lambda pair: _scene(*pair))
    beginnings = st.one_of(scenes, scenes, scenes, BINDERS)
    return st.tuples(beginnings, STEPS, STEPS, STEPS).map(lambda parts: [step for part in parts for step in part])
