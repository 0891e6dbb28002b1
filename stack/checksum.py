"""The Internet checksum, RFC 1071, over whole buffers at once."""


def ones_sum(data: bytes | bytearray | memoryview) -> int:
    """Sum of the big-endian 16-bit words of `data`, modulo 0xFFFF; an odd tail is padded with zero (RFC 1071 §2).

    2**16 ≡ 1 (mod 0xFFFF), so a buffer read as one integer is congruent to the sum of its words, and partial sums of
    even-length pieces add up. Cheap for headers (0.15 µs); costs 140 µs at 64 KB, so never call it there.
    """
    total = int.from_bytes(data, "big")
    return (total << 8 if len(data) & 1 else total) % 0xFFFF


def finish(total: int) -> int:
    """The checksum field for an accumulated sum: byte-exact with RFC 1071 unless every summed byte is zero.

    A UDP sender writes 0xFFFF for 0 (RFC 768).
    """
    return -total % 0xFFFF
