"""Programs that crash in a loop leave nothing: descriptors, connections, listeners, waiting calls, objects, memory.

NUSE_CRASHES=10000 is a thorough run, of some two minutes.
"""

import collections
import ctypes
import gc
import os
from pathlib import Path

from nuse.shim.fdtable import LINKS, PIDFDS
from nuse.shim.hub import DEAD_KEPT
from nuse.shim.pump import Pump
from nuse.shim.sock import Pending, Socket
from nuse.shim.stream import SHUT
from stack.tcp.conn import TcpConn

from .shim_lab import PYTHON, run_lab

CRASHES = int(os.environ.get("NUSE_CRASHES", "1000"))
ROUNDS = 2  # what grows from one to the next is a leak
PATIENCE = 30 + CRASHES / 10  # seconds
SCRIPT = Path(__file__).parent / "shim_scripts" / "crashes.py"
HOLE = ("10.9.0.1", b"\x0a\x09\x00\x02")  # an address where nobody is, and ours on that link
ONCE = 2  # descriptors: the pair on which the weight of datagrams is measured
A_PROGRAM = 5  # descriptors: its listener, the epoll for that, its pidfd, its output, the carrier of its server
GROWTH = 5_000  # KiB that the second round may add
BRIEF = """
import os, socket
server = socket.create_server(("127.0.0.1", 0))
kept = [socket.create_connection(server.getsockname()) for _ in range(3)]
kept[0].send(bytes(100_000))
os.kill(os.getpid(), 9)
"""


def descriptors():
    """Of this process, with the stack in it: (tasks, links to tasks' descriptors, all others)."""
    names = []
    for number in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:  # of listdir itself
            continue
    pidfds = sum("pidfd" in name for name in names)
    links = sum(name.startswith("/proc/") and "/fd/" in name for name in names)
    return pidfds, links, len(names) - pidfds - links


def living(*kinds):
    """How many objects of each kind there are, of subclasses too."""
    gc.collect()
    found = collections.Counter()
    for each in gc.get_objects():
        for kind in kinds:
            found[kind] += isinstance(each, kind)
    return found


def resident():
    """KiB, without what the allocator keeps for later."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def owned(lab):
    """Connections that the shim would tell news, but those after SHUT_RDWR, which have a minute (docs/shim.md)."""
    return [each for each in lab.stack.tcp.conns() if each.owner is not None and each.owner.phase != SHUT]


async def settled(lab, program):
    """Nothing but the surviving program's listener is left; and no more objects than that explains."""
    await lab.until(lambda: "survived" in program.output, PATIENCE)
    await lab.until(lambda: len(lab.live_sockets()) == 1)
    await lab.until(lambda: not owned(lab))
    assert len(list(lab.stack.tcp.listeners())) == 1
    assert not list(lab.stack.udp.endpoints())
    assert [row["waiting"] for row in lab.supervisor.rows()] == [0]
    sockets = lab.supervisor.hub.sockets
    assert len(sockets) <= DEAD_KEPT + 1
    objects = living(Pending, Socket, Pump, TcpConn)
    assert objects[Pending] == 0
    assert objects[Socket] == len(sockets)
    assert objects[Pump] <= len(sockets)
    assert objects[TcpConn] <= len(sockets) + len(list(lab.stack.tcp.conns()))
    return objects


def test_a_program_whose_children_crash_in_a_loop_leaves_nothing():
    async def scenario(lab):
        lab.stack.add_link("hole", [(HOLE[1], 24)])
        _, _, before = descriptors()
        memory = [resident()]
        for seed in range(ROUNDS):
            program = lab.start(PYTHON, SCRIPT, CRASHES // ROUNDS, seed, HOLE[0])
            objects = await settled(lab, program)
            pidfds, links, others = descriptors()
            calls = lab.supervisor.rows()[0]["calls"]
            assert pidfds <= PIDFDS + 1
            assert links <= LINKS
            assert others <= before + ONCE + A_PROGRAM
            program.kill()
            await program.close()
            lab.programs.remove(program)
            memory.append(resident())
            print(f"{calls} calls, {pidfds} pidfds, {others - before} other descriptors, resident {memory} KiB,")
            print({kind.__name__: count for kind, count in objects.items()})
        assert descriptors()[2] <= before + ONCE
        assert memory[2] - memory[1] < GROWTH

    run_lab(scenario)


def test_programs_that_crash_one_after_the_other_leave_nothing():
    async def scenario(lab):
        _, _, before = descriptors()
        for _ in range(CRASHES // 50):
            program = lab.python(BRIEF)
            assert await program.wait() == -9, program.output
            await program.close()
            lab.programs.remove(program)
        await lab.until(lambda: not lab.live_sockets())
        assert descriptors()[2] == before
        assert not lab.supervisor.sessions
        assert not list(lab.stack.tcp.listeners())

    run_lab(scenario)
