"""Which link of the stack a program means by an interface's index or name.

A program's namespace shows one device, hostnet_netns.DEVICE, with the addresses of all links, so what is neither `lo`
nor known to the stack is its first link. Indices of the stack's own links are understood as well.
"""

import errno

from stack.errors import StackError
from stack.host import Stack
from stack.ip.link import Link

NAMESPACE_DEVICE = "nuse0"


def _first(stack: Stack) -> Link | None:
    return next((link for link in stack.links.values() if not link.loopback), None)


def link_of_index(stack: Stack, index: int) -> Link | None:
    """None for index 0, which leaves the choice to the stack. Raises StackError ENODEV."""
    if not index:
        return None
    for link in stack.links.values():
        if link.index == index:
            return link
    first = _first(stack) if index > 0 else None
    if first is None:
        raise StackError(errno.ENODEV, f"no interface {index}")
    return first


def link_of_name(stack: Stack, name: str) -> Link:
    """Raises StackError ENODEV."""
    link = stack.links.get(name)
    if link is None and name == NAMESPACE_DEVICE:
        link = _first(stack)
    if link is None:
        raise StackError(errno.ENODEV, f"no interface {name!r}")
    return link


def link_of_address(stack: Stack, addr: bytes) -> Link | None:
    """The link with an own address; None if it is nobody's."""
    return next((link for link in stack.links.values() if any(own == addr for own, _length in link.addrs)), None)
