"""The scoreboard equals a byte-by-byte account of what is acknowledged, SACKed, lost and sent again."""

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.strategies import integers, lists, tuples

from stack.tcp.scoreboard import Scoreboard, Sent

SACKED, LOST, RESENT = 1, 2, 4
NOTHING_IN_FLIGHT = "nothing in flight"


class ScoreboardModel(RuleBasedStateMachine):
    """Each byte in flight has a set of marks; records must tile them and counts must add up."""

    def __init__(self) -> None:
        super().__init__()
        self.board = Scoreboard()
        self.una = self.nxt = 1000
        self.marks: dict[int, int] = {}
        self.now = 0

    def in_flight(self) -> bool:
        return self.nxt > self.una

    @rule(length=integers(1, 90))
    def send(self, length):
        self.now += 1
        self.board.on_sent(Sent(self.nxt, self.nxt + length, self.now, 0, 0))
        self.marks |= dict.fromkeys(range(self.nxt, self.nxt + length), 0)
        self.nxt += length

    @precondition(in_flight)
    @rule(count=integers(1, 300))
    def acknowledge(self, count):
        ack = min(self.una + count, self.nxt)
        gone = self.board.ack_to(ack)
        assert sum(rec.end - rec.start for rec in gone) == ack - self.una
        for at in range(self.una, ack):
            del self.marks[at]
        self.una = ack

    @precondition(in_flight)
    @rule(ranges=lists(tuples(integers(1, 400), integers(1, 120)), min_size=1, max_size=3))
    def sack(self, ranges):
        blocks = []
        for offset, length in ranges:
            left = self.una + offset
            right = min(left + length, self.nxt)
            if left < right:
                blocks.append((left, right))
        wanted = {at for left, right in blocks for at in range(left, right) if not self.marks[at] & SACKED}
        fresh = self.board.sack(blocks, self.una)
        got = [at for rec in fresh for at in range(rec.start, rec.end)]
        assert sorted(got) == sorted(wanted)
        for at in wanted:
            self.marks[at] = SACKED

    @precondition(in_flight)
    @rule(index=integers(0, 1000))
    def lose(self, index):
        live = [rec for rec in self.board.outstanding() if not rec.sacked]
        if live:
            rec = live[index % len(live)]
            self.board.mark_lost(rec)
            self.marks |= dict.fromkeys(range(rec.start, rec.end), LOST)

    @rule(part=integers(1, 100))
    def resend(self, part):
        rec = self.board.next_lost()
        waiting = [at for at, mark in self.marks.items() if mark == LOST]
        if rec is None:
            assert not waiting
            return
        assert rec.start == min(waiting)
        self.now += 1
        end = min(rec.start + part, rec.end)
        start = rec.start
        self.board.on_resent(rec, end, self.now)
        self.marks |= dict.fromkeys(range(start, end), LOST | RESENT)

    @precondition(in_flight)
    @rule()
    def time_out(self):
        self.board.mark_all_lost()
        self.marks = {at: mark if mark & SACKED else LOST for at, mark in self.marks.items()}

    @precondition(in_flight)
    @rule()
    def renege(self):
        self.board.forget_sacks()
        self.marks = {at: 0 if mark & SACKED else mark for at, mark in self.marks.items()}

    @precondition(in_flight)
    @rule()
    def undo(self):
        self.board.unmark_lost()
        self.marks = {at: mark & SACKED for at, mark in self.marks.items()}

    @invariant()
    def agree(self):
        board = self.board
        board.check()
        marks = self.marks.values()
        assert board.sacked_out == sum(1 for m in marks if m & SACKED)
        assert board.lost_out == sum(1 for m in marks if m & LOST)
        assert board.retrans_out == sum(1 for m in marks if m & RESENT)
        assert [at for rec in board.outstanding() for at in range(rec.start, rec.end)] == sorted(self.marks)
        times = [rec.sent_at for rec in board.by_time()]
        assert times == sorted(times)


TestScoreboard = ScoreboardModel.TestCase
TestScoreboard.settings = settings(max_examples=settings.default.max_examples, stateful_step_count=50)
