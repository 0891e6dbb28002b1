"""A DATA_ACK that stays away although TCP has acknowledged everything: asked for, and not for ever."""

import pytest

from kit.boxes import OldDataAcks
from kit.link import Link
from kit.mesh import Mesh
from stack.units import MSEC, SEC

DELAY = 5 * MSEC
SIZE = 30_000
SEGMENTS = 20


def held_back(answers, wires=1, **common):
    """A connection whose client has sent some text; the server says nothing new of it before it was asked so often."""
    box = OldDataAcks("b", answers)
    links = [Link(rate=1_000_000_000, delay=DELAY, queue=4_000_000, seed=number) for number in range(wires)]
    mesh = Mesh(links, box=box, offload=False, **common)
    client, server = mesh.connect()
    client.send(bytes(SIZE))
    mesh.flush()
    assert mesh.run(lambda: client.tx.una == client.tx.nxt and client.extra_subflows == wires - 1, SEC)
    server.consume(server.readable)
    box.armed = True
    client.send(bytes(SEGMENTS * client.subflows[0].mss))
    mesh.flush()
    assert mesh.run(lambda: server.readable == SEGMENTS * client.subflows[0].mss, SEC)
    return mesh, client, server


@pytest.mark.rfc("8684", "3.3.6")
@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("wires", [1, 2])
def test_it_is_asked_for_a_moment_after_the_last_acknowledgment(wires, v6):
    mesh, client, server = held_back(1, wires, v6=v6)
    began = mesh.clock.now
    assert mesh.run(lambda: client.tx.una == client.tx.nxt, SEC)
    assert mesh.clock.now - began < 100 * MSEC, "a delayed ACK, three round trips; the data-level timer takes over 200"
    assert mesh.host_a.mib.NuseDataAckAsked == 1
    assert (client.fallback, server.fallback) == ("", "")
    assert wires > 1 or client.tx.retransmitted == 0
    mib = mesh.host_a.stack.mib
    assert mib.TcpExtTCPDSACKRecv - mib.TcpExtTCPDSACKRecvSegs == 1, "the octet's speaks of no needless retransmission"


def test_where_nothing_helps_the_questions_become_rare():
    mesh, client, _server = held_back(1_000_000)
    asked = mesh.host_a.mib
    mesh.run(lambda: client.tx.retransmitted, 2 * SEC)
    assert client.tx.retransmitted, "the data-level timer remains"
    assert 2 <= asked.NuseDataAckAsked <= 8


def test_data_that_is_acknowledged_in_time_needs_no_question():
    mesh = Mesh([Link(rate=50_000_000, delay=DELAY, queue=150_000, loss=0.01, seed=number) for number in (1, 2)])
    result = mesh.transfer(2_000_000, 2_000_000)
    assert result.intact
    assert (mesh.host_a.mib.NuseDataAckAsked, mesh.host_b.mib.NuseDataAckAsked) == (0, 0)
