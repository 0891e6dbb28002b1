"""ADD_ADDR, echo and REMOVE_ADDR on their way into ACKs."""

from types import SimpleNamespace

import pytest

from mptcp.crypto import add_addr_hmac
from mptcp.options import KIND, AddAddr, RemoveAddr, parse
from mptcp.pm.signals import HURRY, MAX_ECHOES, NEVER, RETRIES, Signals
from stack.units import MSEC, SEC

OURS, THEIRS = b"ourskey1", b"theirkey"
V4, V6 = bytes((10, 0, 0, 1)), bytes(15) + b"\1"
ROOM = 28  # of an ACK with timestamps


@pytest.fixture
def mib():
    names = ("AddAddrTx", "AddAddrTxDrop", "EchoAddTx", "EchoAddTxDrop", "RmAddrTx")
    return SimpleNamespace(**{f"MPTcpExt{name}": 0 for name in names})


@pytest.fixture
def signals(mib):
    return Signals(OURS, THEIRS, mib)


def taken(signals: Signals, room: int = ROOM, rto: int = SEC, now: int = 0) -> list:
    """The options that an ACK gets."""
    raw = signals.options(room, rto, now)
    assert len(raw) <= room
    assert len(raw) % 4 == 0
    found = []
    while raw:
        if raw[0] == 1:
            raw = raw[1:]
            continue
        assert raw[0] == KIND
        found.append(parse(raw[2 : raw[1]]))
        raw = raw[raw[1] :]
    return found


@pytest.mark.rfc("8684", "3.4.1")
def test_an_announcement_proves_itself(signals, mib):
    signals.announce(3, V4, 80)
    assert signals.pending
    (option,) = taken(signals)
    assert option == AddAddr(3, V4, 80, add_addr_hmac(OURS, THEIRS, 3, V4, 80))
    assert not signals.pending
    assert mib.MPTcpExtAddAddrTx == 1


def test_all_announcements_are_under_way_at_once(signals):
    for ident in (1, 2, 3):
        signals.announce(ident, V4[:3] + bytes((ident,)))
    assert [each.address_id for each in taken(signals, 40)] == [1, 2]
    assert [each.address_id for each in taken(signals, 40)] == [3]
    assert not signals.pending


def test_what_does_not_fit_waits(signals):
    signals.announce(1, V6)
    assert taken(signals, 24) == []
    assert signals.pending
    assert len(taken(signals, 28)) == 1


@pytest.mark.rfc("8684", "3.4.1")
def test_an_announcement_is_repeated_until_its_echo(signals):
    signals.announce(1, V4)
    taken(signals, now=0)
    assert signals.deadline == SEC
    assert signals.on_timeout(SEC) == []
    assert signals.pending
    taken(signals, now=SEC)
    assert signals.deadline == 3 * SEC  # twice as long
    assert signals.on_echo(AddAddr(1, V4), 2 * SEC)
    assert signals.deadline == NEVER


@pytest.mark.rfc("8684", "3.4.1")
def test_of_several_that_a_peer_drops_but_one_the_next_follows_its_echo(signals):
    """Linux works on one at a time."""
    for ident in range(1, 6):
        signals.announce(ident, bytes((10, 0, 0, ident)))
    taken(signals, room=200, now=0)
    for ident in range(1, 6):
        now = ident * 20 * MSEC
        assert signals.on_echo(AddAddr(ident, bytes((10, 0, 0, ident))), now)
        assert signals.on_echo(AddAddr(ident, bytes((10, 0, 0, ident))), now)  # a second one hurries nothing
        if ident < 5:
            assert signals.deadline == now + HURRY
            assert signals.on_timeout(signals.deadline) == []
            assert [each.address_id for each in taken(signals, now=signals.deadline)] == [ident + 1]
    assert signals.deadline == NEVER


def test_an_announcement_nobody_echoes_is_given_up(signals, mib):
    signals.announce(1, V4)
    times = []
    for _ in range(RETRIES + 1):
        taken(signals, now=times[-1] if times else 0)
        times.append(signals.deadline)
        lost = signals.on_timeout(signals.deadline)
    assert times == [SEC, 3 * SEC, 7 * SEC, 15 * SEC]
    assert [each.addr for each in lost] == [V4]
    assert not signals.pending
    assert signals.deadline == NEVER
    assert mib.MPTcpExtAddAddrTx == 1 + RETRIES


def test_without_a_timeout_nothing_is_repeated(signals):
    signals.announce(1, V4)
    taken(signals, rto=NEVER)
    assert signals.deadline == NEVER


def test_an_echo_counts_for_just_what_was_announced(signals):
    signals.announce(1, V4)
    taken(signals)
    assert not signals.on_echo(AddAddr(2, V4), 2 * SEC)
    assert not signals.on_echo(AddAddr(1, V6), 2 * SEC)
    assert not signals.on_echo(AddAddr(1, V4, 80), 2 * SEC)
    assert signals.deadline == SEC


def test_an_echo_has_no_hmac_and_goes_before_announcements(signals, mib):
    signals.announce(1, V4)
    signals.echo(AddAddr(9, V4, 0, b"12345678"))
    signals.echo(AddAddr(9, V4, 0, b"12345678"))
    echo, announcement = taken(signals)
    assert echo == AddAddr(9, V4)
    assert echo.echo
    assert not announcement.echo
    assert mib.MPTcpExtEchoAddTx == 1


def test_a_flood_of_announcements_gets_a_bounded_queue_of_echoes(signals, mib):
    for n in range(MAX_ECHOES + 5):
        signals.echo(AddAddr(n, V4, 0, b"12345678"))
    assert mib.MPTcpExtEchoAddTxDrop == 5


@pytest.mark.rfc("8684", "3.4.2")
def test_a_removal_names_all_ids_at_once_and_ends_their_announcement(signals, mib):
    signals.announce(1, V4)
    signals.remove(1)
    signals.remove(2)
    signals.remove(2)
    assert taken(signals) == [RemoveAddr((1, 2))]
    assert not signals.pending
    assert mib.MPTcpExtRmAddrTx == 1


def test_an_id_that_is_used_again_is_removed_before(signals):
    signals.remove(1)
    signals.announce(1, V4)
    assert taken(signals) == [RemoveAddr((1,)), AddAddr(1, V4, 0, add_addr_hmac(OURS, THEIRS, 1, V4))]


def test_ipv6_with_a_port_never_fits_beside_timestamps(signals, mib):
    signals.announce(1, V6, 80)
    for _ in range(3):
        assert taken(signals) == []
    assert not signals.pending
    assert mib.MPTcpExtAddAddrTxDrop == 1
    signals.announce(1, V6, 80)
    assert len(taken(signals, 40)) == 1
