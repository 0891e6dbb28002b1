"""The scoreboard: splits at SACK edges, counts bytes, hands out what to send again."""

from itertools import pairwise

import pytest

from stack.tcp.scoreboard import Scoreboard, Sent


def sent(*edges: int) -> Scoreboard:
    """Records between consecutive edges, sent one nanosecond apart."""
    board = Scoreboard()
    for n, (start, end) in enumerate(pairwise(edges)):
        board.on_sent(Sent(start, end, n, 0, 0))
    return board


def spans(records: list[Sent]) -> list[tuple[int, int]]:
    return [(rec.start, rec.end) for rec in records]


def counts(board: Scoreboard) -> tuple[int, int, int]:
    board.check()
    return board.sacked_out, board.lost_out, board.retrans_out


def test_cumulative_acks_drop_whole_records_and_cut_one():
    board = sent(0, 100, 200, 300)
    assert spans(board.ack_to(150)) == [(0, 100), (100, 150)]
    assert spans(board.outstanding()) == [(150, 200), (200, 300)]
    assert spans(board.ack_to(300)) == [(150, 200), (200, 300)]
    assert len(board) == 0
    assert counts(board) == (0, 0, 0)


@pytest.mark.rfc("6675", "4")
def test_sack_marks_and_splits_one_super_segment():
    board = sent(0, 64000)
    fresh = board.sack([(10000, 20000), (30000, 40000)], 0)
    assert spans(fresh) == [(10000, 20000), (30000, 40000)]
    assert spans(board.outstanding()) == [
        (0, 10000),
        (10000, 20000),
        (20000, 30000),
        (30000, 40000),
        (40000, 64000),
    ]
    assert counts(board) == (20000, 0, 0)


def test_a_block_seen_before_is_not_news():
    board = sent(0, 100, 200, 300, 400)
    assert spans(board.sack([(200, 300)], 0)) == [(200, 300)]
    assert board.sack([(200, 300)], 0) == []
    assert spans(board.sack([(200, 400)], 0)) == [(300, 400)]
    assert counts(board) == (200, 0, 0)


def test_a_block_that_spans_several_records_and_an_old_block():
    board = sent(0, 100, 200, 300, 400, 500)
    board.sack([(200, 300)], 0)
    assert spans(board.sack([(100, 450), (200, 300)], 0)) == [(100, 200), (300, 400), (400, 450)]
    assert counts(board) == (350, 0, 0)


@pytest.mark.rfc("6675", "5")
def test_lost_records_come_out_lowest_first_and_once():
    board = sent(0, 100, 200, 300, 400)
    board.sack([(300, 400)], 0)
    for rec in board.outstanding()[1:3]:
        board.mark_lost(rec)
    board.mark_lost(board.outstanding()[0])
    assert counts(board) == (100, 300, 0)
    order = []
    while (rec := board.next_lost()) is not None:
        order.append((rec.start, rec.end))
        board.on_resent(rec, rec.end, 50)
    assert order == [(0, 100), (100, 200), (200, 300)]
    assert counts(board) == (100, 300, 300)


def test_a_retransmission_may_cover_part_of_a_record():
    board = sent(0, 1000)
    board.mark_lost(board.outstanding()[0])
    rec = board.next_lost()
    assert rec is not None
    board.on_resent(rec, 400, 9)
    assert counts(board) == (0, 1000, 400)
    rest = board.next_lost()
    assert rest is not None
    assert (rest.start, rest.end) == (400, 1000)


def test_a_lost_retransmission_is_lost_again():
    board = sent(0, 100, 200)
    rec = board.outstanding()[0]
    board.mark_lost(rec)
    board.on_resent(rec, 100, 9)
    board.mark_lost(rec)
    assert counts(board) == (0, 100, 0)
    assert board.next_lost() is rec


def test_sacked_after_being_deemed_lost():
    board = sent(0, 100, 200)
    board.mark_lost(board.outstanding()[0])
    board.sack([(0, 100)], 0)
    assert counts(board) == (100, 0, 0)
    assert board.next_lost() is None


def test_partly_sacked_after_being_sent_again():
    board = sent(0, 1000, 2000)
    rec = board.outstanding()[0]
    board.mark_lost(rec)
    board.on_resent(rec, 1000, 9)
    board.sack([(200, 500)], 0)
    assert counts(board) == (300, 700, 700)
    board.ack_to(600)
    assert counts(board) == (0, 400, 400)


@pytest.mark.rfc("2018", "8")
def test_reneging_puts_everything_in_question_again():
    board = sent(0, 100, 200, 300)
    board.sack([(100, 300)], 0)
    board.forget_sacks()
    assert counts(board) == (0, 0, 0)
    board.mark_all_lost()
    assert counts(board) == (0, 300, 0)


def test_undo_puts_everything_back_in_flight():
    board = sent(0, 100, 200, 300)
    board.mark_all_lost()
    rec = board.next_lost()
    assert rec is not None
    board.on_resent(rec, 100, 9)
    board.unmark_lost()
    assert counts(board) == (0, 0, 0)
    assert board.next_lost() is None


def test_time_order_is_of_the_last_transmission():
    board = sent(0, 100, 200, 300)
    first = board.outstanding()[0]
    board.mark_lost(first)
    board.on_resent(first, 100, 77)
    assert spans(list(board.by_time())) == [(100, 200), (200, 300), (0, 100)]


def test_the_hole_that_a_split_leaves_keeps_its_place_in_time():
    board = sent(0, 1000, 2000, 3000)
    board.sack([(400, 600)], 0)
    counts(board)
    assert [rec.sent_at for rec in board.by_time()] == sorted(rec.sent_at for rec in board.by_time())


def test_the_lowest_comes_first_even_after_reneging():
    boards = [sent(0, 100) for _ in range(30)]
    for board in boards:
        board.mark_all_lost()
        board.sack([(0, 60)], 0)
        board.forget_sacks()
        board.mark_all_lost()
        counts(board)
    assert [board.next_lost().start for board in boards] == [0] * 30
