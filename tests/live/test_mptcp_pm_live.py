"""Addresses and subflows of ours with the kernel's path manager at the other end, in both roles."""

import json
import re
import sys
from pathlib import Path

import pytest

LAB = Path(__file__).with_name("mptcp_pm_lab.py")
FAILURES = re.compile(r"HMacFailure|Corruption|CsumErr|NoMatch|TxConnectErr|FallbackFailed")


def play(netns, role="client", **words):
    """What the lab saw, where nothing may have failed."""
    facts = {"role": role, "mptcp": {"mptcp_auto_endpoints": 0}} | words
    seen = json.loads(netns.run(sys.executable, LAB, json.dumps(facts)).stdout)
    assert seen["fallback"] == ""
    assert seen["faults"] == 0
    last = seen["looks"][-1]
    assert not [name for name in (*last["kernel"], *last["mib"]) if FAILURES.search(name)], (last, seen["why"])
    return seen["looks"], seen


def ways(look):
    return [way[:2] for way in look["ways"]]


def said(look, side, *names):
    """Values of counters."""
    return tuple(look[side].get(f"MPTcpExt{name}", 0) for name in names)


def other(v6, wire, last):
    return f"fd64:{wire}::{last}" if v6 else f"10.{64 + wire}.0.{last}"


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.rfc("8684", "3.4.1")
def test_the_kernel_announces_and_we_echo_and_join(netns, v6):
    (look,), _ = play(netns, v6=v6, endpoints=[f"{other(v6, 1, 1)} signal"])
    assert ways(look) == [[0, 0], [1, 1]] or ways(look) == [[0, 0], [0, 1]]
    assert said(look, "kernel", "AddAddrTx", "EchoAdd", "MPJoinSynRx", "MPJoinAckRx") == (1, 1, 1, 1)
    assert said(look, "mib", "AddAddr", "EchoAddTx") == (1, 1)


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.rfc("8684", "3.4.1")
def test_we_announce_and_the_kernel_echoes_and_joins(netns, v6):
    (look,), _ = play(netns, "server", v6=v6, ours=[f"mptcp endpoint add {other(v6, 1, 2)} signal"])
    assert ways(look) == [[0, 0], [1, 1]]
    assert said(look, "kernel", "AddAddr", "EchoAddTx", "MPJoinSynAckRx") == (1, 1, 1)
    assert said(look, "mib", "AddAddrTx", "EchoAdd", "MPJoinAckRx") == (1, 1, 1)


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.rfc("8684", "3.4.1")
def test_an_announced_port_is_joined(netns, role):
    if role == "client":
        (look,), _ = play(netns, role, endpoints=["10.65.0.1 signal port 8080"])
        assert said(look, "kernel", "MPJoinPortSynRx", "MPJoinPortAckRx") == (1, 1)
        assert said(look, "mib", "PortAdd") == (1,)
    else:
        (look,), _ = play(netns, role, ours=["mptcp endpoint add 10.65.0.2 signal port 8080"])
        assert said(look, "kernel", "PortAdd", "MPJoinSynAckRx") == (1, 1)
        assert said(look, "mib", "MPJoinAckRx") == (1,)
    assert len(ways(look)) == 2


def test_the_kernel_hears_of_all_our_addresses_at_once(netns):
    """It may be at work on one when the next comes, and drop that: it is told again after an echo."""
    ours = [f"mptcp endpoint add 10.{64 + n}.0.2 signal" for n in (1, 2, 3)]
    (look,), seen = play(netns, "server", wires=4, ours=ours, steps=[["look", 4]])
    assert ways(look) == [[0, 0], [1, 1], [2, 2], [3, 3]]
    heard, dropped = said(look, "kernel", "AddAddr", "AddAddrDrop")
    assert heard - dropped == 3 == said(look, "mib", "EchoAdd")[0], seen


def test_we_use_all_our_addresses_without_being_told(netns):
    (look,), _ = play(netns, wires=3, mptcp={})
    assert ways(look) == [[0, 0], [1, 0], [2, 0]]
    assert said(look, "kernel", "MPJoinSynRx", "MPJoinAckRx") == (2, 2)


