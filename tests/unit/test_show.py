"""What ss, nstat and ip users see: their words, their columns."""

from dataclasses import asdict, fields

import pytest

from mptcp.info import MptcpInfo
from nuse.linkspec import ConfigError
from nuse.show import choose_counters, counter_lines, link_json, link_lines, route_lines, sysctl_text
from nuse.show_mptcp import mptcp_words
from nuse.show_ss import SsOptions, info_words, parse_filter, rate, select, ss_lines, timer_word
from stack.tcp.info import TcpInfo

INFO = {f.name: 0 for f in fields(TcpInfo)} | {
    "congestion": "cubic",
    "options": ["ts", "sack", "wscale"],
    "snd_wscale": 7,
    "rcv_wscale": 8,
    "rto": 204000,
    "rtt": 3210,
    "rttvar": 1500,
    "snd_mss": 1448,
    "snd_cwnd": 10,
    "snd_ssthresh": 0x7FFFFFFF,
    "retrans": 0,
    "total_retrans": 3,
    "bytes_acked": 1000,
    "delivery_rate": 12_500_000,
    "reordering": 3,
}
CONN = {
    "id": 3, "proto": "tcp", "state": "ESTABLISHED", "local": "10.64.0.2:40000", "remote": "10.64.0.1:80",
    "recvq": 0, "sendq": 17, "link": "tun0", "owner": "curl", "info": INFO,
}  # fmt: skip
CONN6 = CONN | {"local": "[fd64::2]:40001", "remote": "[fd64::1]:443", "state": "FIN_WAIT_1"}
LISTENER = {"proto": "tcp", "state": "LISTEN", "local": "[::]:22", "recvq": 1, "backlog": 128, "owner": ""}
UDP = {"id": 9, "proto": "udp", "state": "UNCONN", "local": "10.64.0.2:53", "remote": "*", "recvq": 0, "owner": ""}
ROWS = [LISTENER, UDP, CONN, CONN6]


def shown(**letters):
    options = SsOptions(**letters)
    return ss_lines(select(ROWS, options), options)


def test_ss_shows_connections_without_those_that_wait():
    assert shown(tcp=True, numeric=True) == [
        "State      Recv-Q Send-Q Local Address:Port  Peer Address:Port Process",
        "ESTAB      0      17         10.64.0.2:40000    10.64.0.1:80",
        "FIN-WAIT-1 0      17         [fd64::2]:40001    [fd64::1]:443",
    ]


def test_ss_listening_shows_the_backlog():
    assert shown(tcp=True, listening=True, numeric=True, no_header=True) == ["LISTEN 1 128 [::]:22 [::]:*"]


def test_ss_of_several_kinds_has_a_netid():
    lines = shown(tcp=True, udp=True, all=True, numeric=True)
    assert lines[0].startswith("Netid State ")
    assert [line.split()[0] for line in lines[1:]] == ["tcp", "udp", "tcp", "tcp"]


def test_ss_names_ports_unless_numeric():
    assert "10.64.0.1:http" in shown(tcp=True)[1]
    assert "10.64.0.1:80" in shown(tcp=True, numeric=True)[1]


def test_ss_filters_by_ip_version():
    assert len(shown(tcp=True, ipv4=True, no_header=True)) == 1
    assert "[fd64::2]" in shown(tcp=True, ipv6=True, no_header=True)[0]


def test_ss_extended_tells_link_and_owner():
    line = shown(tcp=True, extended=True, numeric=True, no_header=True)[0]
    assert "10.64.0.2%tun0:40000" in line
    assert line.endswith("id:3 curl")


def test_info_speaks_as_ss_does():
    assert info_words(INFO) == (
        "ts sack cubic wscale:7,8 rto:204 rtt:3.21/1.5 mss:1448 cwnd:10 bytes_acked:1000 "
        "send 36.1Mbps delivery_rate 100Mbps retrans:0/3"
    )


def test_info_is_a_line_below_or_with_oneline_the_same():
    below = shown(tcp=True, info=True, numeric=True, no_header=True)
    assert below[1].startswith("\t ts sack cubic")
    assert "80 ts sack cubic" in " ".join(
        shown(tcp=True, info=True, oneline=True, numeric=True, no_header=True)[0].split()
    )


