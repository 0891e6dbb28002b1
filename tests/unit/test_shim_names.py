"""Names of tasks' files through kept links: always what the descriptor is now, whatever became of it or of its task."""

import os
import subprocess
import sys

import pytest

from nuse.shim.fdtable import LINKS, Names, file_name

CHANGES = """
import os, sys, threading
def say(): print("done", flush=True); sys.stdin.readline()
r, w = os.pipe(); os.dup2(r, 100); say()
os.dup2(os.open(os.devnull, os.O_RDONLY), 100); say()
os.close(100); say()
os.dup2(0, 100); say()
os.dup2(r, 100); os.set_inheritable(100, True)
threading.Thread(target=os.execv, args=(sys.executable, [sys.executable, "-c",
    "import sys; print('done', flush=True); sys.stdin.readline()"])).start()
threading.Event().wait()
"""


@pytest.fixture
def task():
    with subprocess.Popen(
        [sys.executable, "-c", CHANGES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def test_a_kept_link_says_what_the_descriptor_is_now(task):
    names, seen = Names(), []
    for _ in range(5):
        assert task.stdout.readline() == "done\n"
        seen.append(names.of(task.pid, 100))
        assert seen[-1] == names.of(task.pid, 100) == file_name(task.pid, 100)
        task.stdin.write("\n")
        task.stdin.flush()
    reader, other, closed, stdin, after_exec = seen
    assert (other, closed) == ("/dev/null", "")
    assert reader.startswith("pipe:")
    assert stdin.startswith("pipe:")
    assert reader != stdin
    assert after_exec == reader, "a thread's exec takes the place of the whole process"
    task.kill()
    task.wait()
    assert names.of(task.pid, 100) == ""
    names.forget()


def test_no_more_links_are_kept_than_allowed():
    names = Names()
    before = len(os.listdir("/proc/self/fd"))
    first = os.open("/dev/null", os.O_RDONLY)
    for number in range(1000, 1000 + LINKS + 10):
        os.dup2(first, number)
        assert names.of(os.getpid(), number) == "/dev/null"
        os.close(number)
    os.close(first)
    assert len(os.listdir("/proc/self/fd")) == before + LINKS
    names.forget()
    assert len(os.listdir("/proc/self/fd")) == before
