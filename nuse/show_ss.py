"""Sockets as ss(8) prints them: columns, state names, and the words of its -i, in its order."""

import ipaddress
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nuse.linkspec import ConfigError
from nuse.show_mptcp import mptcp_words

Row = Mapping[str, Any]

STATES = {
    "ESTABLISHED": "ESTAB",
    "SYN_SENT": "SYN-SENT",
    "SYN_RECEIVED": "SYN-RECV",
    "FIN_WAIT_1": "FIN-WAIT-1",
    "FIN_WAIT_2": "FIN-WAIT-2",
    "TIME_WAIT": "TIME-WAIT",
    "CLOSED": "UNCONN",
    "CLOSE_WAIT": "CLOSE-WAIT",
    "LAST_ACK": "LAST-ACK",
    "LISTEN": "LISTEN",
    "CLOSING": "CLOSING",
    "UNCONN": "UNCONN",
}
PASSIVE = ("LISTEN", "UNCONN")  # what ss leaves out unless -a or -l
INFINITE_SSTHRESH = 0x7FFFFFFF


@dataclass(frozen=True, slots=True)
class SsOptions:
    """The letters that were given."""

    tcp: bool = False
    udp: bool = False
    raw: bool = False
    mptcp: bool = False
    unix: bool = False
    listening: bool = False
    all: bool = False
    numeric: bool = False
    info: bool = False
    options: bool = False
    extended: bool = False
    oneline: bool = False
    no_header: bool = False
    ipv4: bool = False
    ipv6: bool = False

    @property
    def netid(self) -> bool:
        """Whether several kinds are shown, so that a first column must tell them apart."""
        return (self.tcp + self.udp + self.raw + self.mptcp + self.unix) != 1


def state_name(row: Row) -> str:
    """A row's state, as ss calls it."""
    state: str = row["state"]
    return STATES.get(state, state)


def split_sockaddr(text: str) -> tuple[str, str]:
    """`10.64.0.2:80` → (`10.64.0.2`, `80`); brackets stay, as ss prints them; `*` has neither."""
    if text in ("", "*"):
        return "*", "*"
    host, _, port = text.rpartition(":")
    return host, port


def select(rows: Iterable[Row], options: SsOptions, matches: Callable[[Row], bool] = lambda row: True) -> list[Row]:
    """The rows that the letters and the filter ask for."""
    kinds = {kind for kind in ("tcp", "udp", "raw", "mptcp") if getattr(options, kind)}
    if not kinds and not options.unix:
        kinds = {"tcp", "udp", "icmp", "raw", "mptcp"}
    found = []
    for row in rows:
        state = state_name(row)
        passive = state in PASSIVE
        if row["proto"] not in kinds or (passive and not (options.all or options.listening)):
            continue
        if options.listening and not options.all and not passive:
            continue
        six = row["local"].startswith("[")
        if (options.ipv4 and not options.ipv6 and six) or (options.ipv6 and not options.ipv4 and not six):
            continue
        if matches(row):
            found.append(row)
    return found


def ss_lines(rows: Sequence[Row], options: SsOptions) -> list[str]:
    """The table of `ss`, addresses aligned at the colon as it does."""
    infos: list[str | None] = [] if options.no_header else [None]
    cells = [] if options.no_header else [_head(options)]
    for row in rows:
        cells.append(_cells(row, options))
        infos.append(_info(row) if options.info else None)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row_cells, info in zip(cells, infos, strict=True):
        line = _join(row_cells, widths)
        if info is None:
            lines.append(line)
        elif options.oneline:
            lines.append(f"{line} {info}".rstrip())
        else:
            lines += [line, f"\t {info}"]
    return lines


def _info(row: Row) -> str | None:
    """The second line of a row under -i, None if it has none."""
    if row["proto"] == "mptcp":
        return mptcp_words(row["info"]) if "info" in row else ""
    words = [info_words(row["info"])] if "info" in row else []
    if row.get("ulp") is not None:
        words += [f"tcp-ulp-mptcp {row['ulp']}".rstrip()]
    return " ".join(words) if words else None


def _join(cells: list[str], widths: list[int]) -> str:
    """One line: addresses flush right against their colon, a space between all other columns."""
    left = [cell.ljust(width) for cell, width in zip(cells[:-5], widths, strict=False)]
    address, port, peer, peer_port, process = cells[-5:]
    wide = widths[-5:]
    sides = [f"{address:>{wide[0]}}:{port:<{wide[1]}}", f"{peer:>{wide[2]}}:{peer_port:<{wide[3]}}"]
    return " ".join([*left, *sides, process]).rstrip()


