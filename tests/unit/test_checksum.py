"""The Internet checksum against RFC 1071's own example and the word-by-word sum."""

import random

import pytest

from stack.checksum import finish, ones_sum


@pytest.mark.rfc("1071", "3")
def test_the_example_of_rfc_1071():
    data = bytes((0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7))
    assert ones_sum(data) == 0xDDF2
    assert finish(ones_sum(data)) == 0x220D


@pytest.mark.rfc("1071", "2")
def test_an_odd_tail_is_padded_with_zero():
    assert ones_sum(b"\x01\x02\x03") == ones_sum(b"\x01\x02\x03\x00")


@pytest.mark.rfc("1071", "2")
def test_sums_of_even_pieces_add_up():
    data = bytes(range(200))
    assert (ones_sum(data[:64]) + ones_sum(memoryview(data)[64:])) % 0xFFFF == ones_sum(bytearray(data))


def test_what_carries_its_checksum_sums_to_zero():
    data = b"\x45\x00\x00\x54" * 9
    assert finish(ones_sum(data + finish(ones_sum(data)).to_bytes(2, "big"))) == 0


@pytest.mark.rfc("1071", "2")
@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 1447, 1448, 1536, 1537, 3000, 9001, 65495, 65536, 70001])
def test_folding_long_buffers_changes_nothing(size):
    data = random.Random(size).randbytes(size)
    padded = data + b"\0" * (size % 2)
    assert ones_sum(data) == sum(int.from_bytes(padded[at : at + 2], "big") for at in range(0, size, 2)) % 0xFFFF
