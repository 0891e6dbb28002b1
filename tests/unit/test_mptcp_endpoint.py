"""The endpoint table alone: IDs, refusals and flags as in `ip mptcp endpoint`."""

import errno

import pytest

from mptcp.pm import BACKUP, FULLMESH, SIGNAL, SUBFLOW, EndpointTable
from mptcp.pm.endpoint import IMPLICIT, MAX_ID, flag_words
from stack.errors import StackError


def addr(n: int) -> bytes:
    return bytes((10, 0, n >> 8, n & 255))


def refused(code: int, call, *args, **words) -> str:
    with pytest.raises(StackError) as caught:
        call(*args, **words)
    assert caught.value.errno == code
    return str(caught.value)


def test_ids_go_up_from_the_highest_that_ever_was():
    table = EndpointTable()
    assert table.add(addr(1)).id == 1
    assert table.add(addr(2), ident=7).id == 7
    assert table.add(addr(3)).id == 8
    table.remove(8)
    assert table.add(addr(4)).id == 9


def test_ids_begin_again_when_the_last_is_taken():
    table = EndpointTable()
    table.add(addr(1), ident=MAX_ID)
    assert table.add(addr(2)).id == 1


def test_no_more_endpoints_than_ids():
    table = EndpointTable()
    for n in range(1, MAX_ID + 1):
        table.add(addr(n))
    refused(errno.ERANGE, table.add, addr(999))


def test_an_id_or_address_in_use_is_refused_as_linux_does():
    table = EndpointTable()
    table.add(addr(1), ident=5)
    refused(errno.EBUSY, table.add, addr(2), ident=5)
    refused(errno.EEXIST, table.add, addr(1))
    refused(errno.EINVAL, table.add, addr(2), ident=256)


def test_a_port_wants_signal_without_subflow():
    table = EndpointTable()
    refused(errno.EINVAL, table.add, addr(1), port=80)
    refused(errno.EINVAL, table.add, addr(1), port=80, flags=SIGNAL | SUBFLOW)
    assert table.add(addr(1), port=80, flags=SIGNAL).port == 80


def test_signal_and_fullmesh_exclude_each_other():
    table = EndpointTable()
    refused(errno.EINVAL, table.add, addr(1), flags=SIGNAL | FULLMESH)
    signal = table.add(addr(1), flags=SIGNAL)
    refused(errno.EINVAL, table.change, signal, fullmesh=True)


def test_endpoints_with_a_port_come_first_and_the_same_address_may_have_several():
    table = EndpointTable()
    table.add(addr(1), flags=SIGNAL)
    table.add(addr(1), port=80, flags=SIGNAL)
    assert [each.port for each in table] == [80, 0]
    assert table.by_addr(addr(1)).port == 0
    assert table.by_addr(addr(1), 80).port == 80


def test_an_implicit_endpoint_is_made_once_and_gives_its_id_to_a_configured_one():
    table = EndpointTable()
    seen = table.implicit(addr(1))
    assert seen.flags == IMPLICIT
    assert table.implicit(addr(1)) is seen
    assert not table.touched
    refused(errno.EEXIST, table.add, addr(1), ident=9)
    assert table.add(addr(1), flags=SUBFLOW).id == seen.id
    assert table.touched
    assert len(table) == 1


def test_change_tells_which_flags_are_new():
    table = EndpointTable()
    endpoint = table.add(addr(1), flags=SUBFLOW)
    assert table.change(endpoint, backup=True) == BACKUP
    assert table.change(endpoint, backup=True) == 0
    assert table.change(endpoint, backup=False, fullmesh=True) == BACKUP | FULLMESH
    assert flag_words(endpoint.flags) == ["subflow", "fullmesh"]


def test_flush_forgets_the_ids_too_but_for_those_in_use():
    table = EndpointTable()
    table.implicit(addr(8))
    assert table.flush() == []
    assert table.add(addr(9)).id == 2
    table = EndpointTable()
    table.add(addr(1), ident=9)
    assert [each.id for each in table.flush()] == [9]
    assert table.add(addr(2)).id == 1
    refused(errno.EINVAL, table.by_id, 9)
    refused(errno.EINVAL, table.remove, 9)