@pytest.mark.rfc("8684", "3.4.2")
def test_an_address_of_ours_goes_and_returns(netns):
    steps = [
        ["look"],
        ["ours", "mptcp endpoint delete id 1"],
        ["look"],
        ["talk"],
        ["ours", "mptcp endpoint add 10.65.0.2 subflow"],
        ["look"],
    ]
    looks, _ = play(netns, ours=["mptcp endpoint add 10.65.0.2 subflow"], steps=steps)
    assert [ways(look) for look in looks] == [[[0, 0], [1, 0]], [[0, 0]], [[0, 0], [1, 0]]]
    assert said(looks[1], "kernel", "RmAddr") == (1,)
    assert said(looks[1], "mib", "RmAddrTx", "RmSubflow") == (1, 1)


@pytest.mark.rfc("8684", "3.4.2")
def test_an_address_of_the_kernel_goes_and_returns(netns):
    steps = [
        ["look"],
        ["ip", "mptcp endpoint delete id 1"],
        ["look"],
        ["talk"],
        ["ip", "mptcp endpoint add 10.65.0.1 signal"],
        ["look"],
    ]
    looks, _ = play(netns, endpoints=["10.65.0.1 signal"], steps=steps)
    assert [len(look["ways"]) for look in looks] == [2, 1, 2]
    assert said(looks[1], "mib", "RmAddr") == (1,)


@pytest.mark.rfc("8684", "3.3.8")
def test_backups_are_known_on_both_sides(netns):
    steps = [
        ["look"],
        ["ours", "mptcp endpoint change id 1 nobackup"],
        ["look"],
        ["ours", "mptcp endpoint change id 1 backup"],
        ["look"],
    ]
    looks, _ = play(netns, ours=["mptcp endpoint add 10.65.0.2 subflow backup"], steps=steps)
    assert [look["ways"][1][3] for look in looks] == [True, False, True]
    assert [said(look, "kernel", "MPJoinSynBackupRx", "MPPrioRx") for look in looks] == [(1, 0), (1, 1), (1, 2)]


@pytest.mark.rfc("8684", "3.3.8")
def test_the_kernel_makes_its_path_a_backup(netns):
    steps = [["look"], ["ip", "mptcp endpoint change id 1 backup"], ["look"]]
    looks, _ = play(netns, "server", endpoints=["10.65.0.1 subflow"], steps=steps)
    assert [look["ways"][1][4] for look in looks] == [False, True]
    assert said(looks[1], "mib", "MPPrioRx") == (1,)


@pytest.mark.rfc("8684", "3.1")
def test_a_kernel_that_denies_joins_to_its_first_address(netns):
    (look,), _ = play(netns, mptcp={}, kernel={"allow_join_initial_addr_port": 0}, endpoints=["10.65.0.1 signal"])
    assert [0, 0] in ways(look)
    assert all(remote == 1 for local, remote in ways(look) if [local, remote] != [0, 0])
    assert len(ways(look)) > 1


@pytest.mark.rfc("8684", "3.1")
def test_we_deny_joins_to_our_first_address(netns):
    (look,), _ = play(
        netns,
        "server",
        mptcp={"allow_join_initial_addr_port": 0},
        endpoints=["10.65.0.1 subflow"],
        ours=["mptcp endpoint add 10.65.0.2 signal"],
    )
    assert all(local == 1 for local, remote in ways(look) if [local, remote] != [0, 0])
    assert len(ways(look)) > 1


def test_a_reset_subflow_comes_back(netns):
    steps = [["reset", 1], ["look"], ["wait", 1.2], ["look"]]
    looks, seen = play(netns, ours=["mptcp endpoint add 10.65.0.2 subflow"], steps=steps)
    assert [ways(look) for look in looks] == [[[0, 0]], [[0, 0], [1, 0]]], seen["why"]


def test_the_first_subflow_comes_back(netns):
    steps = [["reset", 0], ["wait", 1.2], ["look"]]
    (look,), seen = play(netns, ours=["mptcp endpoint add 10.65.0.2 subflow"], steps=steps)
    assert ways(look) == [[0, 0], [1, 0]], seen["why"]


def test_the_monitor_tells_what_happened(netns):
    steps = [["look"], ["ip", "mptcp endpoint delete id 1"], ["look"]]
    _, seen = play(netns, endpoints=["10.65.0.1 signal"], steps=steps)
    kinds = [line[1:15].strip() for line in seen["monitor"]]
    assert kinds == ["CREATED", "ESTABLISHED", "ANNOUNCED", "SF_ESTABLISHED", "REMOVED", "SF_CLOSED", "CLOSED"]
