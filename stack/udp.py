"""UDP endpoints, RFC 768 and RFC 8200 §8.1: what a program does with a UDP socket. udp_demux finds who receives."""

import errno
from typing import TYPE_CHECKING

from stack.checksum import ones_sum
from stack.dgram import Datagram, DatagramEndpoint, SockAddr, Way, is_any
from stack.dgram_options import SendControl
from stack.errors import StackError
from stack.ip import output
from stack.ip.addr import ANY4, ANY6
from stack.ip.flowlabel import flow_label
from stack.units import Nanos
from stack.wire import ipv4
from stack.wire.udp import CSUM_OFFSET, GSO_SEGMENTS, UDP_HDR, UDP_LEN, UDP_MAX4, UDP_MAX6

if TYPE_CHECKING:
    from stack.host import Stack
    from stack.udp_demux import UdpDemux

__all__ = ["Datagram", "UdpEndpoint"]


class UdpEndpoint(DatagramEndpoint):
    """One UDP socket."""

    def __init__(self, stack: "Stack", demux: "UdpDemux", v6: bool) -> None:
        super().__init__(stack, v6)
        self._demux = demux
        self.reuseaddr = False
        self.reuseport = False
        self._bound: SockAddr | None = None  # what `disconnect` returns to

    def bind(
        self, addr: bytes, port: int, *, reuseaddr: bool = False, reuseport: bool = False, v6only: bool = False
    ) -> None:
        """Take a local address; port 0 picks one. Raises EINVAL, EADDRINUSE, EADDRNOTAVAIL."""
        if self.closed or self.local[1]:
            raise StackError(errno.EBADF if self.closed else errno.EINVAL, "bound already, or closed")
        self.reuseaddr, self.reuseport, self.v6only = reuseaddr, reuseport, v6only and self.v6
        self._check_bindable(addr)
        self._demux.claim(self, addr, port)
        self._bound = addr, port

    def connect(self, remote: SockAddr) -> None:
        """Fix the remote end: only its datagrams are received, and its errors are reported."""
        if self.closed:
            raise StackError(errno.EBADF, "closed")
        if not self.local[1]:  # even if there is no way
            self._autobind()
        addr, route = self._route(remote[0])
        if is_any(self.local[0]) or len(self.local[0]) != len(addr):
            self.local = (route.src, self.local[1])
        self.remote = (addr, remote[1])

    def _is_bound_to(self, addr: bytes) -> bool:
        return self._bound is not None and self._bound[0] == addr

    def disconnect(self) -> None:
        """Back to before `connect`; a port that the stack had picked is given up."""
        self.remote = None
        addr, port = self._bound or (ANY6 if self.v6 else ANY4, 0)
        if self.local[1] and not port:
            self._demux.release(self)
        self.local = addr, port

    def sendto(
        self, data: bytes | memoryview, dest: SockAddr | None, now: Nanos, control: SendControl | None = None
    ) -> None:
        """Send one datagram, to the connected remote if `dest` is None. `data` must not change afterwards.

        With a `gso_size` it is cut into datagrams of that size (UDP_SEGMENT). Raises EDESTADDRREQ, EMSGSIZE, EINVAL,
        ENETUNREACH, EACCES, or the error that an earlier datagram met. When the way out is congested the datagram is
        lost, as in a full device queue; `send_space` says when to wait.
        """
        self._check_open()
        if not self.local[1]:  # before anything is looked at, so a send that fails leaves a port, too
            self._autobind()
        dest = dest or self.remote
        if dest is None:
            raise StackError(errno.EDESTADDRREQ, "no destination")
        size = len(data)
        if not 0 < dest[1] < 65536 and (dest is not self.remote or (self.v6 and len(dest[0]) == 4)):
            raise StackError(errno.EINVAL, f"port {dest[1]}")
        if size > (UDP_MAX4 if len(dest[0]) == 4 else UDP_MAX6):
            raise StackError(errno.EMSGSIZE, f"{size} bytes")
        way = self._way(dest[0], control)
        segment = self.options.gso_size if control is None or control.gso_size is None else control.gso_size
        room = way.route.mtu - (28 if len(way.addr) == 4 else 48)
        if not segment and not way.cut and size > room:
            raise self._too_big((way.addr, dest[1]), way.route.mtu, size)
        if self.error:
            self._raise_pending()
        if segment and (segment > room or size > segment * GSO_SEGMENTS or self.options.no_check):
            raise StackError(errno.EINVAL, f"{size} bytes cannot be sent as datagrams of {segment}")
        self._charge_sent(size)
        if not segment or size <= segment:
            self._emit(way, dest[1], data)
        elif way.route.link.offload:
            self._emit(way, dest[1], data, segment)
        else:
            view = memoryview(data)
            for at in range(0, size, segment):
                self._emit(way, dest[1], view[at : at + segment])

    def _emit(self, way: Way, port: int, data: bytes | memoryview, segment: int = 0) -> None:
        """Build one datagram, or a super-datagram for the device to cut, and queue it."""
        stack, route, addr = self._stack, way.route, way.addr
        length = UDP_LEN + len(data)
        sport = self.local[1]
        v4 = len(addr) == 4
        offset = 0
        if self.options.no_check and v4:
            header = UDP_HDR.pack(sport, port, length, 0)
        elif segment or output.csum_offloaded(route, addr, length):
            offset = CSUM_OFFSET
            header = UDP_HDR.pack(sport, port, length, output.partial_sum(ipv4.UDP, route, addr, length))
        else:
            bare = UDP_HDR.pack(sport, port, length, 0)
            total = ipv4.pseudo_sum(route.src, addr, ipv4.UDP, length) + ones_sum(bare) + ones_sum(data)
            header = bare[:CSUM_OFFSET] + (-total % 0xFFFF or 0xFFFF).to_bytes(2, "big")
        flow = 0
        if not v4 and self._labelled(stack.sysctl.auto_flowlabels):
            flow = flow_label(stack.flow_seed, route.src, addr, ipv4.UDP, header[:4])
        queued = output.send(
            stack,
            route,
            addr,
            ipv4.UDP,
            header,
            data,
            ttl=way.ttl,
            tos=way.tos,
            df=way.df,
            csum_offset=offset,
            flow=flow,
            segment=segment,
        )
        mib = stack.mib
        if v4:
            mib.UdpOutDatagrams += queued
            mib.UdpSndbufErrors += not queued
        else:
            mib.Udp6OutDatagrams += queued
            mib.Udp6SndbufErrors += not queued

    def _labelled(self, knob: int) -> bool:
        """net.ipv6.auto_flowlabels: 0 never, 1 unless the program refuses, 2 if it asks, 3 always."""
        wish = self.options.autoflowlabel
        return bool(knob & 1) if wish is None else knob == 3 or (wish and knob > 0)

    def close(self) -> None:
        """Give the port back; what is queued is lost."""
        if not self.closed:
            self.closed = True
            self._forget_all()
            self._demux.release(self)

    def _autobind(self) -> None:
        try:
            self._demux.claim(self, self.local[0], 0)
        except StackError:
            raise StackError(errno.EAGAIN, "no free port") from None
