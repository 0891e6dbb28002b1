"""struct mptcp_info and its kin: byte for byte the kernel's, by its header and by what it answers."""

import ctypes
import errno
import re
import socket
import struct
import subprocess
from dataclasses import fields
from pathlib import Path
from shutil import which

import pytest

from mptcp.info import (
    INFO_SIZE,
    SUBFLOW_INFO_SIZE,
    TCP_INFO_SIZE,
    MptcpInfo,
    full_info,
    pack_addrs,
    subflow_array,
)
from stack.errors import StackError

HEADER = Path("/usr/include/linux/mptcp.h")
SOL_MPTCP, IPPROTO_MPTCP = 284, 262
MPTCP_INFO, MPTCP_TCPINFO, MPTCP_SUBFLOW_ADDRS, MPTCP_FULL_INFO = 1, 2, 3, 4
V4 = ((bytes([10, 64, 0, 2]), 4711), (bytes([10, 64, 0, 1]), 80))
V6 = ((bytes(15) + b"\1", 4711), (bytes(15) + b"\2", 80))


def ours(offset, size):
    """The field that struct mptcp_info has at `offset`: found by what packing a 1 there changes."""
    for field in fields(MptcpInfo):
        raw = MptcpInfo(**{field.name: 1}).pack()
        if raw[offset : offset + size] == (1).to_bytes(size, "little"):
            return field.name
    return None


@pytest.mark.skipif(which("cc") is None or not HEADER.exists(), reason="no compiler, or no kernel headers")
def test_each_field_is_where_the_header_has_it(tmp_path):
    body = re.search(r"struct mptcp_info \{(.*?)\n\};", HEADER.read_text(), re.DOTALL).group(1)
    names = re.findall(r"mptcpi_(\w+);", body)
    lines = [
        f'printf("{name} %zu %zu\\n", offsetof(struct mptcp_info, mptcpi_{name}), '
        f"sizeof(((struct mptcp_info *)0)->mptcpi_{name}));"
        for name in names
    ]
    source = "#include <stdio.h>\n#include <stddef.h>\n#include <linux/mptcp.h>\nint main(void) { %s return 0; }\n"
    (tmp_path / "offsets.c").write_text(source % "\n".join(lines))
    subprocess.run(["cc", "-o", tmp_path / "offsets", tmp_path / "offsets.c"], check=True)
    out = subprocess.run([tmp_path / "offsets"], check=True, capture_output=True, text=True).stdout
    assert len(names) > 12
    for line in out.splitlines():
        name, offset, size = line.split()
        assert ours(int(offset), int(size)) == name


@pytest.mark.skipif(which("cc") is None or not HEADER.exists(), reason="no compiler, or no kernel headers")
def test_addresses_are_read_back_by_c(tmp_path):
    (tmp_path / "addrs.c").write_text(
        r"""
        #include <stdio.h>
        #include <arpa/inet.h>
        #include <linux/mptcp.h>
        int main(void) {
            struct mptcp_subflow_addrs a;
            char text[64], more[64];
            while (fread(&a, sizeof a, 1, stdin) == 1) {
                if (a.sa_family == AF_INET) {
                    inet_ntop(AF_INET, &a.sin_local.sin_addr, text, 64);
                    inet_ntop(AF_INET, &a.sin_remote.sin_addr, more, 64);
                    printf("%s %d %s %d\n", text, ntohs(a.sin_local.sin_port), more, ntohs(a.sin_remote.sin_port));
                } else {
                    inet_ntop(AF_INET6, &a.sin6_local.sin6_addr, text, 64);
                    inet_ntop(AF_INET6, &a.sin6_remote.sin6_addr, more, 64);
                    printf("%s %d %s %d\n", text, ntohs(a.sin6_local.sin6_port), more, ntohs(a.sin6_remote.sin6_port));
                }
            }
            return 0;
        }
        """
    )
    subprocess.run(["cc", "-o", tmp_path / "addrs", tmp_path / "addrs.c"], check=True)
    raw = pack_addrs(*V4) + pack_addrs(*V6)
    out = subprocess.run([tmp_path / "addrs"], input=raw, check=True, capture_output=True).stdout.decode()
    assert out == "10.64.0.2 4711 10.64.0.1 80\n::1 4711 ::2 80\n"


@pytest.mark.parametrize(
    "request_",
    [
        bytes(15),  # no room for the header
        struct.pack("=4I", 15, 0, 0, 280),  # a header that is none
        struct.pack("=4I", 17, 0, 0, 280),  # longer than all there is
        struct.pack("=4I", 16, 1, 0, 280),  # num_subflows is ours to say
        struct.pack("=4I", 16, 0, 1, 280),  # size_kernel too
        struct.pack("=4I", 16, 0, 0, 1 << 31),
    ],
)
def test_a_wrong_header_is_refused(request_):
    with pytest.raises(StackError) as caught:
        subflow_array(request_, 4, [b"abcd"])
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("header", "user", "room", "answer"),
    [
        (16, 4, 8, struct.pack("=4I", 16, 3, 4, 4) + b"aaaabbbb"),  # as many as fit
        (16, 2, 6, struct.pack("=4I", 16, 3, 4, 2) + b"aabbcc"),  # the program knows a shorter struct
        (16, 9, 12, struct.pack("=4I", 16, 3, 4, 4) + b"aaaabbbbcccc"),  # … or a longer one
        (20, 4, 4, struct.pack("=4I", 20, 3, 4, 4) + bytes(4) + b"aaaa"),  # … or a longer header
        (16, 4, 0, struct.pack("=4I", 16, 3, 4, 4)),  # only asks how many there are
        (16, 0, 8, struct.pack("=4I", 16, 3, 4, 0)),
    ],
)
def test_as_many_elements_as_fit(header, user, room, answer):
    request_ = struct.pack("=4I", header, 0, 0, user).ljust(header + room, b"\0")
    assert subflow_array(request_, 4, [b"aaaa", b"bbbb", b"cccc"]) == answer


