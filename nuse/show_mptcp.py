"""mptcp_info as `ss -Mi` prints it (iproute2 misc/ss.c, mptcp_stats_print): its words, its order, no zeros."""

from collections.abc import Mapping
from typing import Any

FALLBACK, REMOTE_KEY = 1, 2
BEFORE = ["subflows", "add_addr_signal", "add_addr_accepted", "subflows_max"]
BEFORE += ["add_addr_signal_max", "add_addr_accepted_max"]
HEX = ["token", "write_seq", "snd_una", "rcv_nxt"]
AFTER = ["local_addr_used", "local_addr_max", "csum_enabled", "retransmits", "bytes_retrans", "bytes_sent"]
AFTER += ["bytes_received", "bytes_acked", "subflows_total", "last_data_sent", "last_data_recv", "last_ack_recv"]


def mptcp_words(info: Mapping[str, Any]) -> str:
    """One line of `ss -Mi`."""
    words = [f"{name}:{info[name]}" for name in BEFORE if info[name]]
    words += [word for word, bit in (("fallback", FALLBACK), ("remote_key", REMOTE_KEY)) if info["flags"] & bit]
    words += [f"{name}:{info[name]:x}" for name in HEX if info[name]]
    words += [f"{name}:{info[name]}" for name in AFTER if info[name]]
    return " ".join(words)
