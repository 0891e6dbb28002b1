"""A TCP/IP host in pure Python, sans-IO: bytes, time and secrets come in as arguments.

`Stack` is the façade; see its module for the driver's contract.
"""

from stack import events
from stack.config import Sysctl
from stack.errors import InvariantBroken, Malformed, StackError, UnknownSysctl
from stack.host import Stack
from stack.ip.link import Link
from stack.ip.route import Route

__all__ = ["InvariantBroken", "Link", "Malformed", "Route", "Stack", "StackError", "Sysctl", "UnknownSysctl", "events"]
