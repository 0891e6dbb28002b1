"""The seccomp filter, run by a small BPF interpreter: which call of which machine stops for the supervisor."""

import errno
import socket
import struct

import pytest

from nuse.shim.abi import (
    AARCH64,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    MSG_OOB,
    SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO,
    SECCOMP_RET_USER_NOTIF,
    SIOCOUTQ,
    X86_64,
)
from nuse.shim.filter import ALWAYS, build_filter

ALLOW, NOTIFY, ENOSYS = SECCOMP_RET_ALLOW, SECCOMP_RET_USER_NOTIF, SECCOMP_RET_ERRNO | errno.ENOSYS
NULL = 0
READ, CLOSE, FUTEX = 0, 3, 202  # x86_64
ARCHES = pytest.mark.parametrize("arch", [X86_64, AARCH64], ids=lambda arch: arch.name)


def run_bpf(program, nr, audit, *args):
    data = struct.pack("=iIQ6Q", nr, audit, 0, *args, *(0,) * (6 - len(args)))
    code = list(struct.iter_unpack("=HBBI", program))
    at = acc = 0
    while True:
        op, yes, no, k = code[at]
        at += 1
        if op == 0x20:
            acc = struct.unpack_from("=I", data, k)[0]
        elif op == 0x54:
            acc &= k
        elif op == 0x06:
            return k
        else:
            hit = {0x15: acc == k, 0x35: acc >= k, 0x45: acc & k != 0}[op]
            at += yes if hit else no


def decide(arch, name, *args):
    return run_bpf(build_filter(arch), arch.calls[name], arch.audit, *args)


@ARCHES
@pytest.mark.parametrize("name", ALWAYS)
def test_calls_about_sockets_stop(arch, name):
    assert decide(arch, name, 3) == NOTIFY


@pytest.mark.parametrize("nr", [READ, 1, CLOSE, FUTEX, 7, 56, 57, 59, 232, 281, 53])
def test_the_data_path_and_processes_do_not_stop(nr):
    assert run_bpf(build_filter(X86_64), nr, X86_64.audit) == ALLOW


@ARCHES
@pytest.mark.parametrize(
    ("family", "kind", "verdict"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, NOTIFY),
        (socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, NOTIFY),
        (socket.AF_INET, socket.SOCK_DGRAM, NOTIFY),
        (socket.AF_INET, socket.SOCK_RAW, NOTIFY),
        (socket.AF_UNIX, socket.SOCK_STREAM, ALLOW),
        (socket.AF_NETLINK, socket.SOCK_RAW, ALLOW),
        (socket.AF_PACKET, socket.SOCK_DGRAM, ALLOW),
    ],
)
def test_only_inet_sockets_are_ours(arch, family, kind, verdict):
    assert decide(arch, "socket", family, kind, 0) == verdict


@ARCHES
@pytest.mark.parametrize("name", ["sendto", "recvfrom"])
def test_send_and_recv_stay_native_unless_there_is_an_address(arch, name):
    assert decide(arch, name, 3, 0x1000, 10, MSG_DONTWAIT, NULL) == ALLOW
    assert decide(arch, name, 3, 0x1000, 10, 0, 0x1000) == NOTIFY
    assert decide(arch, name, 3, 0x1000, 10, 0, 1 << 32) == NOTIFY
    assert decide(arch, name, 3, 0x1000, 10, MSG_OOB, NULL) == NOTIFY


@ARCHES
def test_a_recv_of_one_byte_may_be_a_question(arch):
    assert decide(arch, "recvfrom", 3, 0x1000, 1, 0, NULL) == NOTIFY
    assert decide(arch, "recvfrom", 3, 0x1000, 2, 0, NULL) == ALLOW
    assert decide(arch, "sendto", 3, 0x1000, 1, 0, NULL) == ALLOW


@ARCHES
def test_the_error_queue_is_asked_of_us(arch):
    assert decide(arch, "recvfrom", 3, 0x1000, 10, MSG_ERRQUEUE, NULL) == NOTIFY


@ARCHES
@pytest.mark.parametrize(
    ("request_", "verdict"),
    [
        (SIOCOUTQ, NOTIFY),
        (0x8912, NOTIFY),
        (0x8933, NOTIFY),
        (0x541B, ALLOW),
        (0x5401, ALLOW),
        (0x8905, ALLOW),
        (0x8980, ALLOW),
    ],
)
def test_few_ioctls_stop(arch, request_, verdict):
    assert decide(arch, "ioctl", 3, request_) == verdict


@ARCHES
def test_io_uring_is_not_there(arch):
    assert decide(arch, "io_uring_setup", 8) == ENOSYS


def test_other_architectures_make_no_sockets():
    program = build_filter(X86_64)
    assert run_bpf(program, 0x40000000 + 41, X86_64.audit) == ENOSYS  # x32
    assert run_bpf(program, 3, AARCH64.audit) == ENOSYS


@ARCHES
def test_32_bit_programs_stop_where_they_make_a_socket(arch):
    program, compat = build_filter(arch), arch.compat
    assert run_bpf(program, compat.calls["socket"], compat.audit, 2, 1, 0) == NOTIFY
    assert run_bpf(program, compat.calls["socket"], compat.audit, 1, 1, 0) == ALLOW  # AF_UNIX
    if "socketcall" in compat.calls:
        assert run_bpf(program, compat.calls["socketcall"], compat.audit, 1) == NOTIFY  # SYS_SOCKET
        assert run_bpf(program, compat.calls["socketcall"], compat.audit, 2) == ALLOW
    assert run_bpf(program, compat.io_uring_setup, compat.audit) == ENOSYS
    assert run_bpf(program, 3, compat.audit) == ALLOW  # read
    assert not set(compat.calls.values()) & set(arch.calls.values()), "one table serves both"
