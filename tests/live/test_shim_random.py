"""Random socket programs, on the kernel and on the stack: each step must give the same result, errno and poll masks.

NUSE_PROGRAMS=5000 HYPOTHESIS_PROFILE=random hunts for more; what it finds becomes an example here.
"""

import asyncio
import os

from hypothesis import HealthCheck, example, given, settings

from .random_programs import programs
from .shim_lab import run_lab
from .shim_random_lab import Arena

COUNT = int(os.environ.get("NUSE_PROGRAMS", "200"))
SERVER = [["socket", 0, "tcp", 4, True], ["bind", 0, ["lo", 1]], ["listen", 0, 8]]
CLIENT = [["socket", 1, "tcp", 4, True], ["connect", 1, ["lo", 1]]]
PAIR = [*SERVER, *CLIENT, ["accept", 0, 2]]
SERVER6 = [["socket", 0, "tcp", 6, True], ["bind", 0, ["lo", 1]], ["listen", 0, 8]]
UDP, UDP6 = ["socket", 0, "udp", 4, True], ["socket", 0, "udp", 6, True]
FOUND = (  # what once differed, shrunk
    # shutdown of a UDP socket without a peer: ENOTCONN, and yet it works
    [UDP, ["shutdown", 0, 2], ["set", 0, 0, 1, 16], ["shutdown", 0, 0], ["recv", 0, 5, "recvfrom", ""]],
    [UDP, ["shutdown", 0, 0], ["recv", 0, 5, "recvfrom", ""], ["shutdown", 0, 1], ["sendto", 0, 5, ["lo", 1], ""]],
    [UDP6, ["shutdown", 0, 2], ["connect", 0, ["lo", 1]], ["bind", 0, ["lo", 2]]],
    [UDP, ["bind", 0, ["lo", 1]], ["shutdown", 0, 2], ["close", 0], UDP, ["bind", 0, ["lo", 1]]],
    # UDP: names
    [UDP, ["connect", 0, ["lo", 0]], ["peername", 0]],
    [UDP, ["send", 0, 5, "sendmsg", ""], ["bind", 0, ["lo", 1]], ["sockname", 0]],
    [UDP6, ["connect", 0, ["lo", 1]], ["sendto", 0, 5, ["mapped", 2], ""]],
    [UDP, ["connect", 0, ["lo", 1]], ["send", 0, 1, "send", ""], ["sendto", 0, 1, ["lo", 0], ""], ["error", 0]],
    [UDP, ["sendto", 0, 1, ["lo", 0], ""], ["connect", 0, ["slot", 0]], ["sockname", 0]],
    [*PAIR, ["shutdown", 1, 0], ["shutdown", 1, 1], ["set", 1, 0, 1, 16], ["sockname", 1]],
    # a reset after the peer's FIN: reads still end well
    [*PAIR, ["send", 2, 5, "send", ""], ["close", 2], ["send", 1, 1, "send", ""], ["recv", 1, 9, "recv", ""],
     ["recv", 1, 9, "recv", ""], ["error", 1], ["error", 1], ["send", 1, 1, "send", ""]],
    # bind: order of errors, and what holds a port
    [*PAIR, ["bind", 1, ["alien", 1]], ["bind", 1, ["lo", 2]]],
    [*SERVER, ["socket", 1, "tcp", 4, True], ["shutdown", 0, 2], ["bind", 1, ["any", 1]], ["listen", 0, 8]],
    [*PAIR, ["shutdown", 0, 2], ["listen", 0, 8]],
    [*PAIR, ["close", 0], ["socket", 0, "tcp", 4, True], ["bind", 0, ["lo", 1]]],
    [*SERVER, ["socket", 1, "tcp", 4, True], ["bind", 1, ["lo", 2]], ["connect", 1, ["lo", 1]], ["accept", 0, 2],
     ["set", 2, 1, 13, "0100000000000000"], ["close", 2], ["socket", 3, "tcp", 4, True], ["bind", 3, ["lo", 2]],
     ["close", 1], ["bind", 3, ["lo", 2]]],
    [["socket", 0, "tcp", 4, True], ["bind", 0, ["lo", 0]], ["connect", 0, ["lo", 2]], ["bind", 0, ["lo", 1]]],
    [["socket", 0, "tcp", 4, False], ["connect", 0, ["lo", 2]], ["sockname", 0], ["bind", 0, ["lo", 1]]],
    [UDP, ["bind", 0, ["lo", 0]], ["connect", 0, ["lo", 1]], ["disconnect", 0], ["bind", 0, ["lo", 1]]],
    # SO_REUSEPORT set or taken back after bind
    [UDP, ["bind", 0, ["lo2", 1]], ["set", 0, 1, 15, 1], ["socket", 1, "udp", 6, True], ["set", 1, 1, 15, 1],
     ["bind", 1, ["any", 1]]],
    [["socket", 0, "tcp", 4, True], ["set", 0, 1, 15, 1], ["bind", 0, ["lo", 1]], ["socket", 1, "tcp", 4, True],
     ["set", 1, 1, 15, 1], ["bind", 1, ["any", 1]], ["set", 0, 1, 15, 0], ["listen", 0, 1]],
    # a failed connect is told to sendmsg and recvmsg; so is one that worked and was reset before anybody asked
    [["socket", 0, "tcp", 4, False], ["connect", 0, ["lo", 2]], ["recv", 0, 5, "recvmsg", ""], ["error", 0]],
    [["socket", 0, "tcp", 4, False], ["connect", 0, ["lo", 2]], ["send", 0, 5, "sendmsg", ""], ["error", 0]],
    [["socket", 1, "tcp", 4, False], ["connect", 1, ["lo", 1]], ["recv", 1, 2, "recv", ""], ["connect", 1, ["lo", 1]]],
    [*SERVER, ["socket", 1, "tcp", 4, False], ["connect", 1, ["lo", 1]], ["shutdown", 0, 2], ["connect", 1, ["lo", 1]]],
    [*SERVER, ["socket", 1, "tcp", 4, False], ["connect", 1, ["lo", 1]], ["shutdown", 1, 0], ["connect", 1, ["lo", 1]]],
    [*PAIR, ["shutdown", 2, 1], ["sendto", 2, 1, ["lo", 1], "oob"]],
    # where the wildcard goes, and what cannot be reached
    [UDP, ["bind", 0, ["lo2", 1]], ["connect", 0, ["any", 1]]],
    [UDP6, ["bind", 0, ["lo2", 1]], ["connect", 0, ["any", 1]], ["send", 0, 5, "send", ""]],
    [UDP6, ["bind", 0, ["mapped", 1]], ["sendto", 0, 5, ["alien", 1], ""], ["sendto", 0, 5, ["lo", 1], ""]],
    [["socket", 0, "tcp", 4, True], ["connect", 0, ["alien", 0]]],
    [UDP, ["connect", 0, ["lo", 0]], ["send", 0, 5, "send", ""], ["error", 0]],
    [UDP, ["connect", 0, ["alien", 1]], ["bind", 0, ["lo", 1]]],
    [UDP6, ["connect", 0, ["lo", 1]], ["send", 0, 5, "sendmsg", "oob"], ["sendto", 0, 5, ["mapped", 1], "oob"]],
    # IPV6_V6ONLY
    [*SERVER6, ["socket", 1, "tcp", 6, True], ["connect", 1, ["lo", 1]], ["accept", 0, 2], ["get", 2, 41, 26, 4]],
    [["socket", 0, "tcp", 6, True], ["set", 0, 41, 26, 1], ["bind", 0, ["mapped", 1]]],
    [["socket", 0, "tcp", 6, True], ["bind", 0, ["mapped", 1]], ["connect", 0, ["lo", 2]]],
    [["socket", 0, "tcp", 6, True], ["connect", 0, ["lo", 1]], ["set", 0, 41, 26, 1], ["sockname", 0]],
    # a listener that is shut down with somebody waiting
    [*SERVER, *CLIENT, ["shutdown", 0, 2], ["sockname", 0]],
    [["socket", 0, "tcp", 4, True], ["listen", 0, 8], ["shutdown", 0, 2], ["sockname", 0], ["bind", 0, ["lo", 1]]],
)  # fmt: skip


def hunt(arena):
    """All examples; runs in a thread, since the stack's loop has this one."""

    @settings(max_examples=COUNT, database=None, suppress_health_check=list(HealthCheck))
    @given(programs())
    def same(steps):
        arena.check(steps)

    for steps in FOUND:
        same = example(steps)(same)
    arena.open()
    try:
        same()
    finally:
        arena.close()


def test_random_programs_behave_as_on_linux():
    async def scenario(lab):
        arena = Arena(lab)
        await asyncio.to_thread(hunt, arena)
        assert await arena.program.wait() == 0, arena.program.output
        print(f"{arena.played} programs, {arena.again} of them again")

    run_lab(scenario)
