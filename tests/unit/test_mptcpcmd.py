"""`mptcp endpoint` and `mptcp limits` of the debug socket and of nuse, held against what `ip mptcp` says and prints."""

import errno

import pytest

from kit.mpmeta import LINK_A, LINK_B, FakeHost, FakeMeta
from mptcp.options import RemoveAddr
from nuse.mptcpcmd import mptcp_command
from nuse.show_ipmptcp import endpoint_lines, limits_line, monitor_line
from stack.errors import StackError


@pytest.fixture
def host():
    return FakeHost()


def obey(host, line):
    return mptcp_command(host.pm, line.split(), 0)


def shown(host):
    return endpoint_lines(obey(host, "endpoint show"))


def refused(host, line):
    with pytest.raises(StackError) as caught:
        obey(host, line)
    return caught.value.strerror.rpartition(" [")[0]


def test_endpoints_are_shown_as_ip_does(host):
    obey(host, "endpoint add 10.0.0.2 dev tun0 subflow backup")
    obey(host, "endpoint add fd00::1 subflow fullmesh id 7")
    obey(host, "endpoint add 10.9.9.3 signal subflow dev lo")
    obey(host, "endpoint add 10.9.9.4")
    assert shown(host) == [
        "10.0.0.2 id 1 subflow backup dev tun0",
        "fd00::1 id 7 subflow fullmesh",
        "10.9.9.3 id 8 signal subflow dev lo",
        "10.9.9.4 id 9",
    ]
    assert endpoint_lines(obey(host, "endpoint show id 7")) == ["fd00::1 id 7 subflow fullmesh"]


def test_json_is_that_of_ip(host):
    obey(host, "endpoint add 10.0.1.2 id 7 signal port 1234")
    obey(host, "endpoint add 10.0.0.2 dev tun0 subflow")
    assert obey(host, "endpoint") == [
        {"address": "10.0.1.2", "port": 1234, "id": 7, "signal": True},
        {"address": "10.0.0.2", "id": 8, "subflow": True, "dev": "tun0"},
    ]


def test_change_by_id_and_by_address(host):
    obey(host, "endpoint add 10.0.0.2 subflow")
    obey(host, "endpoint change id 1 backup")
    assert shown(host) == ["10.0.0.2 id 1 subflow backup"]
    obey(host, "endpoint change 10.0.0.2 fullmesh")
    assert shown(host) == ["10.0.0.2 id 1 subflow backup fullmesh"]
    obey(host, "endpoint change id 1 nobackup nofullmesh")
    assert shown(host) == ["10.0.0.2 id 1 subflow"]


def test_delete_and_flush(host):
    for n in range(3):
        obey(host, f"endpoint add 10.0.9.{n}")
    obey(host, "endpoint delete id 2")
    assert len(shown(host)) == 2
    obey(host, "endpoint flush")
    assert shown(host) == []


def test_delete_of_id_zero_wants_the_address(host):
    meta = FakeMeta(host).established()
    obey(host, "endpoint delete id 0 10.0.0.2")
    assert meta.told() == [RemoveAddr((0,))]
    assert LINK_A not in {local for local, _ in meta.ways()}
    assert LINK_B in {local for local, _ in meta.ways()}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("endpoint add", 'argument "ADDRESS" is required'),
        ("endpoint add foo", 'any valid address is expected rather than "foo"'),
        ("endpoint add 10.9.9.8 id 300", 'argument "300" is wrong: invalid ID'),
        ("endpoint add 10.9.9.8 signal port 70000", 'argument "70000" is wrong: expected port'),
        ("endpoint add 10.9.9.8 dev nodev", 'argument "nodev" is wrong: device does not exist'),
        ("endpoint add 10.9.9.8 port 33 subflow", 'argument "port" is wrong: flags must have signal when using port'),
        ("endpoint add 10.9.9.8 port 7 subflow signal", "flags must have signal and not subflow when using port"),
        (
            "endpoint add 10.9.9.8 signal fullmesh",
            'argument "fullmesh" is wrong: flags mustn\'t have both signal and fullmesh',
        ),
        ("endpoint delete id 99", "address not found"),
        ("endpoint delete 10.9.9.1", 'argument "ID" is required'),
        ("endpoint delete id 0", 'argument "ID" is wrong: address is needed for deleting id 0 address'),
        ("endpoint change backup", "missing address ID"),
        ("endpoint change id 9 backup", "address not found"),
        ("endpoint change id 1 signal", 'argument "signal" is wrong: invalid flags, backup and fullmesh only'),
        ("endpoint change id 1 fullmesh", "invalid addr flags"),
        ("endpoint show id 77", "address not found"),
        ("limits set subflows x", 'argument "x" is wrong: invalid subflows'),
        ("limits set foo 2", 'argument "foo" is wrong: unknown limit'),
        ("limits set subflows 65", "limit greater than maximum (64)"),
    ],
)
def test_refusals_are_those_of_ip(host, line, why):
    obey(host, "endpoint add 10.9.9.1 signal")
    assert refused(host, line) == why


