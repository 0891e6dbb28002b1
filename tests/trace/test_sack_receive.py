"""SACK as a receiver: which blocks we send, and D-SACK."""

import pytest


@pytest.mark.rfc("2018", "4")
def test_blocks_tell_what_arrived_latest_first(wire):
    wire.established(sack=True)
    wire.play("""
        +0     in     .   1001:2001
        +0     out    .   1:1 ack 1 <sack 1001:2001>
        +1ms   in     .   3001:4001
        +0     out    .   1:1 ack 1 <sack 3001:4001 1001:2001>
        +1ms   in     .   5001:6001
        +0     out    .   1:1 ack 1 <sack 5001:6001 3001:4001 1001:2001>
        +1ms   in     .   2001:3001
        +0     out    .   1:1 ack 1 <sack 1001:4001 5001:6001>
        +1ms   in     .   1:1001
        +0     out    .   1:1 ack 4001 <sack 5001:6001>
        +1ms   in     .   4001:5001
        +0     out    .   1:1 ack 6001 <>
        +0     app    recv 6000
    """)


@pytest.mark.rfc("2018", "3")
def test_four_blocks_at_most_and_three_beside_timestamps(wire):
    wire.established(sack=True)
    wire.play("""
        +0     in     .   1001:1101
        +0     out    .   1:1 ack 1 <sack 1001:1101>
        +1ms   in     .   2001:2101
        +0     out    .   1:1 ack 1
        +1ms   in     .   3001:3101
        +0     out    .   1:1 ack 1
        +1ms   in     .   4001:4101
        +0     out    .   1:1 ack 1 <sack 4001:4101 3001:3101 2001:2101 1001:1101>
        +1ms   in     .   5001:5101
        +0     out    .   1:1 ack 1 <sack 5001:5101 4001:4101 3001:3101 2001:2101>
    """)


@pytest.mark.rfc("2018", "3")
def test_three_blocks_beside_timestamps(wire):
    wire.established(sack=True, ts=True)
    wire.play("""
        +0     in     .   1001:1101
        +0     out    .   1:1 ack 1 <TS val ? ecr ?,sack 1001:1101>
        +1ms   in     .   2001:2101
        +0     out    .   1:1 ack 1
        +1ms   in     .   3001:3101
        +0     out    .   1:1 ack 1
        +1ms   in     .   4001:4101
        +0     out    .   1:1 ack 1 <TS val ? ecr ?,sack 4001:4101 3001:3101 2001:2101>
    """)


@pytest.mark.rfc("2018", "2")
def test_no_sack_unless_permitted(wire):
    wire.established(sack=False)
    wire.play("""
        +0     in     .   1001:2001
        +0     out    .   1:1 ack 1 <>
    """)


@pytest.mark.rfc("2883", "4.1")
def test_a_duplicate_below_the_ack_is_reported(wire):
    wire.established(sack=True)
    wire.play("""
        +0     in     .   1:1001
        +0..40ms out  .   1:1 ack 1001 <>
        +1ms   in     .   1:1001
        +0     out    .   1:1 ack 1001 <sack 1:1001>
        +1ms   in     .   1001:2001
        +0..40ms out  .   1:1 ack 2001 <>            # reported once
    """)


@pytest.mark.rfc("2883", "4.1")
def test_a_partial_duplicate_reports_only_the_part_that_came_twice(wire):
    wire.established(sack=True)
    wire.play("""
        +0     in     .   1:1001
        +0..40ms out  .   1:1 ack 1001
        +1ms   in     .   501:1501
        +0..40ms out  .   1:1 ack 1501 <sack 501:1001>
    """)


@pytest.mark.rfc("2883", "4.1")
def test_a_duplicate_above_the_ack_is_reported_inside_its_block(wire):
    wire.established(sack=True)
    wire.play("""
        +0     in     .   1001:3001
        +0     out    .   1:1 ack 1 <sack 1001:3001>
        +1ms   in     .   1001:2001
        +0     out    .   1:1 ack 1 <sack 1001:2001 1001:3001>
    """)


@pytest.mark.rfc("2883", "4.1")
def test_a_duplicate_with_another_hole_reports_both(wire):
    wire.established(sack=True)
    wire.play("""
        +0     in     .   1:1001
        +0..40ms out  .   1:1 ack 1001
        +0     in     .   2001:3001
        +0     out    .   1:1 ack 1001 <sack 2001:3001>
        +1ms   in     .   1:1001
        +0     out    .   1:1 ack 1001 <sack 1:1001 2001:3001>
    """)


@pytest.mark.wire(sysctl={"net.ipv4.tcp_dsack": "0"})
def test_dsack_can_be_turned_off(wire):
    wire.established(sack=True)
    wire.play("""
        +0     in     .   1:1001
        +0..40ms out  .   1:1 ack 1001
        +1ms   in     .   1:1001
        +0     out    .   1:1 ack 1001 <>
    """)


@pytest.mark.rfc("2018", "4")
def test_text_makes_room_for_blocks(wire):
    wire.established(sack=True)
    wire.play("""
        +0     in     .   1001:2001
        +0     out    .   1:1 ack 1 <sack 1001:2001>
        +1ms   app    send 1000
        +0     out    .   1:989 ack 1 <sack 1001:2001>
        +0     out    P.  989:1001 ack 1 <sack 1001:2001>
    """)
