"""Path managers over a connection that is none: which subflows they open, and when."""

import errno

import pytest

from kit.mpmeta import LINK_A, LINK_B, LINK_C, SERVER, FakeHost, FakeMeta
from mptcp.options import KIND, AddAddr, RemoveAddr
from mptcp.pm import BACKUP, FULLMESH, NEVER, SIGNAL, SUBFLOW
from mptcp.pm.base import TRIES
from stack.errors import StackError
from stack.units import MSEC, SEC

HOME = SERVER[0]
OTHER = bytes((192, 0, 2, 2))
THIRD = bytes((192, 0, 2, 3))


@pytest.fixture
def host():
    return FakeHost()


def test_without_endpoints_every_address_is_one_for_subflows(host):
    meta = FakeMeta(host).established()
    assert meta.ways() == [(LINK_A, HOME), (LINK_B, HOME), (LINK_C, HOME)]
    assert len({each.local_id for each in meta.subflows}) == 3


def test_unless_the_sysctl_says_no(host):
    host.sysctl.mptcp_auto_endpoints = 0
    assert len(FakeMeta(host).established().subflows) == 1


def test_a_server_opens_nothing_by_itself(host):
    assert len(FakeMeta(host, passive=True).established().subflows) == 1


def test_a_peer_on_this_very_host_needs_no_second_path(host):
    assert len(FakeMeta(host, remote=(LINK_B, 80)).established().subflows) == 1


def test_configured_endpoints_replace_the_automatic_ones(host):
    host.pm.add(LINK_C, 0, flags=SUBFLOW | BACKUP)
    meta = FakeMeta(host).established()
    assert meta.ways() == [(LINK_A, HOME), (LINK_C, HOME)]
    assert [each.backup for each in meta.subflows] == [False, True]
    assert meta.subflows[1].local_id == host.pm.endpoints.by_addr(LINK_C).id


def test_without_the_last_endpoint_there_is_none(host):
    endpoint = host.pm.add(LINK_B, 0, flags=SUBFLOW)
    host.pm.delete(endpoint.id, 0)
    assert len(FakeMeta(host).established().subflows) == 1


def test_the_limit_of_subflows_counts_all_but_one(host):
    host.pm.set_limits(0, subflows=1)
    meta = FakeMeta(host).established()
    assert len(meta.subflows) == 2
    assert not meta.paths.accepts_join()
    assert any("limit" in each for each in meta.said)
    host.pm.set_limits(0, subflows=2)
    assert len(meta.subflows) == 3


def test_a_backup_endpoint_under_the_first_subflow_makes_it_one(host):
    host.pm.add(LINK_A, 0, flags=SUBFLOW | BACKUP)
    assert FakeMeta(host).established().subflows[0].backup


@pytest.mark.rfc("8684", "3.4.1")
def test_all_signal_endpoints_are_announced_with_the_first_acks(host):
    host.pm.add(LINK_B, 0, flags=SIGNAL)
    host.pm.add(LINK_C, 0, flags=SIGNAL)
    meta = FakeMeta(host, passive=True).established()
    assert meta.acks
    assert [each.addr for each in meta.told(40)] == [LINK_B, LINK_C]
    assert not meta.paths.pending


def test_what_one_ack_has_no_room_for_is_due_with_the_next(host):
    host.pm.add(LINK_B, 0, flags=SIGNAL)
    host.pm.add(LINK_C, 0, flags=SIGNAL)
    meta = FakeMeta(host, passive=True).established()
    meta.told(20, now=5)
    assert meta.paths.deadline == 5
    meta.acks = 0
    meta.paths.on_timeout(5)
    assert meta.acks == 1


def test_the_first_address_is_announced_only_if_it_may_not_be_joined(host):
    host.pm.add(LINK_A, 0, flags=SIGNAL)
    assert FakeMeta(host, passive=True).established().told() == []
    meta = FakeMeta(host, passive=True)
    meta.deny_join = True
    (option,) = meta.established().told()
    assert (option.address_id, option.addr) == (0, LINK_A)


def test_an_announcement_is_echoed_and_joined(host):
    host.pm.add(LINK_B, 0, flags=SUBFLOW)
    meta = FakeMeta(host).established()
    meta.announce(4, OTHER)
    assert meta.told() == [AddAddr(4, OTHER)]
    assert meta.ways()[2:] == [(LINK_A, OTHER)]  # where the route begins
    assert meta.subflows[2].conn.remote[1] == SERVER[1]
    assert (meta.subflows[2].local_id, meta.subflows[2].remote_id) == (0, 4)
    meta.announce(4, OTHER)
    assert len(meta.subflows) == 3


