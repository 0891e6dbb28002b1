"""struct tcp_info in the kernel's binary layout (include/uapi/linux/tcp.h of Linux 6.18: 280 bytes)."""

import struct
from typing import TYPE_CHECKING

from nuse.shim.opttable import SO_MAX_PACING_RATE
from stack.tcp.castate import CA_NAMES
from stack.tcp.info import TcpInfo
from stack.tcp.state import State

if TYPE_CHECKING:
    from nuse.shim.sock import Socket
    from nuse.shim.stream import StreamSocket

_INFO = struct.Struct("=8B24I4Q6I4Q2I2Q6I2HI7I2H")
_FIELDS = 68
NO_LIMIT = 2**64 - 1  # of a pacing rate, bytes a second
_BBR_INFO = struct.Struct("=5I")
_DCTCP_INFO = struct.Struct("=2H3I")
_OPTION_BITS = {"ts": 1, "sack": 2, "wscale": 4, "ecn": 8, "ecnseen": 16}
_LISTEN, _CLOSE = State.LISTEN.value, State.CLOSED.value
_CA = list(CA_NAMES)
_NO_ACCECN = (0,) * 9  # received_ce, six counts of bytes, fail_mode, opt_seen


def pack_tcp_info(sock: "StreamSocket") -> bytes:
    """What getsockopt(TCP_INFO) gives; without a connection only the state is set, for a listener its queue as well."""
    if sock.conn is None:
        zeros = [0] * _FIELDS
        zeros[0] = _CLOSE
        zeros[32] = zeros[33] = max_pacing_rate(sock)
        if sock.listener is not None:
            zeros[0], zeros[12], zeros[13] = _LISTEN, sock.queued, sock.listener.backlog
        return _INFO.pack(*zeros)
    return pack_info(sock.conn.info(sock.hub.now()), max_pacing_rate(sock))


def pack_info(i: TcpInfo, max_rate: int = NO_LIMIT) -> bytes:
    """struct tcp_info of one connection."""
    return _INFO.pack(
        State[i.state].value,
        _CA.index(i.ca_state) if i.ca_state in _CA else 0,
        i.retransmits,
        i.probes & 0xFF,
        i.backoff,
        sum(_OPTION_BITS.get(word, 0) for word in i.options),
        i.snd_wscale | i.rcv_wscale << 4,
        i.delivery_rate_app_limited,  # and fastopen_client_fail
        i.rto,
        i.ato,
        i.snd_mss,
        i.rcv_mss,
        i.unacked,
        i.sacked,
        i.lost,
        i.retrans,
        0,  # fackets
        i.last_data_sent,
        0,  # last_ack_sent: not kept by Linux either
        i.last_data_recv,
        i.last_ack_recv,
        i.pmtu,
        i.rcv_ssthresh,
        i.rtt,
        i.rttvar,
        i.snd_ssthresh,
        i.snd_cwnd,
        i.advmss,
        i.reordering,
        i.rcv_rtt,
        i.rcv_space,
        i.total_retrans,
        i.pacing_rate or NO_LIMIT,
        max_rate,
        i.bytes_acked,
        i.bytes_received,
        i.segs_out & 0xFFFFFFFF,
        i.segs_in & 0xFFFFFFFF,
        i.notsent_bytes,
        i.min_rtt,
        i.data_segs_in & 0xFFFFFFFF,
        i.data_segs_out & 0xFFFFFFFF,
        i.delivery_rate,
        0,  # busy_time
        0,  # rwnd_limited
        0,  # sndbuf_limited
        i.delivered & 0xFFFFFFFF,
        i.delivered_ce & 0xFFFFFFFF,
        i.bytes_sent,
        i.bytes_retrans,
        i.dsack_dups,
        i.reord_seen,
        i.rcv_ooopack,
        i.snd_wnd,
        i.rcv_wnd,
        0,  # rehash
        i.total_rto & 0xFFFF,
        i.total_rto_recoveries & 0xFFFF,
        i.total_rto_time & 0xFFFFFFFF,
        *_NO_ACCECN,
    )


def pack_cc_info(sock: "StreamSocket") -> bytes:
    """union tcp_cc_info (linux/inet_diag.h) of the congestion control; empty if that has nothing to tell."""
    conn = sock.tcp
    values = conn.cc.info(sock.hub.now()) if conn is not None else {}
    if "bbr_bw_lo" in values:
        return _BBR_INFO.pack(*values.values())
    return _DCTCP_INFO.pack(*values.values()) if "dctcp_enabled" in values else b""


def max_pacing_rate(sock: "Socket") -> int:
    """SO_MAX_PACING_RATE as it was set, bytes a second."""
    rate: int = sock.values.get(SO_MAX_PACING_RATE, NO_LIMIT)
    return rate
