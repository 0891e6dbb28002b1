"""Receive-buffer autotuning: grows with what the program takes, never past its limit."""

from stack.tcp.rcvbuf import NEAR_RCVBUF, ReceiveBuffer
from stack.units import MSEC, USEC

MSS, RTT = 1000, 20 * MSEC


def run(buffer: ReceiveBuffer, per_round: list[int], rtt: int = RTT) -> None:
    """The program keeps up; each round trip brings that many bytes."""
    nxt, now = 0, 0
    buffer.start(0, buffer.size, rtt, MSS, 0)
    for size in per_round:
        now += rtt
        nxt += size
        buffer.on_text(nxt, nxt, buffer.size, MSS, now)


def test_a_fast_reader_gets_a_growing_buffer():
    buffer = ReceiveBuffer(64_000, 6_000_000, True)
    run(buffer, [60_000, 130_000, 260_000, 520_000, 1_000_000])
    assert buffer.size >= 2_000_000


def test_the_limit_holds():
    buffer = ReceiveBuffer(64_000, 200_000, True)
    run(buffer, [60_000, 130_000, 260_000, 520_000, 1_000_000])
    assert buffer.size == 200_000


def test_a_near_sender_gets_no_more_than_the_cache_holds():
    rounds = [500_000, 1_000_000, 2_000_000, 4_000_000]
    near, far = ReceiveBuffer(64_000, 6_000_000, True), ReceiveBuffer(64_000, 6_000_000, True)
    run(near, rounds, rtt=300 * USEC)
    run(far, rounds)
    assert (near.size, far.size) == (NEAR_RCVBUF, 6_000_000)


def test_a_size_that_the_program_set_stays():
    buffer = ReceiveBuffer(64_000, 6_000_000, False)
    run(buffer, [60_000, 130_000, 260_000])
    assert buffer.size == 64_000


def test_a_slow_stream_does_not_grow_it():
    buffer = ReceiveBuffer(64_000, 6_000_000, True)
    run(buffer, [2_000] * 50)
    assert buffer.size == 64_000