def test_an_announced_port_is_the_one_that_is_joined(host):
    meta = FakeMeta(host).established()
    meta.announce(4, OTHER, 8080)
    assert meta.subflows[-1].conn.remote == (OTHER, 8080)


def test_announcements_over_the_limit_are_echoed_and_no_more(host):
    host.pm.set_limits(0, add_addr_accepted=1)
    host.pm.add(LINK_B, 0, flags=SUBFLOW)
    meta = FakeMeta(host).established()
    meta.announce(4, OTHER)
    meta.announce(5, THIRD)
    assert len(meta.told()) == 2
    assert (LINK_A, THIRD) not in meta.ways()
    assert any("add_addr_accepted" in each for each in meta.said)


@pytest.mark.rfc("8684", "3.4.1")
def test_an_id_in_use_for_another_address_is_ignored(host):
    meta = FakeMeta(host).established()
    meta.announce(4, OTHER)
    meta.told()
    meta.announce(4, THIRD)
    assert meta.told() == []
    assert meta.paths.remotes == {4: (OTHER, SERVER[1])}


def test_a_server_joins_an_announcement_only_with_a_port(host):
    meta = FakeMeta(host, passive=True).established()
    meta.announce(4, OTHER)
    assert len(meta.subflows) == 1
    meta.announce(5, THIRD, 8080)
    assert meta.ways()[1:] == [(LINK_A, THIRD)]


def test_a_fullmesh_endpoint_goes_to_every_address(host):
    host.pm.add(LINK_B, 0, flags=SUBFLOW | FULLMESH)
    host.pm.add(LINK_C, 0, flags=SUBFLOW)
    meta = FakeMeta(host).established()
    meta.announce(4, OTHER)
    assert set(meta.ways()) == {(LINK_A, HOME), (LINK_B, HOME), (LINK_B, OTHER), (LINK_C, HOME)}


@pytest.mark.rfc("8684", "3.1")
def test_a_peer_that_denies_joins_to_its_first_address_is_joined_at_the_others(host):
    meta = FakeMeta(host)
    meta.peer_denies_join = True
    meta.established()
    assert len(meta.subflows) == 1
    meta.announce(4, OTHER)
    assert set(meta.ways()) == {(LINK_A, HOME), (LINK_A, OTHER), (LINK_B, OTHER), (LINK_C, OTHER)}


@pytest.mark.rfc("8684", "3.4.2")
def test_a_removed_address_of_the_peer_takes_its_subflows_along(host):
    meta = FakeMeta(host).established()
    meta.announce(4, OTHER)
    meta.paths.on_remove_addr((4,), 0)
    assert OTHER not in {remote for _, remote in meta.ways()}
    meta.paths.on_remove_addr((0,), 0)
    assert meta.subflows == []
    meta.paths.on_timeout(SEC)
    assert meta.ways() == [(LINK_A, HOME)]  # the last resort


def test_an_address_that_was_taken_back_is_the_last_resort(host):
    host.pm.add(LINK_B, 0, flags=SUBFLOW)
    meta = FakeMeta(host).established()
    host.pm.delete(0, 0, LINK_A)
    assert meta.ways() == [(LINK_B, HOME)]
    meta.paths.on_timeout(10 * SEC)
    assert meta.ways() == [(LINK_B, HOME)]
    host.pm.flush(20 * SEC)
    assert meta.ways() == [(LINK_A, HOME)]


def test_a_signalled_address_is_announced_again_when_it_is_back(host):
    for addr in (LINK_A, LINK_B):
        host.pm.add(addr, 0, flags=SIGNAL)
    meta = FakeMeta(host, passive=True).established()
    meta.told()
    for addr, name in ((LINK_A, "tun0"), (LINK_B, "tun1")):
        link = host.links[name]
        host.stack.remove_addr(link, addr)
        host.pm.on_addr_removed(link, addr, 0)
        meta.told()
        host.stack.add_addr(link, addr, 24)
        host.pm.on_addr_added(link, addr, 0)
        (option,) = meta.told()
        assert option.addr == addr
        assert option.address_id == (0 if addr == LINK_A else 2)


