"""A read-only picture of a connection, in the words of struct tcp_info (include/uapi/linux/tcp.h), for ss and tests."""

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class TcpInfo:
    """Times are µs and sizes bytes unless the kernel's field counts segments (cwnd, ssthresh, unacked, sacked …)."""

    state: str
    ca_state: str
    congestion: str
    retransmits: int
    backoff: int
    options: list[str]
    snd_wscale: int
    rcv_wscale: int
    rto: int
    ato: int
    snd_mss: int
    rcv_mss: int
    advmss: int
    unacked: int
    sacked: int
    lost: int
    retrans: int
    total_retrans: int
    pmtu: int
    rcv_ssthresh: int
    rtt: int
    rttvar: int
    snd_ssthresh: int
    snd_cwnd: int
    reordering: int
    rcv_rtt: int
    rcv_space: int
    pacing_rate: int
    delivery_rate: int
    min_rtt: int
    bytes_sent: int
    bytes_acked: int
    bytes_received: int
    bytes_retrans: int
    segs_out: int
    segs_in: int
    data_segs_out: int
    data_segs_in: int
    delivered: int
    notsent_bytes: int
    snd_wnd: int
    rcv_wnd: int
    dsack_dups: int
    reord_seen: int
    rcv_ooopack: int
    last_data_sent: int
    last_data_recv: int
    last_ack_recv: int
    probes: int
    delivered_ce: int
    delivery_rate_app_limited: int
    total_rto: int
    total_rto_recoveries: int
    total_rto_time: int
    timer: str
    timer_ms: int