def test_nothing_to_show_is_a_header_or_nothing():
    options = SsOptions(tcp=True)
    assert len(ss_lines([], options)) == 1
    assert ss_lines([], SsOptions(tcp=True, no_header=True)) == []


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["state", "established"], 1),
        (["state", "fin-wait-1"], 1),
        (["dport", "=", ":443"], 1),
        (["( dport = :80 or )".replace(" or", "")], 1),
        (["dport", "=", ":http"], 1),
        (["dst", "10.64.0.0/24"], 1),
        (["dst", "10.64.0.1:81"], 0),
        (["src", "[fd64::2]"], 1),
        (["state", "connected", "sport", ":40000"], 1),
        ([], 2),
    ],
)
def test_filters(words, count):
    assert len(select(ROWS, SsOptions(tcp=True), parse_filter(words))) == count


@pytest.mark.parametrize(
    "words", [["state"], ["state", "happy"], ["bytes", "5"], ["dport", ":nosuchport"], ["dst", "x"]]
)
def test_a_bad_filter_is_refused(words):
    with pytest.raises(ConfigError):
        parse_filter(words)


@pytest.mark.parametrize(
    ("bits", "text"), [(0, "0bps"), (999, "999bps"), (1000, "1Kbps"), (36_081_000, "36.1Mbps"), (9.87e9, "9.87Gbps")]
)
def test_rates(bits, text):
    assert rate(bits) == text


def test_nstat_has_its_columns():
    assert counter_lines({"TcpExtTCPTimeouts": 7}) == [
        "#kernel",
        "TcpExtTCPTimeouts               7                  0.0",
    ]


def test_nstat_shows_what_grew():
    counters = {"IpInReceives": 5, "TcpInSegs": 0, "TcpOutSegs": 9}
    assert choose_counters(counters, since={"TcpOutSegs": 9}, zeros=False, patterns=[]) == {"IpInReceives": 5}
    assert choose_counters(counters, since={}, zeros=True, patterns=["Tcp*"]) == {"TcpInSegs": 0, "TcpOutSegs": 9}


LINK = {
    "name": "tun0", "index": 2, "mtu": 1500, "up": True, "addrs": ["10.64.0.2/24", "fd64::2/64"], "offload": True,
    "impair": {"egress": {"spec": "loss 1% seed 7", "packets": 10, "lost": 1}},
    "stats": {"rx_packets": 3, "rx_bytes": 300, "rx_errors": 0, "rx_dropped": 1, "tx_packets": 4, "tx_bytes": 400,
              "tx_dropped": 2},
}  # fmt: skip


def test_link_shows_addresses_counters_and_impairment():
    assert link_lines([LINK], stats=True) == [
        "2: tun0: <POINTOPOINT,UP,LOWER_UP> mtu 1500 state UP offload on",
        "    inet 10.64.0.2/24",
        "    inet6 fd64::2/64",
        "    impair egress loss 1% seed 7",
        "    RX:  bytes packets errors dropped",
        "           300       3      0       1",
        "    TX:  bytes packets errors dropped",
        "           400       4      0       2",
        "    impaired egress: packets 10 lost 1",
    ]


def test_link_json_is_that_of_ip():
    found = link_json(LINK)
    assert found["ifname"] == "tun0"
    assert found["addr_info"][1] == {"family": "inet6", "local": "fd64::2", "prefixlen": 64}
    assert found["stats64"]["tx"] == {"bytes": 400, "packets": 4, "errors": 0, "dropped": 2}


