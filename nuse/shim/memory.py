"""Read and write a program's memory.

With process_vm_readv, not /proc/PID/mem: half the cost (no open), no stale handle after exec, and it honours write
protection, where /proc/PID/mem would happily write into a constant. A bad address is EFAULT, as for the kernel.
"""

import contextlib
import ctypes
import errno
from collections.abc import Iterator

from nuse.shim.abi import native
from nuse.shim.native import Iovec, raw_syscall

_SCRATCH = 65536 + 64
_PIECES = 16  # of one write
_PAGE = 4096
_scratch = ctypes.create_string_buffer(_SCRATCH)
_scratch_view = memoryview(_scratch).cast("B")
_scratch_address = ctypes.addressof(_scratch)
_local, _remotes = Iovec(), (Iovec * _PIECES)()
_local.base = _scratch_address
_remote = _remotes[0]
_local_p, _remotes_p = ctypes.byref(_local), ctypes.byref(_remotes)
_counts = [ctypes.c_ulong(count) for count in range(_PIECES + 1)]
_none, _one = _counts[:2]
_pid = ctypes.c_long()
_arch = native()
_readv = ctypes.c_long(_arch.calls["process_vm_readv"] if _arch else -1)
_writev = ctypes.c_long(_arch.calls["process_vm_writev"] if _arch else -1)


class Fault(OSError):
    """The program passed a pointer that it may not use."""

    def __init__(self) -> None:
        super().__init__(errno.EFAULT, "bad address")


def _transfer(call: ctypes.c_long, tid: int, size: int, pieces: int) -> None:
    """Between `_local` and the first `pieces` of `_remotes`, which together have `size` bytes."""
    _pid.value = tid
    _local.length = size
    done = raw_syscall(call, _pid, _local_p, _one, _remotes_p, _counts[pieces], _none)
    if done == size:
        return
    code = ctypes.get_errno()
    if done >= 0 or code == errno.EFAULT:
        raise Fault
    raise OSError(code, "cannot reach the program's memory")


def read(tid: int, address: int, size: int) -> bytes:
    """`size` bytes of a task's memory."""
    if size == 0:
        return b""
    _remote.base, _remote.length = address, size
    if size <= _SCRATCH:
        _transfer(_readv, tid, size, 1)
        return bytes(_scratch_view[:size])
    big = ctypes.create_string_buffer(size)
    with _elsewhere(big):
        _transfer(_readv, tid, size, 1)
    return big.raw


@contextlib.contextmanager
def _elsewhere(big: "ctypes.Array[ctypes.c_char]") -> Iterator[None]:
    """Our side is this buffer for once."""
    _local.base = ctypes.addressof(big)
    try:
        yield
    finally:
        _local.base = _scratch_address


def read_down(tid: int, top: int, size: int) -> bytes:
    """At most `size` bytes of a task's memory that end at `top`: as many as are mapped, in whole pages, for a stack."""
    first = top & (_PAGE - 1) or _PAGE
    whole = b""
    for length in (first, *(_PAGE for _ in range(size // _PAGE))):
        try:
            whole = read(tid, top - len(whole) - length, length) + whole
        except Fault:
            break
    return whole


def write(tid: int, *pieces: tuple[int, bytes]) -> None:
    """Put each (address, data) into a task's memory, in their order; at most sixteen."""
    size = count = 0
    for address, data in pieces:
        length = len(data)
        if not length:
            continue
        remote = _remotes[count]
        remote.base, remote.length = address, length
        if size + length <= _SCRATCH:
            _scratch_view[size : size + length] = data
        size += length
        count += 1
    if size > _SCRATCH:
        with _elsewhere(ctypes.create_string_buffer(b"".join(data for _, data in pieces), size)):
            _transfer(_writev, tid, size, count)
    elif size:
        _transfer(_writev, tid, size, count)
