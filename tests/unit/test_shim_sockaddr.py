"""sockaddr in and out, with Linux's errnos."""

import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis.strategies import binary, booleans, integers

from nuse.shim import sockaddr
from stack.errors import StackError

V4 = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", 80, bytes([10, 1, 2, 3]))
V6 = struct.pack("=H", socket.AF_INET6) + struct.pack("!HI16s", 80, 0, bytes(15) + b"\1") + bytes(4)
MAPPED = V6[:8] + sockaddr.MAPPED + bytes([10, 1, 2, 3]) + bytes(4)


def test_addresses_are_read():
    assert sockaddr.decode(V4, False) == (bytes([10, 1, 2, 3]), 80)
    assert sockaddr.decode(V6, True) == (bytes(15) + b"\1", 80)
    assert sockaddr.decode(V6[:24], True) == (bytes(15) + b"\1", 80), "RFC 2133 had no scope id"


def test_a_mapped_address_is_ipv4_inside_and_mapped_outside():
    assert sockaddr.decode(MAPPED, True) == (bytes([10, 1, 2, 3]), 80)
    assert sockaddr.encode((bytes([10, 1, 2, 3]), 80), True) == MAPPED


def test_nothing_is_the_wildcard():
    assert sockaddr.encode(None, False) == struct.pack("=H", 2) + bytes(14)
    assert sockaddr.encode(None, True) == struct.pack("=H", 10) + bytes(26)
    assert sockaddr.encode((bytes(4), 80), True)[8:24] == bytes(16)


@pytest.mark.parametrize(
    ("raw", "v6", "code"),
    [
        (b"", False, errno.EINVAL),
        (V4[:15], False, errno.EINVAL),
        (V6[:23], True, errno.EINVAL),
        (V4, True, errno.EINVAL),
        (V4 + bytes(20), True, errno.EAFNOSUPPORT),
        (V6, False, errno.EAFNOSUPPORT),
        (b"\1\0" + bytes(30), False, errno.EAFNOSUPPORT),
    ],
)
def test_what_is_no_address_has_linuxs_errno(raw, v6, code):
    with pytest.raises(StackError) as caught:
        sockaddr.decode(raw, v6)
    assert caught.value.errno == code


def test_old_habits_of_bind_and_sendto():
    unspec = bytes(2) + V4[2:4] + bytes(12)
    assert sockaddr.decode_bind(unspec, False) == (bytes(4), 80)
    assert sockaddr.decode_datagram(V4, True) == (bytes([10, 1, 2, 3]), 80)
    with pytest.raises(StackError):
        sockaddr.decode_bind(bytes(2) + V4[2:], False)


def test_the_wildcard_as_a_destination_is_this_host():
    assert sockaddr.reachable((bytes(4), 1)) == (b"\x7f\0\0\1", 1)
    assert sockaddr.reachable((bytes(16), 1)) == (bytes(15) + b"\1", 1)


@given(raw=binary(max_size=130), v6=booleans())
def test_any_bytes_are_an_address_or_an_errno(raw, v6):
    for decode in (sockaddr.decode, sockaddr.decode_bind, sockaddr.decode_datagram):
        try:
            host, port = decode(raw, v6)
        except StackError:
            continue
        assert len(host) in (4, 16)
        assert 0 <= port < 65536


@given(host=binary(min_size=16, max_size=16), port=integers(0, 65535))
def test_there_and_back(host, port):
    back = sockaddr.decode(sockaddr.encode((host, port), True), True)
    assert back == (host[12:] if host.startswith(sockaddr.MAPPED) else host, port)
