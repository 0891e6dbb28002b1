"""Counters: Linux's names, each counted somewhere."""

import re
from pathlib import Path

import pytest

from stack.mib import Mib, mib_items

ROOT = Path(__file__).parent.parent.parent
PREFIXES = ("Ip6", "Ip", "IpExt", "Icmp", "Icmp6", "Tcp", "TcpExt", "Udp", "Udp6", "UdpLite", "MPTcpExt", "Nuse")


def test_all_start_at_zero():
    assert all(value == 0 for _, value in mib_items(Mib()))


def test_names_look_like_nstat():
    for name, _ in mib_items(Mib()):
        assert re.fullmatch(r"[A-Z]\w+", name)
        assert name.startswith(PREFIXES)


def test_a_misspelt_counter_is_an_error():
    with pytest.raises(AttributeError):
        Mib().TcpExtTCPTimouts = 1


def test_no_counter_is_listed_that_nothing_counts():
    source = "".join(p.read_text() for p in (ROOT / "stack").rglob("*.py") if p.name != "mib.py")
    source += "".join(p.read_text() for p in (ROOT / "nuse").rglob("*.py"))
    idle = [name for name, _ in mib_items(Mib()) if not re.search(rf"\b{name}\b", source)]
    # Counters of IPv6 and ICMP may be reached through a computed name: `Ip6` + `InReceives`.
    idle = [name for name in idle if not re.search(rf"\b{re.sub('^(Ip6|Ip|Icmp6|Icmp)', '', name)}\b", source)]
    assert not idle


def kernel_names():
    """What this kernel counts, as nstat names it."""
    names = set()
    for path in ("/proc/net/snmp", "/proc/net/netstat"):
        for line in Path(path).read_text().splitlines()[::2]:
            group, *rest = line.split()
            names.update(group[:-1] + name for name in rest)
    names.update(line.split()[0] for line in Path("/proc/net/snmp6").read_text().splitlines())
    return names


# Those of snmp6 that a kernel shows only once there was such a packet, or under a number.
HIDDEN = re.compile("Icmp6(In|Out)(Type.*)")


@pytest.mark.skipif(not Path("/proc/net/snmp6").exists(), reason="no Linux with IPv6")
def test_every_name_is_the_kernels():
    known = kernel_names()
    if "TcpExtPAWSOldAck" not in known:
        pytest.skip("a kernel older than 6.14 counts less")
    ours = {name for name, _ in mib_items(Mib()) if not name.startswith("Nuse") and not HIDDEN.match(name)}
    assert not ours - known
