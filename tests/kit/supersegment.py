"""GSO super-segments as the kernel hands them out, built with dpkt."""

import socket

import dpkt

from stack.wire.vnet import GSO_ECN, GSO_TCPV4, GSO_TCPV6, NEEDS_CSUM, VNET

A4, B4 = socket.inet_aton("10.64.0.1"), socket.inet_aton("10.64.0.2")
A6, B6 = socket.inet_pton(socket.AF_INET6, "fd64::1"), socket.inet_pton(socket.AF_INET6, "fd64::2")
ALL_FLAGS = dpkt.tcp.TH_FIN | dpkt.tcp.TH_PUSH | dpkt.tcp.TH_ACK | dpkt.tcp.TH_CWR


def ip_packet(version: int, transport: dpkt.Packet, proto: int) -> bytes:
    raw = bytes(transport)
    if version == 4:
        return bytes(dpkt.ip.IP(src=A4, dst=B4, p=proto, id=0xFFFE, df=1, data=raw, len=20 + len(raw)))
    return bytes(dpkt.ip6.IP6(src=A6, dst=B6, nxt=proto, hlim=64, data=raw, plen=len(raw)))


def super_segment(version: int, payload: bytes, mss: int, flags: int = ALL_FLAGS) -> bytes:
    tcp = dpkt.tcp.TCP(sport=1, dport=2, seq=0xFFFF_FF00, ack=7, flags=flags, opts=b"\1\1\x08\x0a" + bytes(8), sum=1)
    tcp.off = 8
    tcp.data = payload
    kind = (GSO_TCPV4 if version == 4 else GSO_TCPV6) | GSO_ECN
    start = 20 if version == 4 else 40
    return VNET.pack(NEEDS_CSUM, kind, 0, mss, start, 16) + ip_packet(version, tcp, 6)