def _head(options: SsOptions) -> list[str]:
    head = ["State", "Recv-Q", "Send-Q", "Local Address", "Port", "Peer Address", "Port", "Process"]
    return ["Netid", *head] if options.netid else head


def timer_word(info: Row) -> str:
    """`timer:(on,200ms,0)`: which one runs, when it is due, how often it ran out; empty if none runs."""
    if not info.get("timer"):
        return ""
    return f"timer:({info['timer']},{_until(info['timer_ms'])},{info['retransmits']})"


def _until(ms: int) -> str:
    """Milliseconds as ss writes them: 200ms, 1.500ms, 42sec, 1min12sec, 119min."""
    minutes, rest = divmod(ms, 60_000)
    seconds, millis = divmod(rest, 1000)
    if minutes:
        return f"{minutes}min" + (f"{seconds}sec" if seconds and minutes <= 9 else "")
    if seconds > 9 or (seconds and not millis):
        return f"{seconds}sec"
    return (f"{seconds}." if seconds else "") + f"{millis:03d}ms"


def _cells(row: Row, options: SsOptions) -> list[str]:
    """One row's cells, in the order of the header."""
    proto = row["proto"]
    local, port = split_sockaddr(row["local"])
    peer, peer_port = split_sockaddr(row.get("remote", ""))
    if peer == "*" and local != "*":
        peer = "[::]" if local.startswith("[") else "0.0.0.0"
    send_queue = row["backlog"] if row["state"] == "LISTEN" else row.get("sendq", 0)
    if row.get("link") and options.extended:
        local = f"{local}%{row['link']}"
    process = timer_word(row.get("info") or {}) if options.options else ""
    if options.extended and "id" in row:
        process = f"{process} id:{row['id']}".strip()
    if options.extended and row.get("owner"):
        process = f"{process} {row['owner']}".strip()
    cells: list[str] = [
        state_name(row),
        str(row["recvq"]),
        str(send_queue),
        local,
        _service(port, proto, options.numeric),
        peer,
        _service(peer_port, proto, options.numeric),
        process,
    ]
    return [proto, *cells] if options.netid else cells


def _service(port: str, proto: str, numeric: bool) -> str:
    """A port by name, unless -n; those of ping sockets have none."""
    if port in ("*", "0"):
        return "*"
    if numeric or proto not in ("tcp", "udp", "mptcp"):
        return port
    try:
        return socket.getservbyport(int(port), "udp" if proto == "udp" else "tcp")
    except (OSError, ValueError, OverflowError):
        return port


def info_words(info: Row) -> str:
    """tcp_info in the words and order of `ss -i` (iproute2 misc/ss.c, tcp_stats_print); zeros are left out as there."""
    words = [word for word in info["options"] if word in ("ts", "sack", "ecn", "fastopen")]
    words.append(info["congestion"])
    if "wscale" in info["options"] or info["snd_wscale"] or info["rcv_wscale"]:
        words.append(f"wscale:{info['snd_wscale']},{info['rcv_wscale']}")
    _add(words, "rto", info["rto"] / 1000)
    _add(words, "backoff", info["backoff"])
    if info["rtt"]:
        words.append(f"rtt:{info['rtt'] / 1000:g}/{info['rttvar'] / 1000:g}")
    _add(words, "ato", info["ato"] / 1000)
    for word, name in (("mss", "snd_mss"), ("pmtu", "pmtu"), ("rcvmss", "rcv_mss"), ("advmss", "advmss")):
        _add(words, word, info[name])
    _add(words, "cwnd", info["snd_cwnd"])
    if info["snd_ssthresh"] < INFINITE_SSTHRESH:
        _add(words, "ssthresh", info["snd_ssthresh"])
    for name in ("bytes_sent", "bytes_retrans", "bytes_acked", "bytes_received"):
        _add(words, name, info[name])
    for name in ("segs_out", "segs_in", "data_segs_out", "data_segs_in"):
        _add(words, name, info[name])
    if info["rtt"] and info["snd_mss"] and info["snd_cwnd"]:
        words.append(f"send {rate(info['snd_cwnd'] * info['snd_mss'] * 8e6 / info['rtt'])}")
    for word, name in (("lastsnd", "last_data_sent"), ("lastrcv", "last_data_recv"), ("lastack", "last_ack_recv")):
        _add(words, word, info[name])
    for name in ("pacing_rate", "delivery_rate"):
        if info[name]:
            words.append(f"{name} {rate(info[name] * 8)}")
    _add(words, "delivered", info["delivered"])
    _add(words, "unacked", info["unacked"])
    if info["retrans"] or info["total_retrans"]:
        words.append(f"retrans:{info['retrans']}/{info['total_retrans']}")
    for name in ("lost", "sacked", "dsack_dups"):
        _add(words, name, info[name])
    if info["reordering"] != 3:
        _add(words, "reordering", info["reordering"])
    _add(words, "reord_seen", info["reord_seen"])
    _add(words, "rcv_rtt", info["rcv_rtt"] / 1000)
    _add(words, "rcv_space", info["rcv_space"])
    _add(words, "rcv_ssthresh", info["rcv_ssthresh"])
    _add(words, "notsent", info["notsent_bytes"])
    _add(words, "minrtt", info["min_rtt"] / 1000)
    for name in ("rcv_ooopack", "snd_wnd", "rcv_wnd"):
        _add(words, name, info[name])
    return " ".join(words)


