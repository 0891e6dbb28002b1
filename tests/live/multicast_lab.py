"""Run in a namespace: the same joins, leaves and queries at the kernel and at the stack; prints what each reported.

Both have the same addresses on their link, so that their packets can be compared byte by byte. Lines of the output:
{"step": name, "kernel": [hex of IP packets], "stack": [...]}, without repetitions.
"""

import json
import os
import select
import socket
import struct
import subprocess
import sys
import time

from nuse.tun import Tun
from stack import Stack
from stack.ip.addr import parse_addr
from stack.units import SEC

ADDRS = [(parse_addr("10.64.0.1"), 24), (parse_addr("fe80::1"), 64), (parse_addr("fd64::1"), 64)]
QUIET = 1.3  # seconds after which both have repeated everything
MCAST_JOIN_SOURCE_GROUP, MCAST_LEAVE_SOURCE_GROUP = 46, 47
MCAST_BLOCK_SOURCE, MCAST_UNBLOCK_SOURCE, MCAST_JOIN_GROUP, MCAST_LEAVE_GROUP, MCAST_MSFILTER = 43, 44, 42, 45, 48
GROUPS = {4: ("239.1.2.3", "239.1.2.4"), 6: ("ff05::1:3", "ff05::1:4")}
SOURCES = {4: [f"10.64.0.{n}" for n in (10, 11, 12)], 6: [f"fd64::{n}" for n in (10, 11, 12)]}


def storage(text):
    """struct sockaddr_storage."""
    if ":" in text:
        return struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, parse_addr(text), 0).ljust(128, b"\0")
    return struct.pack("=HH4s", socket.AF_INET, 0, parse_addr(text)).ljust(128, b"\0")


class Kernel:
    """A socket of the kernel's with the verbs of our endpoints."""

    def __init__(self, family, index):
        self.socket = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        self.level = socket.IPPROTO_IP if family == 4 else socket.IPPROTO_IPV6
        self.index = index

    def _set(self, option, group, source=None):
        value = struct.pack("=I4x", self.index) + storage(group) + (storage(source) if source else b"")
        self.socket.setsockopt(self.level, option, value)

    def join(self, group, source=None):
        self._set(MCAST_JOIN_SOURCE_GROUP if source else MCAST_JOIN_GROUP, group, source)

    def leave(self, group, source=None):
        self._set(MCAST_LEAVE_SOURCE_GROUP if source else MCAST_LEAVE_GROUP, group, source)

    def block(self, group, source, *, unblock=False):
        self._set(MCAST_UNBLOCK_SOURCE if unblock else MCAST_BLOCK_SOURCE, group, source)

    def set_filter(self, group, sources, *, include):
        value = struct.pack("=I4x", self.index) + storage(group) + struct.pack("=II", int(include), len(sources))
        self.socket.setsockopt(self.level, MCAST_MSFILTER, value + b"".join(map(storage, sources)))

    def close(self):
        self.socket.close()


class Ours:
    """An endpoint of the stack that takes addresses as text."""

    def __init__(self, stack, link, family):
        self.endpoint = stack.udp.open(family == 6)
        self.link = link

    def join(self, group, source=None):
        self.endpoint.join(parse_addr(group), self.link, source and parse_addr(source))

    def leave(self, group, source=None):
        self.endpoint.leave(parse_addr(group), self.link, source and parse_addr(source))

    def block(self, group, source, *, unblock=False):
        self.endpoint.block(parse_addr(group), parse_addr(source), self.link, unblock=unblock)

    def set_filter(self, group, sources, *, include):
        self.endpoint.set_filter(parse_addr(group), list(map(parse_addr, sources)), include=include, link=self.link)

    def close(self):
        self.endpoint.close()


def is_report(packet):
    """IGMP, or ICMPv6 of MLD's kinds behind a hop-by-hop header."""
    if packet[0] >> 4 == 4:
        return packet[9] == 2
    return packet[6] == 0 and packet[40] == 58 and packet[48] in (131, 132, 143)


