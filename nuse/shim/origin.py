"""From where a stream connects, if bind() did not settle it: IP_BIND_ADDRESS_NO_PORT and SO_BINDTODEVICE."""

import errno
from typing import TYPE_CHECKING

from nuse.shim.links import link_of_name
from nuse.shim.opttable import SO_BINDTODEVICE
from nuse.shim.sock import SockAddr, Socket
from nuse.shim.sockaddr import ANY4, ANY6
from stack.errors import StackError

if TYPE_CHECKING:
    from nuse.shim.stream import StreamSocket


def bind_address(sock: "StreamSocket", addr: bytes) -> None:
    """bind() to an address, with a port to come at connect or listen. Raises StackError EINVAL, EADDRNOTAVAIL."""
    if sock.binding is not None or sock.conn is not None:
        raise StackError(errno.EINVAL, "already bound")
    if addr not in (ANY4, ANY6) and not sock.hub.stack.routes.is_local(addr):
        raise StackError(errno.EADDRNOTAVAIL, "not an address of this stack")
    sock.bound_addr = addr
    sock.stale_name = None


def origin(sock: Socket, bound: bytes | None, remote: SockAddr) -> bytes | None:
    """The local address for a connection to `remote`; None leaves it to the routes.

    A route over the link that owns the source comes first, so for a socket bound to a device, its address will do.
    """
    if bound is not None and bound not in (ANY4, ANY6):
        return bound
    device = sock.values.get(SO_BINDTODEVICE, b"").rstrip(b"\0").decode()
    if not device:
        return None
    stack = sock.hub.stack
    source: bytes = stack.routes.route(remote[0], None, link_of_name(stack, device)).src
    return source