def test_an_endpoint_that_goes_is_removed_at_the_peer_with_its_subflows(host):
    endpoint = host.pm.add(LINK_B, 0, flags=SUBFLOW)
    host.pm.add(LINK_C, 0, flags=SIGNAL)
    meta = FakeMeta(host).established()
    meta.told()
    host.pm.delete(endpoint.id, 0)
    assert meta.told() == [RemoveAddr((endpoint.id,))]
    assert meta.ways() == [(LINK_A, HOME)]
    assert host.mib.MPTcpExtRmSubflow == 1
    host.pm.flush(0)
    assert meta.told() == [RemoveAddr((endpoint.id + 1,))]


def test_the_address_that_a_connection_began_with_is_id_zero(host):
    endpoint = host.pm.add(LINK_A, 0, flags=SUBFLOW)
    host.pm.add(LINK_B, 0, flags=SUBFLOW)
    meta = FakeMeta(host).established()
    assert meta.paths.local_id(LINK_A) == 0
    host.pm.delete(endpoint.id, 0)
    assert meta.told() == [RemoveAddr((0,))]
    assert meta.ways() == [(LINK_B, HOME)]
    meta.paths.on_timeout(60 * SEC)
    assert meta.ways() == [(LINK_B, HOME)]  # it was taken back, so it does not return
    host.pm.add(LINK_A, 61 * SEC, flags=SUBFLOW)
    assert meta.ways() == [(LINK_B, HOME), (LINK_A, HOME)]


def test_delete_id_zero_meets_only_connections_that_began_there(host):
    host.pm.add(LINK_C, 0, flags=SUBFLOW)
    here, there = FakeMeta(host).established(), FakeMeta(host, local=LINK_B).established()
    host.pm.delete(0, 0, LINK_A)
    assert here.ways() == [(LINK_C, HOME)]
    assert there.ways() == [(LINK_B, HOME), (LINK_C, HOME)]


def test_a_new_endpoint_serves_old_connections(host):
    host.sysctl.mptcp_auto_endpoints = 0
    meta = FakeMeta(host).established()
    host.pm.add(LINK_B, 0, flags=SUBFLOW)
    host.pm.add(LINK_C, 0, flags=SIGNAL)
    assert meta.ways() == [(LINK_A, HOME), (LINK_B, HOME)]
    assert [each.addr for each in meta.told()] == [LINK_C]


@pytest.mark.rfc("8684", "3.3.8")
def test_a_changed_backup_flag_reaches_the_subflows(host):
    endpoint = host.pm.add(LINK_B, 0, flags=SUBFLOW)
    meta = FakeMeta(host).established()
    host.pm.change(endpoint, 0, backup=True)
    assert [each.backup for each in meta.subflows] == [False, True]
    host.pm.change(endpoint, 0, backup=False)
    assert not meta.subflows[1].backup


def test_fullmesh_comes_and_goes_with_its_flag(host):
    endpoint = host.pm.add(LINK_B, 0, flags=SUBFLOW)
    meta = FakeMeta(host).established()
    meta.announce(4, OTHER)
    assert (LINK_B, OTHER) not in meta.ways()
    host.pm.change(endpoint, 0, fullmesh=True)
    assert (LINK_B, OTHER) in meta.ways()
    host.pm.change(endpoint, 0, fullmesh=False)
    assert (LINK_B, OTHER) not in meta.ways()
    assert (LINK_B, HOME) in meta.ways()


# ---------------------------------------------------------------------- what ends comes back


def test_a_closed_path_comes_back_after_a_second_then_two_then_four(host):
    host.pm.add(LINK_B, 0, flags=SUBFLOW)
    meta = FakeMeta(host).established()
    now, waits = 0, []
    for _ in range(8):
        meta.end(meta.subflows[1], now)
        assert len(meta.subflows) == 1
        waits.append((meta.paths.deadline - now) // SEC)
        now = meta.paths.deadline
        meta.paths.on_timeout(now)
        meta.paths.on_subflow(meta.subflows[1], now)
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]


def test_a_path_that_lasted_begins_with_a_second_again(host):
    host.pm.add(LINK_B, 0, flags=SUBFLOW)
    meta = FakeMeta(host).established()
    for now in (0, 100 * SEC, 200 * SEC):
        meta.paths.on_subflow(meta.subflows[1], now)
        meta.end(meta.subflows[1], now + 90 * SEC)
        assert meta.paths.deadline == now + 91 * SEC
        meta.paths.on_timeout(now + 91 * SEC)


