"""The least supervisor that there can be: it lets every stopped call through, and does nothing else.

    python -m benchlib.bare CMD…

What a call costs under it is what stopping and going on costs on this machine, in Python; the shim's own part is the
rest.
"""

import os
import sys

from nuse.shim.launch import spawn
from nuse.shim.notif import Listener


def main(argv: list[str]) -> int:
    """Run a program to its end; its exit status."""
    child = spawn(argv)
    listener = Listener(child.listener_fd)
    while True:
        n = listener.receive(-1)
        if n is not None:
            listener.cont(n.id)
        elif listener.hung_up():
            break
    return os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
