"""Endpoints, limits, addresses and links of both hosts changed at random under a connection that talks.

Whatever was done: no exception, and once all links and addresses are back the connection goes on, unless it lost its
first subflow before the server could have known the client's key.
"""

import os
import random

import pytest

from kit.link import Link
from kit.mesh import Mesh, addr
from mptcp.pm import BACKUP, FULLMESH, SIGNAL, SUBFLOW
from stack.errors import StackError
from stack.units import MSEC, SEC

pytestmark = pytest.mark.long

K = 1024
FLAGS = (SIGNAL, SUBFLOW, SUBFLOW | FULLMESH, SUBFLOW | BACKUP, SIGNAL | SUBFLOW)


class Chaos:
    """One seed's world."""

    def __init__(self, seed):
        rng = self.rng = random.Random(seed)
        self.count, self.v6 = rng.randint(1, 4), rng.random() < 0.3
        links = [
            Link(
                rate=20_000_000, delay=rng.choice([5, 20, 60]) * MSEC, loss=rng.choice([0.0, 0.0, 0.02]), seed=seed + n
            )
            for n in range(self.count)
        ]
        kinds = ["kernel", "kernel", "kernel", "ndiffports"]
        knobs = {"mptcp_auto_endpoints": rng.randint(0, 1), "path_manager": rng.choice(kinds)}
        self.net = Mesh(links, v6=self.v6, mptcp=knobs)
        self.conns = self.net.connect()
        self.wanted, self.sent, self.got = [0, 0], [0, 0], [0, 0]
        self.log = []

    def pump(self):
        """Write and read what can be."""
        for n, (one, other) in enumerate((self.conns, self.conns[::-1])):
            while self.sent[n] < self.wanted[n] and one.send_space > 0 and not one.error:
                size = min(4 * K, self.wanted[n] - self.sent[n])
                one.send(bytes(size))
                self.sent[n] += size
            self.got[n] += other.readable
            other.consume(other.readable)
        self.net.flush()

    def done(self):
        """All was read, or it is over."""
        self.pump()
        return self.got == self.wanted or self.over()

    def over(self):
        """The connection died."""
        return any(conn.error for conn in self.conns)

    def act(self):
        """One random thing; what the stack refuses is no harm."""
        side = self.rng.choice("ab")
        host = self.net.host_a if side == "a" else self.net.host_b
        verb = self.rng.choice([self.add, self.delete, self.flush, self.change, self.limit, self.reset, self.cut])
        verb = self.rng.choice([verb, self.link, self.addresses, self.talk])
        self.log.append((side, verb.__name__))
        try:
            verb(side, host, self.net.clock.now)
        except StackError as exc:
            self.log.append(exc.strerror)

    def add(self, side, host, now):
        where = addr(side, self.rng.randrange(self.count), self.rng.random() < 0.5)
        port = self.rng.choice([0, 0, 0, 8000 + self.rng.randrange(9)])
        host.pm.add(where, now, port=port, flags=self.rng.choice(FLAGS))

    def delete(self, side, host, now):
        ids = [0, *(each.id for each in host.pm.endpoints)]
        host.pm.delete(self.rng.choice(ids), now, addr(side, 0, self.v6))

    def flush(self, side, host, now):
        host.pm.flush(now)

    def change(self, side, host, now):
        for endpoint in list(host.pm.endpoints)[:1]:
            flags = (None, True, False)
            host.pm.change(endpoint, now, backup=self.rng.choice(flags), fullmesh=self.rng.choice(flags))

    def limit(self, side, host, now):
        host.pm.set_limits(now, subflows=self.rng.randint(0, 8), add_addr_accepted=self.rng.randint(0, 8))

    def reset(self, side, host, now):
        for subflow in self.conns["ab".index(side)].subflows[-1:]:
            subflow.conn.abort()

    def cut(self, side, host, now):
        self.net.up[self.rng.randrange(self.count)] ^= True

    def link(self, side, host, now):
        link = host.stack.links[f"tun{self.rng.randrange(self.count)}"]
        host.stack.set_link_up(link, not link.up)
        if link.up:
            host.pm.on_link_up(link, now)

    def addresses(self, side, host, now):
        wire = self.rng.randrange(self.count)
        link, where = host.stack.links[f"tun{wire}"], addr(side, wire, self.v6)
        if host.stack.routes.is_local(where):
            host.stack.remove_addr(link, where)
            host.pm.on_addr_removed(link, where, now)
        else:
            host.stack.add_addr(link, where, 64 if self.v6 else 24)
            host.pm.on_addr_added(link, where, now)

    def talk(self, side, host, now):
        self.wanted["ab".index(side)] += self.rng.randint(1, 40 * K)

    def heal(self):
        """Everything is as it was in the beginning."""
        self.net.up = [True] * self.count
        now = self.net.clock.now
        for side, host in (("a", self.net.host_a), ("b", self.net.host_b)):
            for wire in range(self.count):
                link, where = host.stack.links[f"tun{wire}"], addr(side, wire, self.v6)
                host.stack.set_link_up(link, True)
                if not host.stack.routes.is_local(where):
                    host.stack.add_addr(link, where, 64 if self.v6 else 24)
                    host.pm.on_addr_added(link, where, now)
                host.pm.on_link_up(link, now)
            host.pm.set_limits(now, subflows=8, add_addr_accepted=8)


@pytest.mark.parametrize("seed", range(int(os.environ.get("NUSE_SCHEDULES", "30"))))
def test_a_connection_outlives_what_is_done_to_its_paths(seed):
    chaos = Chaos(seed)
    for _ in range(chaos.rng.randint(5, 25)):
        chaos.act()
        chaos.pump()
        chaos.net.idle(chaos.rng.choice([50, 300, 1500]) * MSEC)
    chaos.heal()
    chaos.net.run(chaos.done, 120 * SEC)
    client, server = chaos.conns
    if client.fully_established:
        assert chaos.got == chaos.wanted, (chaos.log, client.error, server.error, client.why, server.why)
    chaos.net.check()
