"""A stack that has only `lo`, with programs under the shim on it: no device, no namespace, no other host.

Client and server are both unmodified programs on the same stack, so one test has both roles. `run_lab(scenario)` runs
a coroutine with a Lab and then checks that nobody was left behind: no fault was logged, no live socket, no connection.
"""

import asyncio
import logging
import os
import signal
import sys
import tempfile
import time

from mptcp.host import MptcpHost
from nuse.driver import Driver
from nuse.loop import monotonic_ns, run
from nuse.shim import launch
from nuse.shim.policy import Policy
from nuse.shim.rules import rules_of
from nuse.shim.supervisor import Supervisor
from stack.host import Stack

PYTHON = sys.executable
PATIENCE = 30  # seconds for anything


class Program:
    """One program under the shim; its output goes to a file, as pipes could fill."""

    def __init__(self, lab, argv, env=None, resolv=None, rules=(), loopback="stack"):
        self._lab = lab
        self._out = tempfile.TemporaryFile()
        try:
            child = launch.spawn([str(each) for each in argv], env, setup=self._redirect, resolv=resolv)
        except BaseException:
            self._out.close()
            raise
        self.pid, self._pidfd = child.pid, child.pidfd
        policy = Policy(mptcp=lab.upgrade, rules=rules_of(rules, loopback))
        self.session = lab.supervisor.attach(child.listener_fd, child.pid, policy, child.home)
        self._status = None

    def _redirect(self):
        os.dup2(self._out.fileno(), 1)
        os.dup2(self._out.fileno(), 2)

    @property
    def output(self):
        fd = self._out.fileno()  # read where it lies: a seek would move the program's place, too
        return os.pread(fd, os.fstat(fd).st_size, 0).decode(errors="replace")

    def kill(self, number=signal.SIGKILL):
        os.kill(self.pid, number)

    async def wait(self, timeout=PATIENCE):
        """Exit status, negative for a signal."""
        if self._status is None:
            ended = asyncio.get_running_loop().create_future()
            loop = asyncio.get_running_loop()
            loop.add_reader(self._pidfd, lambda: ended.done() or ended.set_result(None))
            try:
                await asyncio.wait_for(ended, timeout)
            except TimeoutError:
                raise AssertionError(f"a program hangs; so far it said:\n{self.output}") from None
            finally:
                loop.remove_reader(self._pidfd)
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status

    def abandon(self):
        """After a failed test: nothing of it may stay."""
        if self._status is None:
            self.kill()
            os.waitpid(self.pid, 0)
        self._out.close()

    async def close(self):
        if self._status is None:
            self.kill()
            await self.wait()
        await asyncio.wait_for(asyncio.shield(self.session.closed), PATIENCE)
        os.close(self._pidfd)
        self._out.close()


class Lab:
    """The stack and its programs."""

    def __init__(self, upgrade="auto"):
        self.stack = Stack(secret=os.urandom(32), now=monotonic_ns())
        self.mptcp = MptcpHost(self.stack)
        self.driver = Driver(self.stack)
        self.supervisor = Supervisor(self.driver, self.mptcp, "lab")
        self.upgrade = upgrade
        self.programs = []

    def start(self, *argv, env=None, resolv=None, rules=(), loopback="stack"):
        program = Program(self, argv, env, resolv, rules, loopback)
        self.programs.append(program)
        return program

    def python(self, script, *args, **kwargs):
        return self.start(PYTHON, "-c", script, *args, **kwargs)

    async def check_output(self, *argv, **kwargs):
        program = self.start(*argv, **kwargs)
        status = await program.wait()
        assert status == 0, program.output
        return program.output

    async def until(self, fact, patience=PATIENCE):
        deadline = time.monotonic() + patience
        while not (found := fact()):
            assert time.monotonic() < deadline, "\n".join(each.output for each in self.programs)
            await asyncio.sleep(0.005)
        return found

    async def listening(self, port):
        await self.until(lambda: any(each.local[1] == port for each in self.stack.tcp.listeners()))

    def live_sockets(self):
        sockets = self.supervisor.hub.sockets.values()
        return [each for each in sockets if each.end.fileno() >= 0]

    async def close(self):
        """End all programs; then nothing of them may be left."""
        for program in self.programs:
            await program.close()
        await self.until(lambda: not self.live_sockets())
        await self.until(lambda: all(each.owner is None for each in [*self.stack.tcp.conns(), *self.mptcp]))
        assert not list(self.stack.tcp.listeners())
        assert not list(self.stack.udp.endpoints())
        assert self.driver.faults == 0


class _Complaints(logging.Handler):
    def __init__(self):
        super().__init__(logging.WARNING)
        self.records = []

    def emit(self, record):
        self.records.append(self.format(record))


def run_lab(scenario, *, upgrade="auto", warning=None):
    """Run `scenario(lab)` and see that it leaves nothing; with `upgrade` "on" all streams are MPTCP's.

    The log stays empty but for `warning`, which then must be in it.
    """

    async def main():
        lab = Lab(upgrade)
        try:
            await scenario(lab)
            await lab.close()
        finally:
            for program in lab.programs:
                program.abandon()
            lab.supervisor.close()
            lab.driver.close()

    complaints = _Complaints()
    logging.getLogger("nuse").addHandler(complaints)
    try:
        run(main())
    finally:
        logging.getLogger("nuse").removeHandler(complaints)
    assert [each for each in complaints.records if warning is None or warning not in each] == []
    assert warning is None or complaints.records