def _add(words: list[str], name: str, value: float) -> None:
    if value:
        words.append(f"{name}:{value:g}" if isinstance(value, float) else f"{name}:{value}")


def rate(bits: float) -> str:
    """Bits per second, short: 9.41Gbps."""
    for unit, size in (("Gbps", 1e9), ("Mbps", 1e6), ("Kbps", 1e3)):
        if bits >= size:
            return f"{bits / size:.3g}{unit}" if bits < 999.5 * size else f"{bits / size:.0f}{unit}"
    return f"{bits:.0f}bps"


# --- filters


def parse_filter(words: Sequence[str]) -> Callable[[Row], bool]:
    """ss's common filters: `state NAME`, `sport = :80`, `dport :80`, `src ADDR[:PORT]`, `dst ADDR[/LEN]`; all hold.

    Raises ConfigError for what this version does not understand.
    """
    left = [
        word for word in " ".join(words).replace("(", " ").replace(")", " ").split() if word not in ("=", "==", "and")
    ]
    tests: list[Callable[[Row], bool]] = []
    while left:
        word = left.pop(0)
        if word not in ("state", "sport", "dport", "src", "dst") or not left:
            raise ConfigError(f"filter {' '.join(words)!r}: known are state NAME, sport, dport, src and dst")
        value = left.pop(0)
        if word == "state":
            tests.append(_state_test(value))
        else:
            side = "local" if word in ("sport", "src") else "remote"
            tests.append(_port_test(side, value) if word in ("sport", "dport") else _address_test(side, value))
    return lambda row: all(test(row) for test in tests)


def _state_test(name: str) -> Callable[[Row], bool]:
    groups = {"all": set(STATES.values()), "established": {"ESTAB"}, "syn-sent": {"SYN-SENT"}, "syn-recv": {"SYN-RECV"}}
    groups |= {"listening": {"LISTEN"}, "closed": {"UNCONN"}, "connected": set(STATES.values()) - set(PASSIVE)}
    groups |= {state.lower(): {state} for state in STATES.values() if state.lower() not in groups}
    wanted = groups.get(name.lower())
    if wanted is None:
        raise ConfigError(f"no state {name!r}; known: {', '.join(sorted(groups))}")
    return lambda row: state_name(row) in wanted


def _port_test(side: str, value: str) -> Callable[[Row], bool]:
    port = value.rpartition(":")[2]
    if not port.isdigit():
        try:
            port = str(socket.getservbyname(port))
        except OSError:
            raise ConfigError(f"no port {value!r}") from None
    return lambda row: split_sockaddr(row.get(side, ""))[1] == port


def _address_test(side: str, value: str) -> Callable[[Row], bool]:
    text, port = value, ""
    if value.startswith("[") or value.count(":") == 1:
        text, _, port = value.rpartition(":") if not value.endswith("]") else (value, "", "")
    try:
        network = ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        raise ConfigError(f"no address {value!r}") from None

    def test(row: Row) -> bool:
        host, its_port = split_sockaddr(row.get(side, ""))
        return host != "*" and ipaddress.ip_address(host.strip("[]")) in network and port in ("", its_port)

    return test