def test_a_join_refused_at_first_is_tried_again_after_a_round_trip(host):
    """It may have overtaken what the peer needed before it; then come the usual waits."""
    host.pm.add(LINK_B, 0, flags=SUBFLOW)
    meta = FakeMeta(host).established()
    meta.subflows[0].srtt = 30 * MSEC
    now = 0
    for wait in (60 * MSEC, SEC, 2 * SEC):
        refused = meta.subflows[1]
        refused.joined, refused.conn.error = False, errno.ECONNREFUSED
        meta.end(refused, now)
        assert meta.paths.deadline == now + wait
        now = meta.paths.deadline
        meta.paths.on_timeout(now)


def test_the_first_subflow_comes_back_too(host):
    host.pm.add(LINK_B, 0, flags=SUBFLOW)
    meta = FakeMeta(host).established()
    meta.end(meta.subflows[0], 0)
    assert meta.ways() == [(LINK_B, HOME)]
    meta.paths.on_timeout(meta.paths.deadline)
    assert meta.ways() == [(LINK_B, HOME), (LINK_A, HOME)]
    assert (meta.subflows[1].local_id, meta.subflows[1].remote_id) == (0, 0)


def test_without_any_path_the_waits_stay_short(host):
    host.sysctl.mptcp_auto_endpoints = 0
    meta = FakeMeta(host).established()
    meta.broken = {HOME}
    meta.end(meta.subflows[0], 0)
    now, waits = 0, []
    for _ in range(6):
        waits.append((meta.paths.deadline - now) // SEC)
        now = meta.paths.deadline
        meta.paths.on_timeout(now)
    assert waits == [1, 2, 4, 8, 8, 8]


def test_a_path_that_never_was_is_given_up_until_its_link_comes_up(host):
    host.pm.add(LINK_B, 0, flags=SUBFLOW)
    meta = FakeMeta(host)
    meta.broken = {LINK_B}
    meta.established()
    tries = 0
    while meta.paths.deadline != NEVER:
        meta.paths.on_timeout(meta.paths.deadline)
        tries += 1
        assert tries < 100
    assert tries == TRIES - 1
    meta.broken = set()
    host.pm.on_link_up(host.links["tun1"], 0)
    assert meta.ways() == [(LINK_A, HOME), (LINK_B, HOME)]


def test_a_link_that_is_down_is_waited_for(host):
    host.links["tun1"].up = False
    meta = FakeMeta(host).established()
    assert meta.ways() == [(LINK_A, HOME), (LINK_C, HOME)]
    assert any("tun1, which is down" in each for each in meta.said)
    host.links["tun1"].up = True
    host.pm.on_link_up(host.links["tun1"], 0)
    assert (LINK_B, HOME) in meta.ways()


def test_link_up_does_not_wait_for_the_back_off(host):
    host.pm.add(LINK_B, 0, flags=SUBFLOW)
    meta = FakeMeta(host).established()
    meta.end(meta.subflows[1], 0)
    host.pm.on_link_up(host.links["tun1"], 1)
    assert (LINK_B, HOME) in meta.ways()
    assert meta.paths.deadline == NEVER


def test_link_up_asks_whether_the_peer_still_knows_what_is_there(host):
    meta = FakeMeta(host).established()
    host.pm.on_link_up(host.links["tun1"], 1)
    assert [each.conn.local[0] for each in meta.probed] == [LINK_B]


def test_an_address_that_goes_and_comes(host):
    meta = FakeMeta(host).established()
    ident = meta.subflows[1].local_id
    link = host.links["tun1"]
    host.stack.remove_addr(link, LINK_B)
    host.pm.on_addr_removed(link, LINK_B, 0)
    assert meta.told() == [RemoveAddr((ident,))]
    assert meta.ways() == [(LINK_A, HOME), (LINK_C, HOME)]
    host.stack.add_addr(link, LINK_B, 24)
    host.pm.on_addr_added(link, LINK_B, 0)
    assert (LINK_B, HOME) in meta.ways()


def test_a_server_lets_the_client_come_back(host):
    meta = FakeMeta(host, passive=True).established()
    meta.end(meta.subflows[0], 0)
    assert meta.paths.deadline == NEVER
    meta.paths.on_timeout(0)
    assert meta.subflows == []


def test_a_server_tries_a_client_once(host):
    host.pm.add(LINK_B, 0, flags=SUBFLOW)
    meta = FakeMeta(host, passive=True).established()
    assert meta.ways() == [(LINK_A, HOME), (LINK_B, HOME)]
    meta.end(meta.subflows[1], 0)
    assert meta.paths.deadline == NEVER


def test_after_a_fallback_or_the_end_nothing_is_opened(host):
    meta = FakeMeta(host)
    meta.fallback = "no MP_CAPABLE"
    meta.established()
    assert len(meta.subflows) == 1
    other = FakeMeta(host).established()
    other.paths.close()
    other.end(other.subflows[1], 0)
    assert other.paths.deadline == NEVER
    assert len(other.subflows) == 2
    assert list(host.pm.live) == [meta.paths]


# ---------------------------------------------------------------------- ndiffports, ports, events


def test_ndiffports_opens_the_same_path_several_times(host):
    host.sysctl.path_manager = "ndiffports"
    host.sysctl.mptcp_ndiffports = 3
    meta = FakeMeta(host).established()
    assert meta.ways() == [(LINK_A, HOME)] * 3
    meta.end(meta.subflows[0], 0)
    meta.paths.on_timeout(SEC)
    assert meta.ways() == [(LINK_A, HOME)] * 3


def test_an_endpoint_with_a_port_is_listened_at(host):
    endpoint = host.pm.add(LINK_B, 0, port=8080, flags=SIGNAL)
    meta = FakeMeta(host, passive=True).established()
    (option,) = meta.told()
    assert (option.addr, option.port) == (LINK_B, 8080)
    join, capable = (KIND, b"\x10" + bytes(9)), (KIND, b"\x01\x01")
    assert host.listener.extension(b"key", [join])
    for others in ([], [capable]):
        with pytest.raises(StackError):
            host.listener.extension(b"key", others)
    assert host.mib.MPTcpExtMPCapableEndpAttempt == 2
    host.pm.delete(endpoint.id, 0)
    assert host.listener.closed
    assert meta.told() == [RemoveAddr((endpoint.id,))]
    assert [kind for kind, _ in host.events if "listener" in kind] == [
        "mptcp-listener-created",
        "mptcp-listener-closed",
    ]


def test_events_are_those_of_ip_mptcp_monitor(host):
    host.pm.add(LINK_B, 0, flags=SUBFLOW)
    meta = FakeMeta(host).established()
    meta.paths.on_subflow(meta.subflows[1], 0)
    meta.announce(4, OTHER)
    meta.paths.on_prio(meta.subflows[1], 0)
    meta.paths.on_remove_addr((4,), 0)
    meta.paths.close()
    assert [kind for kind, _ in host.events] == [
        "mptcp-created",
        "mptcp-established",
        "mptcp-sf-established",
        "mptcp-announced",
        "mptcp-sf-prio",
        "mptcp-removed",
        "mptcp-sf-closed",
        "mptcp-closed",
    ]
    assert host.events[2][1] == {
        "token": "6bfe599a",
        "remid": 0,
        "locid": 1,
        "saddr4": "10.0.1.2",
        "daddr4": "192.0.2.1",
        "sport": 50001,
        "dport": 443,
        "backup": 0,
    }
    assert host.events[3][1] == {"token": "6bfe599a", "remid": 4, "daddr4": "192.0.2.2", "dport": 443}


def test_known_remotes_have_the_ids_they_were_announced_with(host):
    meta = FakeMeta(host).established()
    meta.announce(4, OTHER, 8080)
    assert meta.paths.known_remote(OTHER, 8080) == 4
    assert meta.paths.known_remote(*SERVER) == 0
    assert meta.paths.known_remote(THIRD, 1) is None


def test_an_endpoint_whose_port_is_taken_is_none(host):
    host.stack.tcp.bind(LINK_B, 8080)
    with pytest.raises(StackError):
        host.pm.add(LINK_B, 0, port=8080, flags=SIGNAL)
    assert not len(host.pm.endpoints)


def test_an_announcement_nobody_echoes_is_said(host):
    host.pm.add(LINK_B, 0, flags=SIGNAL)
    meta = FakeMeta(host, passive=True).established()
    now = 0
    while True:
        assert len(meta.told(now=now)) == 1
        now = meta.paths.deadline
        meta.paths.on_timeout(now)
        if not meta.paths.pending:
            break
    assert any("never echoed" in each for each in meta.said)
    assert meta.paths.deadline == NEVER
