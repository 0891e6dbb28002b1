"""The bytes of one packet of a connection: `build` writes its headers into the connection's own buffer.

Whatever ACK, window, timestamp and SACK are due ride on it (RFC 9293 §3.1, RFC 7323 §3, RFC 2018 §3); what a connection
has in common for all its packets is computed once. tcp/output.py decides what to send. The caller sends or copies the
headers before it asks again; text stays what it is, views of what the program wrote.
"""

from collections.abc import Sequence
from struct import Struct
from typing import TYPE_CHECKING

from stack.checksum import finish, ones_sum
from stack.ip.link import IP_MAX, Link
from stack.seq import MASK32
from stack.tcp import timers as T
from stack.tcp.urgent import pointer_for
from stack.units import MSEC, Nanos
from stack.wire.tcp import ACK, CWR, RST, SYN, URG
from stack.wire.tcp_options import TS_OPTION, TS_OPTION_LEN, TS_PREFIX_INT, emit_sack
from stack.wire.vnet import GSO_ECN, GSO_TCPV4, GSO_TCPV6, NEEDS_CSUM, VNET, VNET_LEN, VNET_NONE

if TYPE_CHECKING:
    from stack.tcp.conn import TcpConn

Packet = tuple[Link, Sequence[bytes | bytearray | memoryview]]

IP4 = Struct("!BBHHHBBH4s4s")
IP6 = Struct("!IHBB16s16s")
TCP = Struct("!HHIIHHHH")
JUMBO = Struct("!BBBBI")  # hop-by-hop header with the jumbo payload option alone, RFC 2675 §2
JUMBO_OPTION, JUMBO_OPTION_LEN = 0xC2, 4
DF = 0x4000
MAX_OPTIONS = 40
SACK_LEAST = 12  # bytes of a SACK option with one block, padded


