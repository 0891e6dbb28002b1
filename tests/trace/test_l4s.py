"""Hooks for scalable congestion control (L4S, RFC 9331): ECT(1) where feedback is accurate, nowhere else."""

import pytest

from kit.oracle import decode
from kit.pair import Pair
from stack.tcp.cc.dctcp import Dctcp
from stack.units import SEC

NOT_ECT, ECT1, ECT0, CE = range(4)


class Scalable(Dctcp):
    """All that a Prague sender needs from the stack."""

    l4s = True


@pytest.mark.rfc("9331", "4.1")
@pytest.mark.rfc("9331", "4.2")
@pytest.mark.parametrize(("tcp_ecn", "field"), [(3, ECT1), (1, ECT0)])
def test_packets_are_marked_where_the_peer_agreed_to_accurate_feedback(tcp_ecn, field):
    pair = Pair()
    pair.a.sysctl.tcp_ecn = pair.b.sysctl.tcp_ecn = tcp_ecn
    seen = []
    pair.taps.append(lambda name, packet, _now: seen.append((name, decode([packet]))))
    client, _server = pair.connect()
    client.cc = Scalable(client.tcb.mss_cache, pair.clock.now)
    client.send(bytes(20_000))
    pair.flush()
    pair.idle(SEC)
    assert {packet.tos & 3 for name, packet in seen if name == "a" and packet.payload} == {field}
    assert all(packet.tos & 3 != ECT1 for name, packet in seen if name == "b"), "the other half did not ask"