@pytest.mark.parametrize("line", ["endpoint foo", "limits foo", "limits set subflows", "foo", "endpoint flush all"])
def test_what_is_no_command_gets_the_usage(host, line):
    assert refused(host, line).startswith("usage: mptcp endpoint add") or refused(host, line).startswith(
        "usage: mptcp l"
    )


def test_a_clash_has_its_errno(host):
    obey(host, "endpoint add 10.9.9.1 id 7")
    for line, code in (("10.9.9.2 id 7", errno.EBUSY), ("10.9.9.1", errno.EEXIST)):
        with pytest.raises(StackError) as caught:
            obey(host, f"endpoint add {line}")
        assert caught.value.errno == code


def test_limits_have_sane_defaults_and_are_shown_as_ip_does(host):
    assert limits_line(obey(host, "limits")) == "add_addr_accepted 8 subflows 8"
    obey(host, "limits set subflows 2 add_addr_accepted 1")
    assert limits_line(obey(host, "limits show")) == "add_addr_accepted 1 subflows 2"


def test_monitor_prints_as_ip_does(host):
    obey(host, "endpoint add 10.0.1.2 subflow")
    meta = FakeMeta(host).established()
    meta.paths.on_subflow(meta.subflows[1], 0)
    meta.announce(1, bytes((192, 0, 2, 2)))
    meta.paths.on_remove_addr((1,), 0)
    meta.paths.close()
    server = FakeMeta(host, passive=True, remote=(b"\xfd" + bytes(15), 9)).established()
    server.paths.close()
    lines = [monitor_line({"t": 1.5, "event": name} | fields) for name, fields in host.events]
    assert lines == [
        "[       CREATED] token=6bfe599a remid=0 locid=0 saddr4=10.0.0.2 daddr4=192.0.2.1 sport=40000 dport=443",
        "[   ESTABLISHED] token=6bfe599a remid=0 locid=0 saddr4=10.0.0.2 daddr4=192.0.2.1 sport=40000 dport=443",
        "[SF_ESTABLISHED] token=6bfe599a remid=0 locid=1 saddr4=10.0.1.2 daddr4=192.0.2.1 sport=50001 dport=443"
        " backup=0",
        "[     ANNOUNCED] token=6bfe599a remid=1 daddr4=192.0.2.2 dport=443",
        "[       REMOVED] token=6bfe599a remid=1",
        "[     SF_CLOSED] token=6bfe599a remid=1 locid=0 saddr4=10.0.0.2 daddr4=192.0.2.2 sport=50002 dport=443"
        " backup=0",
        "[        CLOSED] token=6bfe599a",
        "[       CREATED] token=6bfe599a remid=0 locid=0 saddr4=10.0.0.2 daddr6=fd00:: sport=40000 dport=9 flags=2",
        "[   ESTABLISHED] token=6bfe599a remid=0 locid=0 saddr4=10.0.0.2 daddr6=fd00:: sport=40000 dport=9 flags=2",
        "[        CLOSED] token=6bfe599a",
    ]
    assert monitor_line({"t": 1.5, "event": "rto", "id": 3}) is None