def select_window(conn: "TcpConn") -> int:
    """The window to advertise, in bytes, a multiple of the scale; its right edge never moves left.

    RFC 9293 §3.8.6.2.2 and Linux's __tcp_select_window: nothing below an MSS or half the buffer is offered afresh.
    """
    tcb = conn.tcb
    free = conn.rcvbuf.size - conn.recvq.readable
    if conn.ext is not None:
        free = conn.ext.rcv_window(conn, free)
    left = tcb.rcv_wup + tcb.rcv_wnd - tcb.rcv_nxt
    if free < min(conn.rcvbuf.size // 2, tcb.advmss):
        free = 0
    scale = tcb.rcv_wscale
    limit = 65535 << scale
    wnd = min(free, limit) >> scale << scale
    if wnd < left:
        # Round the old edge up, or the scale would shrink it.
        wnd = min(-(-left >> scale) << scale, limit)
    mib = conn.demux.mib
    if not wnd and tcb.rcv_wnd:
        mib.TcpExtTCPToZeroWindowAdv += 1
    elif wnd and not tcb.rcv_wnd:
        mib.TcpExtTCPFromZeroWindowAdv += 1
    return wnd


def build(
    conn: "TcpConn",
    seq: int,
    flags: int,
    views: list[memoryview],
    size: int,
    now: Nanos,
    syn_options: bytes = b"",
    fresh: bool = False,
    whole: bool = False,
) -> Packet:
    """Headers for one packet in the connection's buffer, with whatever ACK, window, timestamp and SACK are due."""
    tcb = conn.tcb
    link = conn.link
    hdr = conn.hdr
    offload = link.offload
    rcv_nxt = tcb.rcv_nxt
    if flags & SYN:
        wnd = tcb.rcv_wnd
        options = syn_options
        ts_len = 0
    else:
        if conn.window_stale or tcb.rcv_wup != rcv_nxt:
            tcb.rcv_wnd = select_window(conn)
            conn.window_stale = False
        wnd = tcb.rcv_wnd >> tcb.rcv_wscale
        ts_len = TS_OPTION_LEN if tcb.ts_ok else 0
        options = b""
        if conn.ext is not None:
            options = conn.ext.options(conn, flags, MAX_OPTIONS - ts_len, seq, size, now)
        if conn.dsack or conn.recvq.sacks:
            options += _sack_option(conn, MAX_OPTIONS - ts_len - len(options))
    ect = 0
    gso_ecn = 0
    if conn.ecn is not None:
        if not flags & SYN:
            ect = conn.ecn.ect(fresh, conn.cc.l4s)
            if not size and not flags & RST:
                options += conn.ecn.option(conn, MAX_OPTIONS - ts_len - len(options), now)
        flags = conn.ecn.flags_for(flags, fresh)
        gso_ecn = GSO_ECN if flags & CWR else 0
    opt_len = len(options)
    tcp_len = 20 + ts_len + opt_len
    l3_len = 20
    if conn.v6:
        l3_len = 40 if tcp_len + size <= IP_MAX else 48
    l4 = VNET_LEN + l3_len
    end = l4 + tcp_len
    ack = 0
    if flags & ACK:
        ack = rcv_nxt & MASK32
        tcb.rcv_wup = tcb.last_ack_sent = rcv_nxt
        conn.ack_due = False
        conn.timers.at[T.DELACK] = T.NEVER
    segs = 1
    if not offload:
        hdr[:VNET_LEN] = VNET_NONE
    elif size > (mss := tcb.mss_cache - opt_len) and not whole:
        gso = gso_ecn | (GSO_TCPV6 if conn.v6 else GSO_TCPV4)
        VNET.pack_into(hdr, 0, NEEDS_CSUM, gso, l3_len + tcp_len, mss, l3_len, 16)
        segs = -(-size // mss)
    else:
        VNET.pack_into(hdr, 0, NEEDS_CSUM, 0, 0, 0, l3_len, 16)
    if not conn.ip_base:
        _cache_ip(conn)
    if conn.v6:
        length, after = tcp_len + size, 6
        if length > IP_MAX:
            JUMBO.pack_into(hdr, VNET_LEN + 40, 6, 0, JUMBO_OPTION, JUMBO_OPTION_LEN, length + 8)
            length = after = 0
        IP6.pack_into(hdr, VNET_LEN, conn.ip_base | ect << 20, length, after, conn.ttl, conn.local[0], conn.remote[0])
    else:
        ident = conn.ip_id
        conn.ip_id = (ident + segs) & 0xFFFF
        total = 20 + tcp_len + size
        if total > IP_MAX:
            total = 0  # BIG TCP over IPv4, Linux 6.3: whoever cuts the packet knows its length anyway
        tos, frag, ttl = conn.tos | ect, conn.ip_frag, conn.ttl
        csum = -(conn.ip_base + ect + total + ident) % 0xFFFF
        IP4.pack_into(hdr, VNET_LEN, 0x45, tos, total, ident, frag, ttl, 6, csum, conn.local[0], conn.remote[0])
    pseudo = (conn.pseudo_sum + tcp_len + size) % 0xFFFF
    urg = 0
    if conn.snd_up > seq and not flags & SYN:
        urg = pointer_for(conn, seq)
        flags |= URG
    TCP.pack_into(hdr, l4, conn.local[1], conn.remote[1], seq & MASK32, ack, tcp_len << 10 | flags, wnd, pseudo, urg)
    if ts_len:
        TS_OPTION.pack_into(hdr, l4 + 20, TS_PREFIX_INT, (now // MSEC + tcb.ts_offset) & MASK32, tcb.ts_recent)
    if opt_len:
        hdr[end - opt_len : end] = options
    if not offload:
        _complete_checksum(hdr, l4, end, views)
    conn.counts.segs_out += segs
    conn.demux.mib.TcpOutSegs += segs
    stats = link.stats
    stats.tx_packets += 1
    stats.tx_bytes += end - VNET_LEN + size
    head = memoryview(hdr)[:end]
    return link, (head, *views) if views else (head,)


def _cache_ip(conn: "TcpConn") -> None:
    """What the IP header of every packet has in common; made anew after a change of TOS or TTL."""
    options, knobs = conn.options, conn.demux.sysctl
    conn.ttl = options.ttl or knobs.ip_default_ttl
    conn.tos = options.tos & ~3  # the ECN field is ours
    addresses = ones_sum(conn.local[0]) + ones_sum(conn.remote[0])
    conn.pseudo_sum = addresses + 6
    if conn.v6:
        conn.ip_base = 6 << 28 | conn.tos << 20 | conn.flow_label
    else:
        conn.ip_frag = 0 if knobs.ip_no_pmtu_disc else DF
        conn.ip_base = 0x4500 + conn.tos + conn.ip_frag + (conn.ttl << 8 | 6) + addresses


def _sack_option(conn: "TcpConn", room: int) -> bytes:
    """D-SACK first, then the blocks, as many as fit (RFC 2018 §3, RFC 2883 §4); none is forgotten for lack of room."""
    if not conn.tcb.sack_ok:
        conn.dsack = None
        return b""
    if room < SACK_LEAST:
        return b""
    blocks = conn.recvq.sacks
    if conn.dsack:
        blocks = [conn.dsack, *blocks]
        conn.dsack = None
    return emit_sack([(left & MASK32, right & MASK32) for left, right in blocks[: (room - 4) // 8]])


def _complete_checksum(hdr: bytearray, l4: int, end: int, views: list[memoryview]) -> None:
    """Without offload the checksum is done here; the field already holds the pseudo-header's sum."""
    total = ones_sum(memoryview(hdr)[l4:end])
    odd = False
    for view in views:
        part = ones_sum(view)
        total += (part << 8) % 0xFFFF if odd else part
        odd ^= bool(len(view) & 1)
    hdr[l4 + 16 : l4 + 18] = finish(total).to_bytes(2, "big")
