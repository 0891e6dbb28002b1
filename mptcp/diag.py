"""What a connection and its subflows are doing, read from the outside: for MPTCP_INFO, `ss -M` and `ss -ti`."""

from typing import TYPE_CHECKING

from mptcp.info import FALLBACK, REMOTE_KEY_RECEIVED, MptcpInfo
from mptcp.pm.endpoint import FULLMESH, SIGNAL, SUBFLOW
from stack.units import Nanos

if TYPE_CHECKING:
    from mptcp.connection import MptcpConn
    from mptcp.host import MptcpHost
    from mptcp.subflow import Subflow

_U8, _U32, _U64 = (1 << 8) - 1, (1 << 32) - 1, (1 << 64) - 1


def snapshot(host: "MptcpHost", meta: "MptcpConn | None", now: Nanos) -> MptcpInfo:
    """struct mptcp_info of a connection; without one only what is the host's is set."""
    pm = host.pm
    flags = [endpoint.flags for endpoint in pm.endpoints]
    info = MptcpInfo(
        subflows_max=min(pm.limits.subflows, _U8),
        add_addr_signal_max=sum(bool(each & SIGNAL) for each in flags),
        add_addr_accepted_max=min(pm.limits.add_addr_accepted, _U8),
        local_addr_max=sum(bool(each & SUBFLOW) for each in flags),
        endp_fullmesh_max=sum(bool(each & FULLMESH) for each in flags),
    )
    if meta is not None:
        _fill(info, meta, now)
    return info


def _fill(info: MptcpInfo, meta: "MptcpConn", now: Nanos) -> None:
    tx, paths = meta.tx, meta.paths
    subflows = [sub for sub in meta.subflows if sub.joined]
    joined = [sub for sub in subflows if not sub.initial]
    info.subflows = len(joined)
    info.subflows_total = len(subflows)
    info.local_addr_used = len({sub.local_id for sub in joined if not sub.conn.passive})
    if paths is not None and paths.signals is not None:
        info.add_addr_signal = len(paths.signals.announced)
        info.add_addr_accepted = len(paths.remotes)
    info.flags = FALLBACK * bool(meta.fallback) | REMOTE_KEY_RECEIVED * bool(meta.key_remote)
    info.token = meta.token
    info.write_seq, info.snd_una, info.rcv_nxt = meta.write_seq & _U64, meta.snd_una & _U64, meta.rcv_nxt & _U64
    info.csum_enabled = int(meta.checksum)
    info.retransmits = tx.retransmitted & _U32
    info.bytes_retrans = tx.bytes_retransmitted
    info.bytes_sent = max(min(tx.nxt, tx.queue.end) - tx.first, 0)
    info.bytes_acked = max(min(tx.una, tx.queue.end) - tx.first, 0)
    info.bytes_received = meta.rx.bytes
    times = [sub.conn.info(now) for sub in subflows]
    info.last_data_sent = min((each.last_data_sent for each in times), default=0)
    info.last_data_recv = min((each.last_data_recv for each in times), default=0)
    info.last_ack_recv = min((each.last_ack_recv for each in times), default=0)


def subflow_words(sub: "Subflow") -> str:
    """What `ss -ti` prints behind `tcp-ulp-mptcp`.

    Letters as in iproute2: M the peer has, and m we asked for, MP_CAPABLE; J and j the same of MP_JOIN; B and b the
    peer and we want a backup; e fully established, c connected, v text of a mapping waits for the rest of it. `seq`,
    `sfseq` and `maplen` are the last mapping that came, `ssnoff` the peer's initial sequence number.
    """
    meta, conn = sub.meta, sub.conn
    ours = not conn.passive
    letters = {
        "M": sub.initial and bool(meta.key_remote),
        "m": sub.initial and ours,
        "J": not sub.initial and sub.joined,
        "j": not sub.initial and ours,
        "B": sub.peer_bkup,
        "b": sub.request_bkup,
        "e": sub.joined and meta.fully_established,
        "c": sub.joined,
        "v": sub.held_size > 0,
    }
    remote_token = meta.remote_token if not sub.initial and ours else 0
    words = [
        f"flags:{''.join(letter for letter, is_set in letters.items() if is_set)}",
        f"token:{remote_token:04x}(id:{sub.remote_id})/{meta.token:04x}(id:{sub.local_id})",
    ]
    last = sub.runs.last
    if last is not None:
        words += [f"seq:{last.dsn & _U64:x}", f"sfseq:{(last.start - conn.tcb.irs - sub.early_in) & _U32:x}"]
    words.append(f"ssnoff:{(conn.tcb.irs + sub.early_in) & _U32:x}")
    words.append(f"maplen:{last.size if last is not None else 0:x}")
    return " ".join(words)
