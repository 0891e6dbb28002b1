"""The send queue: chunks in, slices out, nothing copied."""

import pytest

from stack.tcp.sendq import MAX_PIECES, SendQueue

ISS = 2**32 - 10


def joined(queue: SendQueue, seq: int, count: int) -> bytes:
    return b"".join(queue.views(seq, count))


def test_slices_cross_chunks_and_acknowledgments():
    queue = SendQueue(ISS)
    for chunk in (b"hello ", b"wide ", b"world"):
        queue.append(chunk)
    assert len(queue) == 16
    assert joined(queue, ISS, 16) == b"hello wide world"
    assert joined(queue, ISS + 4, 4) == b"o wi"
    queue.ack_to(ISS + 7)
    queue.check()
    assert (queue.start, len(queue)) == (ISS + 7, 9)
    assert joined(queue, ISS + 7, 9) == b"ide world"
    queue.ack_to(ISS + 16)
    queue.check()
    assert len(queue) == 0
    queue.append(b"again")
    assert joined(queue, ISS + 16, 5) == b"again"


def test_nothing_is_copied():
    chunk = bytes(1000)
    queue = SendQueue(0)
    queue.append(chunk)
    (view,) = queue.views(10, 100)
    assert view.obj is chunk


def test_a_segment_of_many_tiny_chunks_is_cut_short():
    queue = SendQueue(0)
    for _ in range(MAX_PIECES * 2):
        queue.append(b"x")
    pieces = queue.views(0, MAX_PIECES * 2)
    assert len(pieces) == MAX_PIECES


def test_acknowledged_chunks_are_freed():
    queue = SendQueue(0)
    for _ in range(1000):
        queue.append(b"y" * 10)
        queue.ack_to(queue.end)
    queue.check()
    assert len(queue._chunks) < 100


@pytest.mark.parametrize("ack", [0, 3, 5])
def test_clear(ack):
    queue = SendQueue(0)
    queue.append(b"12345")
    queue.ack_to(ack)
    queue.clear()
    queue.check()
    assert len(queue) == 0
