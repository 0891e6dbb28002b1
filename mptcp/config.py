"""The sysctls of Multipath TCP: Linux's under net.mptcp, ours under nuse; stack/config.py tells how to read them."""

from dataclasses import dataclass

from mptcp.pm import DEFAULT as DEFAULT_PM
from mptcp.pm import PATH_MANAGERS
from mptcp.sched import DEFAULT, SCHEDULERS
from stack.knobs import I31, knob


@dataclass(slots=True, eq=False)
class MptcpSysctl:
    """All knobs of one MptcpHost."""

    enabled: int = knob("net.mptcp.enabled", 1, "0: every connection is plain TCP")
    add_addr_timeout: int = knob(
        "net.mptcp.add_addr_timeout",
        120,
        "most seconds until an ADD_ADDR without echo is sent again; 0: never",
        high=I31,
    )
    allow_join_initial_addr_port: int = knob(
        "net.mptcp.allow_join_initial_addr_port",
        1,
        "0: tell the peer to open no subflows to where it connected (C flag)",
    )
    available_path_managers: str = knob(
        "net.mptcp.available_path_managers", "", "those that there are", choices=PATH_MANAGERS, fixed=True
    )
    available_schedulers: str = knob(
        "net.mptcp.available_schedulers", "", "those that there are", choices=SCHEDULERS, fixed=True
    )
    blackhole_timeout: int = knob(
        "net.mptcp.blackhole_timeout",
        3600,
        "seconds without MPTCP after SYNs with it vanished and one without got through; doubled each time; 0: never",
        high=I31,
    )
    checksum_enabled: int = knob("net.mptcp.checksum_enabled", 0, "1: checksums in DSS, RFC 8684 §3.3")
    close_timeout: int = knob(
        "net.mptcp.close_timeout", 60, "seconds that a closed connection waits for its peer's DATA_FIN", high=I31
    )
    path_manager: str = knob(
        "net.mptcp.path_manager", DEFAULT_PM, "who opens subflows of new connections", choices=PATH_MANAGERS
    )
    scheduler: str = knob(
        "net.mptcp.scheduler", DEFAULT, "who chooses among subflows, for new connections", choices=SCHEDULERS
    )
    stale_loss_cnt: int = knob(
        "net.mptcp.stale_loss_cnt", 4, "lost retransmissions after which a subflow counts as stale; 0: never", high=1024
    )
    syn_retrans_before_tcp_fallback: int = knob(
        "net.mptcp.syn_retrans_before_tcp_fallback",
        2,
        "SYNs sent again with MP_CAPABLE before one goes without",
        high=128,
    )
    mptcp_auto_endpoints: int = knob(
        "nuse.mptcp_auto_endpoints", 1, "1: without endpoints, each address of each link is a `subflow` endpoint"
    )
    mptcp_ndiffports: int = knob(
        "nuse.mptcp_ndiffports", 2, "subflows of a connection with the path manager `ndiffports`", low=1, high=8
    )
    mptcp_upgrade: int = knob(
        "nuse.mptcp_upgrade", 0, "1: every TCP socket of a program is one of MPTCP; 0: those that ask (live)"
    )
