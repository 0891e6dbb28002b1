"""The receive queue: what is in order, what waits, which SACK blocks that makes."""

import pytest

from stack.tcp.recvq import MAX_SACKS, RecvQueue

TEXT = bytes(range(256)) * 8


def put(queue: RecvQueue, start: int, end: int) -> int:
    """Receive [start, end) of TEXT; how many bytes were new."""
    view = memoryview(TEXT)[start:end]
    if start <= queue.nxt:
        before = queue.nxt
        if end > queue.nxt:
            queue.append(view[queue.nxt - start :])
        fresh = queue.nxt - before
    else:
        fresh = queue.insert(start, view)
    queue.check()
    return fresh


def taken(queue: RecvQueue, limit: int = 1 << 30) -> bytes:
    data = b"".join(queue.views(limit))
    queue.consume(len(data))
    queue.check()
    return data


def test_in_order_text_is_readable_at_once():
    queue = RecvQueue(0)
    put(queue, 0, 100)
    put(queue, 100, 150)
    assert queue.readable == 150
    assert taken(queue, 120) == TEXT[:120]
    assert taken(queue) == TEXT[120:150]


def test_views_are_not_copies():
    packet = bytes(100)
    queue = RecvQueue(0)
    queue.append(memoryview(packet)[50:])
    assert queue.views(50)[0].obj is packet


def test_a_hole_holds_back_what_follows():
    queue = RecvQueue(0)
    put(queue, 100, 200)
    assert (queue.readable, queue.ooo_bytes, queue.has_holes()) == (0, 100, True)
    put(queue, 0, 100)
    assert (queue.readable, queue.ooo_bytes, queue.has_holes()) == (200, 0, False)
    assert taken(queue) == TEXT[:200]


@pytest.mark.rfc("2018", "4")
def test_the_latest_block_comes_first_and_neighbours_merge():
    queue = RecvQueue(0)
    put(queue, 100, 200)
    put(queue, 300, 400)
    assert queue.sacks == [(300, 400), (100, 200)]
    put(queue, 500, 600)
    assert queue.sacks == [(500, 600), (300, 400), (100, 200)]
    put(queue, 200, 300)  # joins two
    assert queue.sacks == [(100, 400), (500, 600)]
    put(queue, 0, 100)
    assert queue.sacks == [(500, 600)]


@pytest.mark.rfc("2018", "4")
def test_blocks_beyond_four_are_forgotten_oldest_first():
    queue = RecvQueue(0)
    for start in (100, 300, 500, 700, 900):
        put(queue, start, start + 100)
    assert len(queue.sacks) == MAX_SACKS
    assert queue.sacks == [(900, 1000), (700, 800), (500, 600), (300, 400)]
    put(queue, 200, 250)  # touches the forgotten 100:200
    assert queue.sacks[0] == (100, 250)


def test_overlaps_count_new_bytes_only():
    queue = RecvQueue(0)
    assert put(queue, 100, 200) == 100
    assert put(queue, 150, 250) == 50
    assert put(queue, 120, 180) == 0
    assert put(queue, 50, 300) == 100
    assert queue.held(50, 300)
    assert not queue.held(40, 60)
    assert not queue.held(290, 301)


@pytest.mark.rfc("2018", "8")
def test_pruning_drops_the_far_end_and_its_sack():
    queue = RecvQueue(0)
    put(queue, 100, 200)
    put(queue, 300, 400)
    dropped = queue.prune(queue.truesize() - 1)
    queue.check()
    assert dropped == 100
    assert queue.sacks == [(100, 200)]


def test_collapse_keeps_the_bytes():
    queue = RecvQueue(0)
    for at in range(0, 100, 1):
        put(queue, at, at + 1)
    before = queue.truesize()
    queue.collapse()
    queue.check()
    assert queue.truesize() < before
    assert taken(queue) == TEXT[:100]
