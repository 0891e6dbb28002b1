"""Sysctls: one dataclass field each, under Linux's name, with default, bounds and one line of help.

A connection reads them once, when it is made, unless its help says *live*. A sysctl that does nothing does not exist.
"""

from dataclasses import dataclass

from stack.knobs import I31, Value, knob, sysctl_get, sysctl_items, sysctl_set

__all__ = ["Sysctl", "Value", "sysctl_get", "sysctl_items", "sysctl_set"]

CC_NAMES = ["cubic", "reno", "bbr", "dctcp"]  # stack.tcp.cc, which lies above, adds what is registered; a test compares


@dataclass(slots=True, eq=False)
class Sysctl:
    """All knobs of one stack. Python names are the last word of the Linux name."""

    # --- ip
    ip_default_ttl: int = knob("net.ipv4.ip_default_ttl", 64, "TTL and hop limit of what we send", low=1, high=255)
    ip_no_pmtu_disc: int = knob("net.ipv4.ip_no_pmtu_disc", 0, "1: never set DF", high=1)
    ip_local_port_range: tuple[int, ...] = knob(
        "net.ipv4.ip_local_port_range", (32768, 60999), "first and last ephemeral port", low=1, high=65535
    )
    ipfrag_high_thresh: int = knob(
        "net.ipv4.ipfrag_high_thresh", 4194304, "bytes that unfinished datagrams may hold", high=I31
    )
    ipfrag_time: int = knob("net.ipv4.ipfrag_time", 30, "seconds to wait for a missing fragment", low=1, high=3600)
    ip6frag_time: int = knob("net.ipv6.ip6frag_time", 60, "the same for IPv6, RFC 8200 §4.5", low=1, high=3600)
    ipfrag_max_dist: int = knob(
        "net.ipv4.ipfrag_max_dist",
        64,
        "fragments of one source that may come between two of a datagram; 0: any number",
        high=I31,
    )
    ip6frag_high_thresh: int = knob(
        "net.ipv6.ip6frag_high_thresh", 4194304, "the same bound for IPv6 datagrams", high=I31
    )
    auto_flowlabels: int = knob(
        "net.ipv6.auto_flowlabels",
        1,
        "flow labels of UDP and TCP; 0: none, 1: all, 2: if asked, 3: even if not",
        high=3,
    )
    igmp_max_memberships: int = knob(
        "net.ipv4.igmp_max_memberships", 20, "groups that one endpoint may join (live)", high=I31
    )
    igmp_max_msf: int = knob("net.ipv4.igmp_max_msf", 10, "sources in one IPv4 group filter (live)", high=I31)
    mld_max_msf: int = knob("net.ipv6.mld_max_msf", 64, "sources in one IPv6 group filter (live)", high=I31)
    igmp_qrv: int = knob(
        "net.ipv4.igmp_qrv", 2, "times that an IGMP state change is reported, until a querier says", low=1, high=255
    )
    mld_qrv: int = knob("net.ipv6.mld_qrv", 2, "the same for MLD", low=1, high=255)
    icmp_echo_ignore_all: int = knob("net.ipv4.icmp_echo_ignore_all", 0, "1: do not answer ping (live)")
    icmp6_echo_ignore_all: int = knob("net.ipv6.icmp.echo_ignore_all", 0, "the same for IPv6 (live)")
    icmp_echo_ignore_broadcasts: int = knob(
        "net.ipv4.icmp_echo_ignore_broadcasts", 1, "1: do not answer pings to broadcast or a group (live)"
    )
    icmp6_echo_ignore_multicast: int = knob(
        "net.ipv6.icmp.echo_ignore_multicast", 0, "1: do not answer pings to an IPv6 group (live)"
    )
    icmp_ratemask: int = knob(
        "net.ipv4.icmp_ratemask", 6168, "bit n: messages of type n are rate-limited (live)", high=I31
    )
    icmp6_ratelimit: int = knob(
        "net.ipv6.icmp.ratelimit", 1000, "milliseconds between ICMPv6 errors to one target (live)", high=I31
    )
    icmp_ratelimit: int = knob(
        "net.ipv4.icmp_ratelimit", 1000, "milliseconds between ICMP errors to one target (live)", high=I31
    )
    icmp_msgs_per_sec: int = knob(
        "net.ipv4.icmp_msgs_per_sec", 10000, "ICMP errors sent per second, all targets (live)", low=1, high=I31
    )
    icmp_msgs_burst: int = knob(
        "net.ipv4.icmp_msgs_burst", 50, "ICMP errors sent at once, all targets (live)", high=I31
    )
    rmem_default: int = knob(
        "net.core.rmem_default", 212992, "receive buffer of UDP and echo sockets, bytes", low=2304, high=I31
    )
    wmem_default: int = knob(
        "net.core.wmem_default", 212992, "send buffer of UDP, echo and raw sockets, bytes", low=4608, high=I31
    )
    strong_host: int = knob(
        "nuse.strong_host", 0, "1: take packets for an address only on the link that has it, RFC 1122 §3.3.4.2 (live)"
    )
    # --- tcp
    tcp_window_scaling: int = knob("net.ipv4.tcp_window_scaling", 1, "offer and accept window scale, RFC 7323")
    tcp_timestamps: int = knob("net.ipv4.tcp_timestamps", 1, "offer and accept timestamps, RFC 7323")
    tcp_sack: int = knob("net.ipv4.tcp_sack", 1, "offer and accept SACK, RFC 2018")
    tcp_dsack: int = knob("net.ipv4.tcp_dsack", 1, "report duplicates in a first SACK block, RFC 2883")
    tcp_ecn: int = knob(
        "net.ipv4.tcp_ecn",
        2,
        "RFC 3168: 1 ask and accept, 2 accept only, 0 neither; RFC 9768: 3 ask and accept, 4 accept and ask for the "
        "former, 5 accept only",
        high=5,
    )
    tcp_ecn_option: int = knob(
        "net.ipv4.tcp_ecn_option", 2, "AccECN options, RFC 9768: 0 none, 1 few, 2 with each ACK that has room", high=2
    )
    tcp_ecn_option_beacon: int = knob(
        "net.ipv4.tcp_ecn_option_beacon", 3, "few of them: so many a round trip at least", high=63
    )
    tcp_ecn_fallback: int = knob("net.ipv4.tcp_ecn_fallback", 1, "a SYN sent again asks for no ECN")
    tcp_rmem: tuple[int, ...] = knob(
        "net.ipv4.tcp_rmem", (4096, 131072, 6291456), "receive buffer: least, at first, most; bytes", low=1, high=I31
    )
    tcp_wmem: tuple[int, ...] = knob(
        "net.ipv4.tcp_wmem", (4096, 16384, 4194304), "send buffer: least, at first, most; bytes", low=1, high=I31
    )
    tcp_congestion_control: str = knob(
        "net.ipv4.tcp_congestion_control", "cubic", "congestion control of new connections", choices=CC_NAMES
    )
    tcp_available_congestion_control: str = knob(
        "net.ipv4.tcp_available_congestion_control", "", "those that there are", choices=CC_NAMES, fixed=True
    )
    tcp_allowed_congestion_control: str = knob(
        "net.ipv4.tcp_allowed_congestion_control",
        "",
        "those that a program may choose by TCP_CONGESTION (live)",
        choices=CC_NAMES,
        several=True,
    )
    tcp_pacing_ss_ratio: int = knob(
        "net.ipv4.tcp_pacing_ss_ratio", 200, "pacing rate in slow start, percent of cwnd/srtt", high=1000
    )
    tcp_pacing_ca_ratio: int = knob(
        "net.ipv4.tcp_pacing_ca_ratio", 120, "pacing rate after slow start, percent of cwnd/srtt", high=1000
    )
    tcp_min_tso_segs: int = knob(
        "net.ipv4.tcp_min_tso_segs", 2, "segments in the smallest super-segment of a paced connection", low=1, high=44
    )
    tcp_tso_win_divisor: int = knob(
        "net.ipv4.tcp_tso_win_divisor",
        3,
        "part of the window that is worth a packet where an ACK is about to open more of it; 0: three segments are",
        high=255,
    )
    tcp_min_rtt_wlen: int = knob(
        "net.ipv4.tcp_min_rtt_wlen", 300, "seconds that the minimum round-trip time is taken over", high=86400
    )
    tcp_abe: int = knob("nuse.tcp_abe", 0, "1: a mark costs less of the window than a loss, RFC 8511")
    tcp_syn_retries: int = knob(
        "net.ipv4.tcp_syn_retries", 6, "SYNs sent again before connect times out", low=1, high=127
    )
    tcp_synack_retries: int = knob("net.ipv4.tcp_synack_retries", 5, "SYN-ACKs sent again before giving up", high=255)
    tcp_retries1: int = knob("net.ipv4.tcp_retries1", 3, "retransmissions before a black hole is suspected", high=255)
    tcp_retries2: int = knob("net.ipv4.tcp_retries2", 15, "retransmissions before a live connection dies", high=255)
    tcp_orphan_retries: int = knob("net.ipv4.tcp_orphan_retries", 0, "the same for closed sockets; 0 means 8", high=255)
    tcp_max_orphans: int = knob(
        "net.ipv4.tcp_max_orphans", 131072, "connections without a program; more are reset (live)", high=I31
    )
    tcp_fin_timeout: int = knob(
        "net.ipv4.tcp_fin_timeout", 60, "seconds an orphan stays in FIN-WAIT-2", low=1, high=3600
    )
    tcp_keepalive_time: int = knob(
        "net.ipv4.tcp_keepalive_time", 7200, "idle seconds before a probe", low=1, high=32767
    )
    tcp_keepalive_intvl: int = knob("net.ipv4.tcp_keepalive_intvl", 75, "seconds between probes", low=1, high=32767)
    tcp_keepalive_probes: int = knob(
        "net.ipv4.tcp_keepalive_probes", 9, "unanswered probes before death", low=1, high=127
    )
    tcp_rto_min_us: int = knob("net.ipv4.tcp_rto_min_us", 200000, "floor of the RTO, µs", low=1, high=120_000_000)
    tcp_rto_max_ms: int = knob("net.ipv4.tcp_rto_max_ms", 120000, "ceiling of the RTO, ms", low=1000, high=120000)
    tcp_reordering: int = knob("net.ipv4.tcp_reordering", 3, "duplicate ACKs that mean loss, at first", low=1, high=300)
    tcp_max_reordering: int = knob(
        "net.ipv4.tcp_max_reordering", 300, "segments of reordering to get used to at most (live)", low=1, high=I31
    )
    tcp_frto: int = knob("net.ipv4.tcp_frto", 2, "0: take every timeout for a loss; else F-RTO, RFC 5682", high=2)
    tcp_thin_linear_timeouts: int = knob(
        "net.ipv4.tcp_thin_linear_timeouts", 0, "1: no back-off for the first six timeouts of a thin stream (live)"
    )
    tcp_early_retrans: int = knob("net.ipv4.tcp_early_retrans", 3, "0: no tail loss probe; 3: RACK-TLP", high=4)
    tcp_recovery: int = knob(
        "net.ipv4.tcp_recovery", 1, "1: RACK, RFC 8985; 2: fixed reordering window; 4: no DupThresh", high=7
    )
    tcp_syncookies: int = knob(
        "net.ipv4.tcp_syncookies", 1, "1: cookies when the backlog is full, 2: always, 0: drop SYNs (live)", high=2
    )
    tcp_max_syn_backlog: int = knob(
        "net.ipv4.tcp_max_syn_backlog", 2048, "bound of a backlog where cookies are off (live)", low=1, high=I31
    )
    tcp_abort_on_overflow: int = knob(
        "net.ipv4.tcp_abort_on_overflow", 0, "1: RST where the accept queue is full (live)"
    )
    somaxconn: int = knob("net.core.somaxconn", 4096, "ceiling of listen()'s backlog", low=1, high=65535)
    tcp_max_tw_buckets: int = knob("net.ipv4.tcp_max_tw_buckets", 131072, "connections in TIME-WAIT (live)", high=I31)
    tcp_fastopen: int = knob(
        "net.ipv4.tcp_fastopen",
        1,
        "RFC 7413, bits: 1 client, 2 server, 4 client without cookie, 0x200 server without, 0x400 all listeners (live)",
        high=0x7FF,
    )
    tcp_fastopen_blackhole_timeout_sec: int = knob(
        "net.ipv4.tcp_fastopen_blackhole_timeout_sec",
        0,
        "seconds without it after lost SYNs; 0: never (live)",
        high=I31,
    )
    tcp_tw_reuse: int = knob(
        "net.ipv4.tcp_tw_reuse", 2, "connect may follow TIME-WAIT: 1 always, 2 over loopback (live)", high=2
    )
    tcp_tw_reuse_delay: int = knob("net.ipv4.tcp_tw_reuse_delay", 1000, "ms before it may (live)", low=1, high=60000)
    tcp_rfc1337: int = knob("net.ipv4.tcp_rfc1337", 0, "1: a reset does not end TIME-WAIT, RFC 1337 (live)")
    tcp_slow_start_after_idle: int = knob(
        "net.ipv4.tcp_slow_start_after_idle", 1, "shrink cwnd after an idle RTO, RFC 5681 §4.1"
    )
    tcp_challenge_ack_limit: int = knob(
        "net.ipv4.tcp_challenge_ack_limit", I31, "challenge ACKs per second, RFC 5961 §7 (live)", high=I31
    )
    tcp_invalid_ratelimit: int = knob(
        "net.ipv4.tcp_invalid_ratelimit", 500, "ms between ACKs of invalid segments (live)", high=I31
    )
    tcp_mtu_probing: int = knob(
        "net.ipv4.tcp_mtu_probing", 0, "RFC 4821: 1 when a black hole is suspected, 2 always", high=2
    )
    tcp_mtu_probe_floor: int = knob(
        "net.ipv4.tcp_mtu_probe_floor", 48, "least MSS that black hole detection goes down to", low=48, high=65535
    )
    tcp_probe_threshold: int = knob("net.ipv4.tcp_probe_threshold", 8, "bytes at which the search ends", high=65535)
    tcp_probe_interval: int = knob("net.ipv4.tcp_probe_interval", 600, "seconds until it begins again", high=I31)
    tcp_base_mss: int = knob("net.ipv4.tcp_base_mss", 1024, "first probe size of PLPMTUD", low=48, high=65535)
    tcp_min_snd_mss: int = knob("net.ipv4.tcp_min_snd_mss", 48, "least MSS a peer can make us use", low=48, high=65535)
