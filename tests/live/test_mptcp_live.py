"""Multipath TCP against the kernel's, under every condition that the paths or the peer can set: sha256 both ways.

The lab (mptcp_lab.py) plays both sides over several TUNs; both directions run at the same time unless a test says
otherwise. The kernel's own counters must show no failed join, no corrupted mapping, no failed checksum.
"""

import json
import os
import shutil
import struct
import sys
from pathlib import Path

import pytest

from .conftest import wait_until

LAB = Path(__file__).with_name("mptcp_lab.py")
MB = 1_000_000
LEAST_MB = float(os.environ.get("NUSE_MPTCP_MB", "0"))  # each way, where a test says less; 100 is a thorough run
IPPROTO_TCP = 6
SIGNAL, SUBFLOW, BACKUP = 1, 2, 4
BAD = ("MPJoin", "DSSCorruption", "DataCsumErr", "MPFail", "InfiniteMap", "Fallback", "NotMatching")
HARMLESS = ("SynRx", "SynTx", "SynAckRx", "AckRx", "SynAckBackupRx", "SynBackupRx", "MPJoinRejected")
FALLBACKS = ("MPCapableFallbackSYNACK", "MPCapableFallbackACK")
LINK = "delay 10ms rate 100mbit"
BOTH = pytest.mark.parametrize("role", ["client", "server"])


def mb(size):
    """Bytes of so many megabytes, or of as many as this run wants at least."""
    return int(max(size, LEAST_MB) * MB)


def play(netns, *, fallback=False, **facts):
    """One transfer; returns what the lab saw, after what must hold for all."""
    seen = json.loads(netns.run(sys.executable, LAB, json.dumps({"patience": 25 + LEAST_MB} | facts)).stdout)
    assert seen["good"], json.dumps(seen)
    assert not seen["faults"], json.dumps(seen)
    for table in ("nstat", "mib"):
        found = {name.removeprefix("MPTcpExt") for name in seen[table]}
        bad = {name for name in found if any(word in name for word in BAD) and not name.endswith(HARMLESS)}
        assert not bad - set(FALLBACKS if fallback else ()), json.dumps(seen)
    assert bool(seen["fallback"]) is False or fallback, json.dumps(seen)
    return seen


def join_kernel(role, n=1, six=False, first=1):
    """Words that make further subflows, whoever opens: we do as client, the kernel does as client."""
    if role == "client":
        return {}
    addr = "fd64:%d::1" if six else "10.%d.0.1"
    base = 0 if six else 64
    return {"endpoints": [f"{addr % (base + i)} dev tun{i} subflow" for i in range(first, first + n)]}


def joined(seen, role, count=1):
    """So many joins worked, by both sides' counters."""
    ours, kernels = ("SynAckRx", "AckRx") if role == "client" else ("AckRx", "SynAckRx")
    assert seen["mib"].get(f"MPTcpExtMPJoin{ours}", 0) == count, json.dumps(seen)
    assert seen["nstat"].get(f"MPTcpExtMPJoin{kernels}", 0) == count, json.dumps(seen)


def used(seen, least, wires=2, sides=(0, 1)):
    """Every wire carried at least so many bytes each way."""
    for number in range(wires):
        for side in sides:
            assert seen["links"][f"tun{number}"][side] >= least, json.dumps(seen)