def test_routes_are_those_of_ip_route():
    routes = [
        {"dst": "default", "family": "inet6", "dev": "tun0", "via": "fd64::1", "metric": 200},
        {"dst": "10.64.0.0/24", "family": "inet", "dev": "tun0", "via": None, "metric": 0},
        {"dst": "192.0.2.0/24", "family": "inet", "dev": "lo", "via": None, "metric": 5, "type": "blackhole", "mtu": 0},
        {
            "dst": "192.0.3.0/24",
            "family": "inet",
            "dev": "tun0",
            "via": None,
            "metric": 0,
            "type": "unicast",
            "mtu": 1400,
            "advmss": 1200,
        },
    ]
    assert route_lines(routes) == [
        "10.64.0.0/24 dev tun0",
        "blackhole 192.0.2.0/24 dev lo metric 5",
        "192.0.3.0/24 dev tun0 mtu 1400 advmss 1200",
        "default via fd64::1 dev tun0 metric 200",
    ]


def test_sysctl_values_have_tabs_between():
    assert sysctl_text([4096, 131072, 6291456]) == "4096\t131072\t6291456"
    assert sysctl_text("cubic") == "cubic"


@pytest.mark.parametrize(
    ("ms", "word"),
    [
        (7, "007ms"),
        (200, "200ms"),
        (1500, "1.500ms"),
        (3000, "3sec"),
        (42_400, "42sec"),
        (72_000, "1min12sec"),
        (7_190_000, "119min"),
    ],
)
def test_a_timer_is_written_as_ss_writes_it(ms, word):
    assert timer_word({"timer": "on", "timer_ms": ms, "retransmits": 2}) == f"timer:(on,{word},2)"


def test_no_timer_no_word():
    assert timer_word({"timer": "", "timer_ms": 0, "retransmits": 0}) == ""


# What ss of iproute2 6.1 said of a kernel's connection, and of its first subflow.
MPTCP_LINE = (
    "subflows:1 subflows_max:2 add_addr_accepted_max:2 remote_key token:3f120744 write_seq:9fb98eb36f6bfd1e "
    "snd_una:9fb98eb36f6bfd1e rcv_nxt:d38abc179b18f89a"
)
MPTCP_INFO = MptcpInfo(
    subflows=1,
    subflows_max=2,
    add_addr_accepted_max=2,
    flags=2,
    token=0x3F120744,
    write_seq=0x9FB98EB36F6BFD1E,
    snd_una=0x9FB98EB36F6BFD1E,
    rcv_nxt=0xD38ABC179B18F89A,
)
MPTCP = CONN | {"proto": "mptcp", "info": asdict(MPTCP_INFO)}
MPTCP_LISTENER = LISTENER | {"proto": "mptcp"}


def mptcp_shown(**letters):
    options = SsOptions(numeric=True, **letters)
    return ss_lines(
        select([LISTENER | {"ulp": ""}, MPTCP_LISTENER, CONN | {"ulp": "flags:Mec"}, MPTCP], options), options
    )


def test_ss_mptcp_says_what_linux_ss_says():
    assert mptcp_shown(mptcp=True, info=True, no_header=True) == [
        "ESTAB 0 17 10.64.0.2:40000 10.64.0.1:80",
        f"\t {MPTCP_LINE}",
    ]
    assert mptcp_shown(mptcp=True, info=True, all=True, oneline=True) == [
        "State  Recv-Q Send-Q Local Address:Port  Peer Address:Port Process",
        "LISTEN 1      128             [::]:22            [::]:*",
        f"ESTAB  0      17         10.64.0.2:40000    10.64.0.1:80 {MPTCP_LINE}",
    ]


def test_newer_words_of_mptcp_info_follow():
    info = MptcpInfo(flags=1, local_addr_used=1, csum_enabled=1, bytes_sent=9, subflows_total=2, last_ack_recv=3)
    words = "fallback local_addr_used:1 csum_enabled:1 bytes_sent:9 subflows_total:2 last_ack_recv:3"
    assert mptcp_words(asdict(info)) == words


def test_ss_names_the_subflows_among_tcp_connections():
    lines = mptcp_shown(tcp=True, info=True, all=True, no_header=True)
    assert lines[1] == "\t tcp-ulp-mptcp"
    assert lines[3].endswith(" tcp-ulp-mptcp flags:Mec")
    kinds = [line.split()[0] for line in mptcp_shown(all=True, no_header=True)]
    assert kinds == ["tcp", "mptcp", "tcp", "mptcp"]