def query(family, group=None, sources=(), old=False):
    """A query from a neighbour, with 0.2 seconds to answer."""
    size = 4 if family == 4 else 16
    addr = parse_addr(group) if group else bytes(size)
    tail = b"" if old else struct.pack("!BBH", 2, 125, len(sources)) + b"".join(map(parse_addr, sources))
    if family == 4:
        body = bytearray(struct.pack("!BBH", 0x11, 2, 0) + addr + tail)
        body[2:4] = checksum(body)
        head = struct.pack("!BBHHHBBH4s4s", 0x46, 0xC0, 24 + len(body), 0, 0, 1, 2, 0, parse_addr("10.64.0.9"), ALL4)
        head = bytearray(head + b"\x94\x04\0\0")
        head[10:12] = checksum(head)
        return bytes(10) + bytes(head + body)
    src = parse_addr("fe80::9")
    dst = addr if group else ALL6
    body = bytearray(struct.pack("!BBHHH", 130, 0, 0, 200, 0) + addr + tail)
    body[2:4] = checksum(src + dst + struct.pack("!II", len(body), 58) + body)
    head = struct.pack("!IHBB16s16s", 6 << 28, 8 + len(body), 0, 1, src, dst) + b"\x3a\0\x05\x02\0\0\x01\0"
    return bytes(10) + head + bytes(body)


ALL4, ALL6 = parse_addr("224.0.0.1"), parse_addr("ff02::1")


def checksum(data):
    total = int.from_bytes(bytes(data) + bytes(len(data) & 1), "big") % 0xFFFF
    return (-total % 0xFFFF).to_bytes(2, "big")


def steps(family):
    """(name, what to do with an endpoint and a way to send a query)."""
    group, other = GROUPS[family]
    a, b, c = SOURCES[family]
    yield "join", lambda end, ask: end.join(group)
    yield "general query", lambda end, ask: ask(query(family))
    yield "group query", lambda end, ask: ask(query(family, group))
    yield "source query", lambda end, ask: ask(query(family, group, [a]))
    yield "block", lambda end, ask: end.block(group, a)
    yield "block another", lambda end, ask: end.block(group, b)
    yield "query with blocked", lambda end, ask: ask(query(family))
    yield "source query with blocked", lambda end, ask: ask(query(family, group, [a, c]))
    yield "unblock", lambda end, ask: end.block(group, a, unblock=True)
    yield "leave", lambda end, ask: end.leave(group)
    yield "join a source", lambda end, ask: end.join(other, a)
    yield "join another source", lambda end, ask: end.join(other, b)
    yield "query with sources", lambda end, ask: ask(query(family))
    yield "query for sources", lambda end, ask: ask(query(family, other, [b, c]))
    yield "leave a source", lambda end, ask: end.leave(other, a)
    yield "filter", lambda end, ask: end.set_filter(other, [a, c], include=False)
    yield "filter again", lambda end, ask: end.set_filter(other, [c], include=True)
    yield "close", lambda end, ask: end.close()


def old_steps(family):
    """With a querier of the older version about."""
    group, _other = GROUPS[family]
    yield "old query", lambda end, ask: ask(query(family, old=True))
    yield "old join", lambda end, ask: end.join(group)
    yield "old group query", lambda end, ask: ask(query(family, group, old=True))
    yield "old leave", lambda end, ask: end.leave(group)


def main():
    family, which = int(sys.argv[1]), sys.argv[2]
    tun = Tun("mlab0", offload=True)
    for words in (
        "link set mlab0 addrgenmode none",
        "addr add 10.64.0.1/24 dev mlab0",
        "addr add fe80::1/64 dev mlab0 nodad",
        "addr add fd64::1/64 dev mlab0 nodad",
        "link set mlab0 up",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    stack = Stack(secret=os.urandom(32))
    link = stack.add_link("tun0", ADDRS)
    kernel, ours = Kernel(family, socket.if_nametoindex("mlab0")), Ours(stack, link, family)
    time.sleep(0.5)
    now = 0
    for name, act in steps(family) if which == "new" else old_steps(family):
        from_kernel, from_stack = {}, {}
        act(kernel, lambda packet: tun.write((packet,)))
        act(ours, lambda packet, now=now: stack.receive(packet, now, link))
        wait = QUIET if which == "new" else 11.0 if "join" in name else 1.0
        until = time.monotonic() + wait
        while (left := until - time.monotonic()) > 0:
            if select.select([tun], [], [], left)[0]:
                while (packet := tun.read()) is not None:
                    if is_report(packet[10:]):
                        from_kernel.setdefault(packet[10:].hex())
        end = now + int(wait * SEC)
        while True:
            while (out := stack.poll_transmit(now)) is not None:
                from_stack.setdefault(b"".join(out[1])[10:].hex())
            due = stack.poll_timeout()
            if due is None or due > end:
                break
            now = max(now, due)
            stack.handle_timeout(now)
        now = end
        print(json.dumps({"step": name, "kernel": list(from_kernel), "stack": list(from_stack)}), flush=True)


if __name__ == "__main__":
    main()