@pytest.mark.rfc("8684", "3.3")
@pytest.mark.parametrize(
    ("role", "v6", "checksum"),
    [
        ("client", False, 0),
        ("client", True, 0),
        ("client", False, 1),
        ("server", False, 0),
        ("server", True, 0),
        ("server", True, 1),
    ],
)
def test_two_clean_links(netns, role, v6, checksum):
    size = mb(20 if checksum else 100)
    knobs = {"mptcp": {"checksum_enabled": checksum}, "kernel": {"checksum_enabled": checksum}}
    seen = play(netns, role=role, v6=v6, up=size, down=size, gate=2, **knobs, **join_kernel(role, six=v6))
    joined(seen, role)
    used(seen, MB // 50)


@pytest.mark.rfc("8684", "3.3.1")
@pytest.mark.parametrize("ours", [0, 1])
def test_one_side_asking_for_checksums_is_enough(netns, ours):
    knobs = {"mptcp": {"checksum_enabled": ours}, "kernel": {"checksum_enabled": 1 - ours}}
    joined(play(netns, up=mb(20), down=mb(20), gate=2, **knobs), "client")


@pytest.mark.rfc("8684", "3.2")
@BOTH
def test_four_subflows(netns, role):
    seen = play(netns, role=role, wires=4, up=mb(15), down=mb(15), gate=4, impair=[LINK] * 4, **join_kernel(role, 3))
    joined(seen, role, 3)
    used(seen, MB // 50, 4)


@pytest.mark.rfc("8684", "3.4.1")
@pytest.mark.parametrize("v6", [False, True], ids=["v6 joins v4", "v4 joins v6"])
def test_families_mixed(netns, v6):
    """Our first subflow is of one family, a wire of the other family is announced, and joined."""
    words = "10.65.0.1 dev tun1 signal" if v6 else "fd64:1::1 dev tun1 signal"
    ours = [["10.65.0.2" if v6 else "fd64:1::2", SUBFLOW]]
    facts = {"v6": v6, "mixed": True, "endpoints": [words], "our_endpoints": ours}
    seen = play(netns, up=mb(20), down=mb(20), gate=2, **facts)
    joined(seen, "client")
    used(seen, MB // 50)
    assert seen["nstat"]["MPTcpExtEchoAdd"] == 1


@pytest.mark.rfc("8684", "3.4.1")
@pytest.mark.parametrize("v6", [False, True], ids=["v6 joins v4", "v4 joins v6"])
def test_families_mixed_as_server(netns, v6):
    words = "10.65.0.1 dev tun1 subflow" if v6 else "fd64:1::1 dev tun1 subflow"
    ours = [["10.65.0.2" if v6 else "fd64:1::2", SIGNAL]]
    facts = {"v6": v6, "mixed": True, "endpoints": [words], "our_endpoints": ours}
    seen = play(netns, role="server", up=mb(20), down=mb(20), gate=2, **facts)
    joined(seen, "server")
    used(seen, MB // 50)
    assert seen["mib"]["MPTcpExtEchoAdd"] == 1


CONDITIONS = {
    "loss": (5, ["delay 3ms rate 200mbit loss 0.5%"] * 2),
    "reordering": (10, ["delay 3ms 1ms rate 100mbit reorder 5%"] * 2),
    "delay 1 to 10": (10, ["delay 3ms rate 100mbit", "delay 30ms rate 100mbit"]),
    "rate 1 to 10": (10, ["delay 5ms rate 150mbit", "delay 5ms rate 15mbit"]),
}


@pytest.mark.rfc("8684", "3.3.4")
@BOTH
@pytest.mark.parametrize("name", CONDITIONS)
def test_links_that_are_not_clean(netns, role, name):
    size, words = CONDITIONS[name]
    facts = {"impair": words} | join_kernel(role)
    if (
        name == "reordering"
    ):  # not yet in the handshake: a DSS that overtakes the third ACK means plain TCP, on Linux too
        facts |= {"impair": ["delay 3ms rate 100mbit"] * 2}
        facts |= {"events": [[0.2, "impair", f"tun{number}", each] for number, each in enumerate(words)]}
    seen = play(netns, role=role, up=mb(size), down=mb(size), gate=2, **facts)
    joined(seen, role)
    used(seen, MB // 100)


@pytest.mark.rfc("8684", "3.3.6")
@BOTH
@pytest.mark.parametrize("back", [False, True], ids=["cut", "cut and restored"])
def test_the_first_link_dies(netns, role, back):
    events = [[0.4, "impair", "tun0", "loss 100%"]] + [[0.8, "impair", "tun0", LINK]] * back
    facts = {"impair": [LINK] * 2, "events": events, "used": [0, 1]} | join_kernel(role)
    seen = play(netns, role=role, up=mb(12), down=mb(12), gate=2, **facts)
    used(seen, MB // 5)


@pytest.mark.rfc("8684", "3.4.2")
def test_an_address_of_ours_goes(netns):
    facts = {"impair": [LINK] * 2, "events": [[0.3, "remove", "tun1", "10.65.0.2"]], "used": [0, 1]}
    seen = play(netns, up=mb(20), down=mb(20), gate=2, **facts)
    assert seen["nstat"]["MPTcpExtRmAddr"] == 1
    used(seen, MB // 5)


@pytest.mark.rfc("8684", "3.4.2")
@pytest.mark.parametrize(("role", "flag"), [("client", "signal"), ("server", "subflow")])
def test_an_address_of_the_kernel_goes(netns, role, flag):
    facts = {"impair": [LINK] * 2, "endpoints": [f"10.65.0.1 dev tun1 id 5 {flag}"]}
    if role == "client":
        facts["our_endpoints"] = [["10.65.0.2", SUBFLOW]]
    facts |= {"events": [[0.3, "ip", "mptcp endpoint delete id 5"]], "used": [0, 1]}
    seen = play(netns, role=role, up=mb(20), down=mb(20), gate=2, **facts)
    assert seen["mib"]["MPTcpExtRmAddr"] >= 1
    used(seen, MB // 5)


@pytest.mark.rfc("8684", "3.3.8")
@BOTH
def test_a_backup_takes_over(netns, role):
    facts = {"impair": [LINK] * 2, "events": [[0.3, "impair", "tun0", "loss 100%"]], "used": [0]}
    if role == "client":
        facts["our_endpoints"] = [["10.65.0.2", SUBFLOW | BACKUP]]
    else:
        facts["endpoints"] = ["10.65.0.1 dev tun1 subflow backup"]
    seen = play(netns, role=role, up=mb(12), down=mb(12), gate=2, **facts)
    used(seen, MB // 5)


@pytest.mark.rfc("8684", "3.3.8")
def test_the_roles_of_two_paths_are_swapped_live(netns):
    events = [[0.2, "backup", 1, True], [0.5, "backup", 1, False]]
    seen = play(netns, up=mb(20), down=mb(20), gate=2, impair=[LINK] * 2, events=events, used=[0, 1])
    assert seen["nstat"]["MPTcpExtMPPrioRx"] == 2
    used(seen, MB // 5)


@BOTH
def test_mtus_differ(netns, role):
    seen = play(netns, role=role, up=mb(20), down=mb(20), gate=2, mtus=[1500, 700], **join_kernel(role))
    joined(seen, role)
    used(seen, MB // 50)


@BOTH
def test_devices_without_offload(netns, role):
    seen = play(netns, role=role, up=mb(10), down=mb(10), gate=2, offload=False, **join_kernel(role))
    joined(seen, role)


@pytest.mark.rfc("8684", "3.3.1")
@BOTH
def test_tiny_buffers(netns, role):
    facts = {"rcvbuf": 8192, "our_rcvbuf": 8192} | join_kernel(role)
    joined(play(netns, role=role, up=mb(0.5), down=mb(0.5), gate=2, **facts), role)


@pytest.mark.rfc("8684", "3.3.3")
@pytest.mark.parametrize(("role", "first"), [("client", "kernel"), ("server", "we"), ("client", "we")])
def test_half_closed(netns, role, first):
    """One side reads on for all of the other's text after it said its DATA_FIN."""
    facts = {"kernel_mode": "wait"} if first == "we" else {"we_wait": True}
    play(netns, role=role, up=mb(50), down=mb(50), **facts)


@pytest.mark.rfc("8684", "3.5")
@BOTH
def test_we_abort(netns, role):
    facts = {"role": role, "up": mb(100), "down": mb(100), "impair": [LINK] * 2, "events": [[0.3, "abort"]]}
    seen = json.loads(netns.run(sys.executable, LAB, json.dumps(facts | {"gate": 2} | join_kernel(role))).stdout)
    assert not seen["timeout"]
    # Whichever of the kernel's reader and writer looks first takes the error; the other finds the end.
    assert seen["kernel"]["error"] == 104 or seen["kernel"]["writer"], json.dumps(seen)
    assert seen["nstat"]["MPTcpExtMPFastcloseRx"] >= 1, json.dumps(seen)
    assert seen["mib"]["MPTcpExtMPFastcloseTx"] == 1, json.dumps(seen)
    assert not seen["faults"]


@pytest.mark.rfc("8684", "3.5")
@BOTH
def test_the_kernel_aborts(netns, role):
    facts = {"role": role, "up": mb(100), "down": mb(100), "impair": [LINK] * 2, "kernel_mode": "abort"}
    seen = json.loads(netns.run(sys.executable, LAB, json.dumps(facts | join_kernel(role))).stdout)
    assert not seen["timeout"]
    assert seen["error"] == 104, json.dumps(seen)
    sent = seen["nstat"]["MPTcpExtMPFastcloseTx"]  # over one path, or each
    assert 1 <= seen["mib"]["MPTcpExtMPFastcloseRx"] <= sent, json.dumps(seen)
    assert sum("aborted" in each for each in seen["why"]) == 1, json.dumps(seen)
    assert not seen["faults"]


@pytest.mark.rfc("8684", "3.7")
@BOTH
def test_the_kernel_is_plain(netns, role):
    seen = play(netns, role=role, up=mb(100), down=mb(100), kernel_proto=IPPROTO_TCP, fallback=True)
    assert seen["fallback"]


@pytest.mark.rfc("8684", "3.7")
@BOTH
def test_we_are_plain(netns, role):
    play(netns, role=role, up=mb(100), down=mb(100), mptcp={"enabled": 0}, fallback=True)


DISSECTOR = ["-o", "mptcp.analyze_mappings:TRUE", "-o", "mptcp.relative_sequence_numbers:FALSE"]
LAST = "import socket; s = socket.socket(); s.bind(('127.0.0.1', 7778)); s.connect_ex(('127.0.0.1', 7777))"
LAST_PORTS = struct.pack("!HH", 7778, 7777)
COLUMNS = [
    "tcp.stream",
    "mptcp.stream",
    "tcp.len",
    "mptcp.expected_token",
    "tcp.options.mptcp.recvtok",
    "mptcp.dss.dsn",
    "mptcp.dss.missing_mapping",
    "mptcp.connection.echoed_key_mismatch",
    "_ws.malformed",
    "tcp.options.mptcp.checksum",
]


@pytest.mark.rfc("8684", "3.3")
@pytest.mark.skipif(not (shutil.which("tshark") and shutil.which("tcpdump")), reason="wants tshark and tcpdump")
@BOTH
def test_wireshark_reads_what_we_send(netns, tmp_path, role):
    """A second opinion: keys and tokens agree, nothing is malformed, mappings cover the text of every subflow."""
    path = tmp_path / "capture.pcap"
    capture = netns.start("tcpdump", "-i", "any", "-U", "-B", "32768", "-w", path, "tcp port 7777", stderr=-1)
    while b"listening on" not in capture.stderr.readline():
        assert capture.poll() is None
    facts = {"mptcp": {"checksum_enabled": 1}, "offload": False, "impair": ["delay 2ms rate 50mbit"] * 2}
    joined(play(netns, role=role, up=MB // 3, down=MB // 3, gate=2, **facts, **join_kernel(role)), role)
    netns.run(sys.executable, "-c", LAST)
    wait_until(lambda: LAST_PORTS in path.read_bytes())  # what waits for tcpdump would end with it
    capture.terminate()
    capture.wait()
    fields = [word for name in COLUMNS for word in ("-e", name)]
    text = netns.run("tshark", "-r", path, *DISSECTOR, "-T", "fields", "-E", "separator=;", *fields).stdout
    rows = [dict(zip(COLUMNS, line.split(";"), strict=True)) for line in text.splitlines()]
    assert {row["mptcp.stream"] for row in rows} - {""} == {"0"}  # the join's token led it to its connection
    assert {row["tcp.stream"] for row in rows if row["mptcp.stream"]} == {"0", "1"}
    tokens = {row["mptcp.expected_token"] for row in rows} - {""}
    assert {row["tcp.options.mptcp.recvtok"] for row in rows} - {""} <= tokens
    assert not any(row["_ws.malformed"] or row["mptcp.connection.echoed_key_mismatch"] for row in rows)
    assert any(row["tcp.options.mptcp.checksum"] for row in rows)
    assert not any(row["mptcp.dss.missing_mapping"] and int(row["tcp.len"]) for row in rows), text
