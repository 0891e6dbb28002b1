"""Addresses: 4 or 16 raw bytes inside the stack; text only at its edges."""

import ipaddress
from functools import lru_cache

ANY4 = bytes(4)
ANY6 = bytes(16)
LOOPBACK4 = bytes((127, 0, 0, 1))
LOOPBACK6 = bytes(15) + b"\x01"


def parse_addr(text: str) -> bytes:
    """Bytes of a textual IPv4 or IPv6 address. Raises ValueError."""
    return ipaddress.ip_address(text).packed


@lru_cache(maxsize=256)  # each connection tells its addresses several times
def show_addr(addr: bytes) -> str:
    """Text of a 4- or 16-byte address, as `ip addr` writes it."""
    return str(ipaddress.ip_address(addr))


def is_multicast(addr: bytes) -> bool:
    """224.0.0.0/4 or ff00::/8."""
    return addr[0] & 0xF0 == 0xE0 if len(addr) == 4 else addr[0] == 0xFF


def common_bits(a: bytes, b: bytes) -> int:
    """Length of the common prefix of two addresses of one family."""
    return len(a) * 8 - (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_length()
