"""What an MptcpHost decides before there is a connection."""

import pytest

from kit.mesh import Mesh, addr
from kit.pair import PORT


@pytest.mark.parametrize("why", ["net.mptcp.enabled is 0", "no free token", "SYNs with MPTCP vanished"])
def test_who_is_told_of_a_fallback_before_the_syn_finds_its_addresses(why, monkeypatch):
    """The event log asks for them."""
    mesh = Mesh()
    host = mesh.host_a
    if "enabled" in why:
        host.sysctl.enabled = 0
    elif "token" in why:
        monkeypatch.setattr(host.tokens, "claim", lambda _: None)
    else:
        monkeypatch.setattr(host.blackholes, "active", lambda _: True)
    told = []
    mesh.a.tracer = lambda name, subject: told.append((name, subject.local, subject.remote))
    meta = host.connect((addr("b", 0), PORT), mesh.clock.now)
    assert why in meta.fallback
    assert ("mptcp", meta.local, (addr("b", 0), PORT)) in told
