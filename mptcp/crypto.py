"""Keys, tokens, first data sequence numbers and HMACs, RFC 8684 §3.1, §3.2, §3.4.1; HMAC-SHA256 is the only algorithm.

Keys and nonces are bytes as they stand on the wire, and come from the caller: nothing here draws a random number.
"""

import hmac
from hashlib import sha256
from struct import Struct

from stack.checksum import finish, ones_sum

KEY_LEN = 8
NONCE_LEN = 4
TOKEN_LEN = 4
JOIN_SHORT = 8  # bytes of the HMAC in a SYN-ACK: the leftmost
JOIN_LONG = 20  # in the third ACK: the leftmost
ADD_ADDR_LEN = 8  # in ADD_ADDR: the rightmost

_PSEUDO = Struct("!QIHH")  # data sequence number, subflow sequence number, data-level length, zero


def token(key: bytes) -> int:
    """What names the connection of `key` in MP_JOIN: the first 32 bits of the key's hash, §3.2."""
    return int.from_bytes(sha256(key).digest()[:TOKEN_LEN], "big")


def idsn(key: bytes) -> int:
    """The initial data sequence number of whoever sent `key`: the last 64 bits of its hash, §3.1."""
    return int.from_bytes(sha256(key).digest()[-8:], "big")


def join_hmac(own_key: bytes, other_key: bytes, own_nonce: bytes, other_nonce: bytes) -> bytes:
    """The whole HMAC, 32 bytes, with which the owner of `own_key` proves that it knows both keys, §3.2.

    The SYN-ACK carries its first JOIN_SHORT bytes, the third ACK its first JOIN_LONG.
    """
    return hmac.digest(own_key + other_key, own_nonce + other_nonce, "sha256")


def add_addr_hmac(own_key: bytes, other_key: bytes, address_id: int, addr: bytes, port: int = 0) -> bytes:
    """The eight bytes that prove an ADD_ADDR of the owner of `own_key`, §3.4.1; port 0 where it names none."""
    message = bytes((address_id,)) + addr + port.to_bytes(2, "big")
    return hmac.digest(own_key + other_key, message, "sha256")[-ADD_ADDR_LEN:]


def same(one: bytes, other: bytes) -> bool:
    """Compare two proofs in a time that does not tell how much of them is right."""
    return hmac.compare_digest(one, other)


def dss_checksum(dsn: int, ssn: int, length: int, text_sum: int) -> int:
    """The checksum of one mapping, §3.3.1, of which `text_sum` is the ones' complement sum of the text.

    `dsn` counts with all its 64 bits, also where 32 are sent; `ssn` is relative to the subflow's start; `length` is
    the option's, so it counts a DATA_FIN.
    """
    return finish(ones_sum(_PSEUDO.pack(dsn & 0xFFFF_FFFF_FFFF_FFFF, ssn & 0xFFFF_FFFF, length, 0)) + text_sum)


def dss_sound(dsn: int, ssn: int, length: int, text_sum: int, checksum: int) -> bool:
    """True if `checksum` is that of the mapping and its text."""
    return dss_checksum(dsn, ssn, length, text_sum + checksum) == 0
