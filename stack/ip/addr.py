"""Addresses: 4 or 16 raw bytes inside the stack; text only at its edges."""

import ipaddress

ANY4 = bytes(4)
ANY6 = bytes(16)
LOOPBACK4 = bytes((127, 0, 0, 1))
LOOPBACK6 = bytes(15) + b"\x01"


def parse_addr(text: str) -> bytes:
    """Bytes of a textual IPv4 or IPv6 address. Raises ValueError."""
    return ipaddress.ip_address(text).packed


def show_addr(addr: bytes) -> str:
    """Text of a 4- or 16-byte address, as `ip addr` writes it."""
    return str(ipaddress.ip_address(addr))
