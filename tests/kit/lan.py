"""A stack with one link, spoken to packet by packet: what the tests of everything below TCP stand on.

`Lan.give` hands the stack a packet, `Lan.take` collects what it answers, put together from fragments by naive code and
judged by `kit.oracle`.
"""

import errno
from dataclasses import dataclass, field

import dpkt
import pytest

from kit.oracle import Packet, decode, joined
from stack import Link, Stack, StackError
from stack.config import Sysctl
from stack.ip.addr import ANY6, parse_addr
from stack.udp import UdpEndpoint
from stack.units import Nanos

SECRET = bytes(range(32))
US4, PEER4 = parse_addr("10.64.0.2"), parse_addr("10.64.0.1")
US6, PEER6 = parse_addr("fd64::2"), parse_addr("fd64::1")
BROADCAST4 = parse_addr("10.64.0.255")
ENDS = {"v4": (PEER4, US4), "v6": (PEER6, US6)}


@dataclass(slots=True, eq=False)
class Lan:
    """The stack, its link and the time."""

    mtu: int = 1500
    offload: bool = True
    sysctl: Sysctl = field(default_factory=Sysctl)
    now: Nanos = 0
    stack: Stack = field(init=False)
    link: Link = field(init=False)

    def __post_init__(self) -> None:
        self.stack = Stack(sysctl=self.sysctl, secret=SECRET, now=self.now)
        self.link = self.stack.add_link("tun0", [(US4, 24), (US6, 64)], self.mtu, self.offload)

    def give(self, *packets: bytes) -> None:
        """Let the stack receive these packets, and hold its invariants after each."""
        for packet in packets:
            self.stack.receive(packet, self.now, self.link)
            self.stack.check()

    def raw(self) -> list[bytes]:
        """Everything the stack has to send, as bytes with the vnet header."""
        out = []
        while (packet := self.stack.poll_transmit(self.now)) is not None:
            link, iovec = packet
            assert link is self.link
            out.append(joined(iovec))
        self.stack.check()
        return out

    def take(self) -> list[Packet]:
        """Everything the stack has to send, whole and verified."""
        return [decode(packet) for packet in defragment(self.raw(), self.mtu)]

    def pass_time(self, span: Nanos) -> None:
        """Let time pass, with a call of `handle_timeout` at each deadline."""
        end = self.now + span
        while (due := self.stack.poll_timeout()) is not None and due <= end:
            self.now = max(self.now, due)
            self.stack.handle_timeout(self.now)
            self.stack.check()
        self.now = end
        self.stack.handle_timeout(end)

    def __getitem__(self, counter: str) -> int:
        value: int = getattr(self.stack.mib, counter)
        return value


def defragment(packets: list[bytes], mtu: int) -> list[bytes]:
    """Join fragments, which must come in order and without gaps, into packets of any size."""
    whole: list[bytes] = []
    body = b""
    for packet in packets:
        net = packet[10:]
        assert len(net) <= mtu, f"{len(net)} bytes on a link of MTU {mtu}"
        if net[0] >> 4 == 4:
            ip = dpkt.ip.IP(net)
            offset, more, data = ip.offset * 8, bool(ip.mf), net[20:]
        elif net[6] == 44:
            frag = dpkt.ip6.IP6FragmentHeader(net[40:48])
            offset, more, data = frag.frag_off * 8, bool(frag.m_flag), net[48:]
        else:
            offset, more, data = 0, False, b""
        if not offset and not more:
            assert not body
            whole.append(packet)
            continue
        assert offset == len(body), "a fragment out of order"
        assert dpkt.dpkt.in_cksum(net[:20]) == 0 or net[0] >> 4 == 6
        body += data
        if not more:
            whole.append(packet[:10] + _rebuilt(net, body))
            body = b""
    assert not body, "the last fragment is missing"
    return whole


def _rebuilt(net: bytes, body: bytes) -> bytes:
    if net[0] >> 4 == 6:
        return net[:4] + len(body).to_bytes(2, "big") + net[40:41] + net[7:40] + body
    ip = dpkt.ip.IP(src=net[12:16], dst=net[16:20], p=net[9], ttl=net[8], tos=net[1], data=body)
    return bytes(ip)


def fragments(packet: bytes, size: int, ident: int = 7) -> list[bytes]:
    """Cut a packet (vnet header, IPv4 or IPv6 without options) into fragments of `size` payload bytes."""
    net = packet[10:]
    v4 = net[0] >> 4 == 4
    body = net[20 if v4 else 40 :]
    return [
        fragment(packet, at, body[at : at + size], at + size < len(body), ident) for at in range(0, len(body), size)
    ]


def fragment(packet: bytes, offset: int, data: bytes, more: bool, ident: int = 7) -> bytes:
    """One fragment with the addresses and protocol of `packet`."""
    net = packet[10:]
    if net[0] >> 4 == 4:
        ip = dpkt.ip.IP(src=net[12:16], dst=net[16:20], p=net[9], ttl=net[8], tos=net[1], id=ident, data=data)
        ip.offset, ip.mf = offset // 8, int(more)
        return bytes(10) + bytes(ip)
    head = bytes((net[6], 0)) + (offset | more).to_bytes(2, "big") + ident.to_bytes(4, "big")
    return bytes(10) + net[:4] + (len(data) + 8).to_bytes(2, "big") + bytes((44,)) + net[7:40] + head + data


def bound(lan: Lan, addr: bytes = ANY6, port: int = 7, **options: bool) -> UdpEndpoint:
    """A UDP endpoint of the family of `addr`."""
    endpoint = lan.stack.udp.open(len(addr) == 16)
    endpoint.bind(addr, port, **options)
    return endpoint


def refused(code: int) -> pytest.RaisesExc[StackError]:
    """StackError with this errno."""
    return pytest.raises(StackError, match=errno.errorcode[code])
