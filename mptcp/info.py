"""What a connection says of itself: struct mptcp_info and its kin, in the kernel's binary layout and as plain values.

The layouts are those of include/uapi/linux/mptcp.h in Linux 6.18; names are its, without `mptcpi_`. The shim answers
getsockopt(SOL_MPTCP) with them, `ss -M` prints them. The subflows' struct tcp_info comes from whoever asks.
"""

import errno
import struct
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

from stack.errors import StackError

FALLBACK, REMOTE_KEY_RECEIVED = 1, 2  # MPTCP_INFO_FLAG_*
INFO_SIZE = 96
TCP_INFO_SIZE = 280
ADDRS_SIZE = 256  # struct mptcp_subflow_addrs: two struct sockaddr_storage
SUBFLOW_INFO_SIZE = 264  # struct mptcp_subflow_info: an ID, and the addresses
_INFO = struct.Struct("=6B2xII3Q3BxI4Q4B3I")
_DATA = struct.Struct("=4I")  # struct mptcp_subflow_data
_FULL = struct.Struct("=6I2Q")  # struct mptcp_full_info, before its mptcp_info
_SIN, _SIN6 = struct.Struct("=H2s4s"), struct.Struct("=H2sI16sI")
_AF_INET, _AF_INET6 = 2, 10
_I31 = (1 << 31) - 1
SockAddr = tuple[bytes, int]


@dataclass(slots=True)
class MptcpInfo:
    """struct mptcp_info, field for field. Times are ms ago; sequence numbers are DSNs."""

    subflows: int = 0  # beside the first
    add_addr_signal: int = 0
    add_addr_accepted: int = 0
    subflows_max: int = 0
    add_addr_signal_max: int = 0
    add_addr_accepted_max: int = 0
    flags: int = 0
    token: int = 0
    write_seq: int = 0
    snd_una: int = 0
    rcv_nxt: int = 0
    local_addr_used: int = 0
    local_addr_max: int = 0
    csum_enabled: int = 0
    retransmits: int = 0
    bytes_retrans: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    bytes_acked: int = 0
    subflows_total: int = 0
    endp_laminar_max: int = 0
    endp_fullmesh_max: int = 0
    reserved: int = 0
    last_data_sent: int = 0
    last_data_recv: int = 0
    last_ack_recv: int = 0

    def pack(self) -> bytes:
        """As getsockopt(MPTCP_INFO) gives it."""
        return _INFO.pack(*astuple(self))

    @classmethod
    def unpack(cls, raw: bytes) -> "MptcpInfo":
        """The reverse, for what a kernel gives."""
        return cls(*_INFO.unpack(raw))


# ---------------------------------------------------------------------- arrays of subflows


def pack_addrs(local: SockAddr, remote: SockAddr) -> bytes:
    """struct mptcp_subflow_addrs."""
    return b"".join(_sockaddr(addr, port).ljust(ADDRS_SIZE // 2, b"\0") for addr, port in (local, remote))


def _sockaddr(addr: bytes, port: int) -> bytes:
    wire = port.to_bytes(2, "big")
    return _SIN.pack(_AF_INET, wire, addr) if len(addr) == 4 else _SIN6.pack(_AF_INET6, wire, 0, addr, 0)


def subflow_array(request: bytes, size_kernel: int, elements: Sequence[bytes]) -> bytes:
    """The answer to MPTCP_TCPINFO and MPTCP_SUBFLOW_ADDRS: struct mptcp_subflow_data, and as many elements as fit.

    `request` is all of the program's buffer. Raises StackError EINVAL for a header that is none.
    """
    if len(request) < _DATA.size:
        raise StackError(errno.EINVAL, "no room for struct mptcp_subflow_data")
    header, subflows, kernel, user = _DATA.unpack_from(request)
    if not _DATA.size <= header <= len(request) or user > _I31 or subflows or kernel:
        raise StackError(errno.EINVAL, "struct mptcp_subflow_data is not filled in as it should be")
    user = min(user, size_kernel)
    room = len(request) - header
    fit = min(room // user, len(elements)) if user else 0
    told = _DATA.pack(header, len(elements), size_kernel, user)
    if not fit:
        return told
    return told.ljust(header, b"\0") + b"".join(element[:user] for element in elements[:fit])


@dataclass(slots=True)
class FullInfo:
    """The answer to MPTCP_FULL_INFO: the value, and what goes to the two arrays of the program: (address, bytes)."""

    value: bytes
    arrays: list[tuple[int, bytes]]


def full_info(
    request: bytes, info: Callable[[], MptcpInfo], tcp_infos: Sequence[bytes], addrs: Sequence[tuple[int, bytes]]
) -> FullInfo:
    """Fill struct mptcp_full_info; `addrs` are the subflows' IDs and packed addresses. Raises StackError EINVAL."""
    if len(request) < _FULL.size:
        raise StackError(errno.EINVAL, "no room for struct mptcp_full_info")
    kernel_tcp, tcp, kernel_sf, sf, subflows, wanted, sf_at, tcp_at = _FULL.unpack_from(request)
    if kernel_tcp or kernel_sf or subflows or tcp > _I31 or sf > _I31:
        raise StackError(errno.EINVAL, "struct mptcp_full_info is not filled in as it should be")
    tcp, sf = min(tcp, TCP_INFO_SIZE), min(sf, SUBFLOW_INFO_SIZE)
    arrays = []
    if sf:
        packed = [(struct.pack("=I4x", ident) + each)[:sf] for ident, each in addrs[:wanted]]
        arrays.append((sf_at, b"".join(packed)))
    if tcp:
        arrays.append((tcp_at, b"".join(each[:tcp] for each in tcp_infos[:wanted])))
    value = _FULL.pack(TCP_INFO_SIZE, tcp, SUBFLOW_INFO_SIZE, sf, len(addrs), wanted, sf_at, tcp_at)
    room = len(request) - _FULL.size
    return FullInfo(value + info().pack()[:room], [(at, data) for at, data in arrays if data])