def test_full_info_goes_to_the_arrays_that_were_named():
    info = MptcpInfo(token=0xC0FFEE, subflows_total=2)
    request_ = struct.pack("=6I2Q", 0, 8, 0, SUBFLOW_INFO_SIZE + 1, 0, 1, 0x1000, 0x2000) + bytes(200)
    answer = full_info(request_, lambda: info, [b"t" * 280, b"u" * 280], [(1, pack_addrs(*V4)), (2, pack_addrs(*V6))])
    told = struct.unpack_from("=6I2Q", answer.value)
    assert told == (TCP_INFO_SIZE, 8, SUBFLOW_INFO_SIZE, SUBFLOW_INFO_SIZE, 2, 1, 0x1000, 0x2000)
    assert MptcpInfo.unpack(answer.value[40:]) == info
    (sf_at, sf), (tcp_at, tcp) = answer.arrays
    assert (sf_at, sf) == (0x1000, struct.pack("=I4x", 1) + pack_addrs(*V4))
    assert (tcp_at, tcp) == (0x2000, b"t" * 8)


def test_full_info_without_arrays_counts_only():
    answer = full_info(bytes(40), MptcpInfo, [b"t" * 280], [(1, pack_addrs(*V4))])
    assert answer.value == struct.pack("=6I2Q", TCP_INFO_SIZE, 0, SUBFLOW_INFO_SIZE, 0, 1, 0, 0, 0)
    assert answer.arrays == []
    with pytest.raises(StackError):
        full_info(bytes(39), MptcpInfo, [], [])
    with pytest.raises(StackError):
        full_info(struct.pack("=6I2Q", 1, 0, 0, 0, 0, 0, 0, 0), MptcpInfo, [], [])


# ---------------------------------------------------------------------- a kernel's own sockets


def kernel_getsockopt(sock, option, buffer):
    """getsockopt with a value that is read, too: (value, or the errno)."""
    libc = ctypes.CDLL(None, use_errno=True)
    raw = ctypes.create_string_buffer(buffer, len(buffer))
    length = ctypes.c_uint32(len(buffer))
    if libc.getsockopt(sock.fileno(), SOL_MPTCP, option, raw, ctypes.byref(length)):
        return ctypes.get_errno()
    return raw.raw[: length.value]


@pytest.fixture
def kernel_pair():
    """Two ends of a kernel's MPTCP connection that has carried five bytes."""
    try:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
    except OSError:
        pytest.skip("a kernel without MPTCP")
    with listener, client:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client.connect(listener.getsockname())
        server, _ = listener.accept()
        with server:
            client.sendall(b"hello")
            assert server.recv(5) == b"hello"
            if len(client.getsockopt(SOL_MPTCP, MPTCP_INFO, 256)) < INFO_SIZE:
                pytest.skip("a kernel older than 6.10 says less")
            yield client, server


def test_a_live_kernels_info_is_understood(kernel_pair):
    client, server = kernel_pair
    raw = client.getsockopt(SOL_MPTCP, MPTCP_INFO, 256)
    mine, other = MptcpInfo.unpack(raw), MptcpInfo.unpack(server.getsockopt(SOL_MPTCP, MPTCP_INFO, 256))
    assert mine.pack() == raw
    assert mine.token
    assert mine.write_seq == other.rcv_nxt
    assert (mine.bytes_sent, other.bytes_received, mine.subflows_total) == (5, 5, 1)


def test_a_live_kernel_answers_arrays_alike(kernel_pair):
    client, _server = kernel_pair
    names = (bytes([127, 0, 0, 1]), client.getsockname()[1]), (bytes([127, 0, 0, 1]), client.getpeername()[1])
    for header, user, room in (
        (16, 256, 256),
        (16, 300, 600),
        (16, 24, 24),
        (20, 256, 256),
        (16, 256, 255),
        (16, 0, 9),
    ):
        request_ = struct.pack("=4I", header, 0, 0, user).ljust(header + room, b"\0")
        theirs = kernel_getsockopt(client, MPTCP_SUBFLOW_ADDRS, request_)
        assert theirs == subflow_array(request_, 256, [pack_addrs(*names)]), (header, user, room)
    for wrong in (bytes(15), struct.pack("=4I", 15, 0, 0, 9), struct.pack("=4I", 16, 1, 0, 9)):
        assert kernel_getsockopt(client, MPTCP_SUBFLOW_ADDRS, wrong) == errno.EINVAL


def test_a_live_kernel_answers_full_info_alike(kernel_pair):
    client, _server = kernel_pair
    names = (bytes([127, 0, 0, 1]), client.getsockname()[1]), (bytes([127, 0, 0, 1]), client.getpeername()[1])
    theirs_to, ours_to = ctypes.create_string_buffer(600), ctypes.create_string_buffer(600)
    for room in (0, 50, 96, 160):
        request_ = struct.pack("=6I2Q", 0, 0, 0, 300, 0, 2, ctypes.addressof(theirs_to), 0) + bytes(room)
        theirs = kernel_getsockopt(client, MPTCP_FULL_INFO, request_)
        ident = struct.unpack_from("=I", theirs_to.raw)[0]
        info = MptcpInfo.unpack(theirs[40:].ljust(INFO_SIZE, b"\0"))
        answer = full_info(request_, lambda info=info: info, [bytes(280)], [(ident, pack_addrs(*names))])
        assert answer.value == theirs, room
        ((_at, data),) = answer.arrays
        ours_to.raw = data.ljust(600, b"\0")
        assert theirs_to.raw == ours_to.raw
