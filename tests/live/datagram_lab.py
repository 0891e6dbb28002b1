"""Run in a namespace: UDP and raw endpoints of a stack against the kernel's sockets, over one TUN. Prints JSON."""

import errno
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time

from nuse.softoffload import SoftwareOffload
from nuse.tun import Tun
from stack import Stack
from stack.dgram_options import SendControl
from stack.ip.addr import parse_addr

UDP_SEGMENT = 103
FAMILIES = {
    "4": (socket.AF_INET, "10.64.0.1", "10.64.0.2", 24),
    "6": (socket.AF_INET6, "fd64::1", "fd64::2", 64),
}


class Lab:
    """One device, the kernel on its one side and a stack on the other."""

    def __init__(self, family, offload):
        self.family, self.kernel, self.own, length = FAMILIES[family]
        self.tun = Tun("dlab0", offload=offload)
        extra = ["nodad"] if family == "6" else []
        for words in ([f"addr add {self.kernel}/{length} dev dlab0", *extra], ["link set dlab0 up"]):
            subprocess.run(["ip", *" ".join(words).split()], check=True)
        self.device = self.tun if offload else SoftwareOffload(self.tun)
        self.stack = Stack(secret=os.urandom(32))
        self.link = self.stack.add_link("tun0", [(parse_addr(self.own), length)])
        self.peer, self.us = parse_addr(self.kernel), parse_addr(self.own)
        time.sleep(0.2)

    def run(self, seconds=0.3):
        """Carry packets both ways."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            while (out := self.stack.poll_transmit(time.monotonic_ns())) is not None:
                self.device.write(out[1])
            if select.select([self.tun], [], [], min(left, 0.02))[0]:
                while (packet := self.tun.read()) is not None:
                    self.stack.receive(packet, time.monotonic_ns(), self.link)
                self.stack.check()

    def endpoint(self, port):
        found = self.stack.udp.open(self.family == socket.AF_INET6)
        found.bind(self.us, port)
        return found

    def socket(self, port):
        found = socket.socket(self.family, socket.SOCK_DGRAM)
        found.bind((self.kernel, port))
        found.setblocking(False)
        return found

    def segments_out(self):
        """What the kernel receives of a super-datagram of ours."""
        sock, endpoint = self.socket(7), self.endpoint(9)
        data = os.urandom(10_500)
        endpoint.sendto(data, (self.peer, 7), 0, SendControl(gso_size=1000))
        self.run()
        pieces = []
        while select.select([sock], [], [], 0)[0]:
            pieces.append(sock.recv(65536))
        return {"sizes": [len(piece) for piece in pieces], "same": b"".join(pieces) == data}

    def segments_in(self, gro):
        """What we receive of a super-datagram of the kernel's."""
        sock, endpoint = self.socket(17 + gro), self.endpoint(19 + gro)
        endpoint.options.gro = gro
        data = os.urandom(10_500)
        sock.sendmsg([data], [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", 1000))], 0, (self.own, 19 + gro))
        self.run()
        got = [endpoint.recv() for _ in range(endpoint.queued)]
        return {
            "sizes": [len(each.data) for each in got],
            "segment": [each.segment for each in got],
            "same": b"".join(bytes(each.data) for each in got) == data,
        }

    def errors(self):
        """A datagram to a closed port of the kernel's, by UDP and by a raw endpoint's own packet."""
        endpoint = self.endpoint(29)
        endpoint.options.recverr = endpoint.options.recverr6 = True
        v6 = self.family == socket.AF_INET6
        raw = self.stack.raw.open(v6, 58 if v6 else 1)
        endpoint.sendto(b"nobody there", (self.peer, 4), 0)
        self.run()
        report = endpoint.take_error_queue()
        return {
            "errno": errno.errorcode[report.errno],
            "icmp": [report.kind, report.code],
            "offender": report.offender == self.peer,
            "payload": report.payload.decode(),
            "raw": raw.queued,
        }

    def fragments(self):
        """40,000 bytes each way."""
        sock, endpoint = self.socket(37), self.endpoint(39)
        data = os.urandom(40_000)
        endpoint.sendto(data, (self.peer, 37), 0)
        sock.sendto(data, (self.own, 39))
        self.run()
        got = endpoint.recv()
        return {"out": sock.recv(65536) == data, "in": got is not None and bytes(got.data) == data}

    def group(self):
        """A group, joined here and there, spoken to from here and there."""
        v6 = self.family == socket.AF_INET6
        name = "ff05::77" if v6 else "239.7.7.7"
        sock = socket.socket(self.family, socket.SOCK_DGRAM)
        sock.bind((name, 47))
        index = socket.if_nametoindex("dlab0")
        mreq = socket.inet_pton(self.family, name) + struct.pack("=I", index) if v6 else None
        if v6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, mreq)
        else:
            mreq = socket.inet_aton(name) + socket.inet_aton("0.0.0.0") + struct.pack("=i", index)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, mreq)
        endpoint = self.stack.udp.open(v6)
        endpoint.bind(parse_addr(name), 47)
        endpoint.join(parse_addr(name))
        sender = self.socket(57)
        if v6:
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        else:
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(self.kernel))
        self.endpoint(59).sendto(b"from the stack", (parse_addr(name), 47), 0)
        sender.sendto(b"from the kernel", (name, 47))
        self.run()
        sock.setblocking(False)
        heard = sorted(sock.recv(100).decode() for _ in range(2))
        return {"kernel": heard, "stack": sorted(bytes(endpoint.recv().data).decode() for _ in range(endpoint.queued))}


def main():
    family, offload = sys.argv[1], sys.argv[2] == "on"
    lab = Lab(family, offload)
    facts = {
        "segments_out": lab.segments_out(),
        "segments_in": lab.segments_in(False),
        "super_in": lab.segments_in(True),
        "errors": lab.errors(),
        "fragments": lab.fragments(),
        "group": lab.group(),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
