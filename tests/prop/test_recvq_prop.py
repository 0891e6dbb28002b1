"""RecvQueue equals a dict of bytes under any order, overlap, duplication and reading; SendQueue equals a string."""

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.strategies import integers

from stack.tcp.recvq import MAX_SACKS, RecvQueue
from stack.tcp.sendq import SendQueue

START = 2**32 - 300
SPAN = 600  # small enough that segments meet


class RecvQueueModel(RuleBasedStateMachine):
    """Where segments overlap the bytes that came first stay, so each transmission carries its own bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = RecvQueue(START)
        self.model: dict[int, int] = {}  # sequence number → byte, received
        self.read = START
        self.turn = 0

    @property
    def nxt(self) -> int:
        at = self.read
        while at in self.model:
            at += 1
        return at

    @rule(offset=integers(0, SPAN), length=integers(1, 120))
    def receive(self, offset, length):
        self.turn += 1
        seq = START + offset
        data = bytes((self.turn * 37 + i) & 0xFF for i in range(length))
        fresh = {seq + i: b for i, b in enumerate(data) if seq + i >= self.nxt and seq + i not in self.model}
        held = all(seq + i in self.model for i in range(length))
        nxt = self.queue.nxt
        if seq > nxt:
            assert self.queue.held(seq, seq + length) == held
            assert self.queue.insert(seq, memoryview(data)) == len(fresh)
            left, right = self.queue.sacks[0]
            self.model |= fresh
            assert left <= seq
            assert seq + length <= right
            assert all(at in self.model for at in range(left, right))
            assert left - 1 not in self.model
            assert right not in self.model
        elif seq + length > nxt:
            view = memoryview(data)[nxt - seq :]
            self.queue.append(view)
            # In-order text wins over what waited: nothing was promised for it yet.
            in_order = {nxt + i: b for i, b in enumerate(view)}
            self.model |= in_order
        assert self.queue.nxt == self.nxt

    @rule(count=integers(1, 300))
    def take(self, count):
        views = self.queue.views(count)
        got = b"".join(views)
        assert len(got) == min(count, self.queue.readable)
        assert got == bytes(self.model[self.read + i] for i in range(len(got)))
        self.queue.consume(len(got))
        self.read += len(got)

    @rule(slack=integers(0, 2000))
    def prune(self, slack):
        top = max(self.model, default=0)
        dropped = self.queue.prune(slack + self.queue.readable + 256 * len(self.queue.ready))
        while dropped:  # from the far end
            while top not in self.model:
                top -= 1
            del self.model[top]
            dropped -= 1

    @precondition(lambda self: self.queue.readable)
    @rule()
    def collapse(self):
        self.queue.collapse()

    @invariant()
    def agree(self):
        queue = self.queue
        queue.check()
        assert queue.readable == self.nxt - self.read
        assert queue.ooo_bytes == sum(1 for at in self.model if at >= self.nxt)
        assert len(queue.sacks) <= MAX_SACKS
        for left, right in queue.sacks:
            assert all(at in self.model for at in range(left, right))


class SendQueueModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queue = SendQueue(START)
        self.text = b""
        self.acked = 0

    @rule(length=integers(1, 200), seed=integers(0, 255))
    def write(self, length, seed):
        chunk = bytes((seed + i) & 0xFF for i in range(length))
        self.queue.append(chunk)
        self.text += chunk

    @rule(count=integers(0, 500))
    def acknowledge(self, count):
        self.acked = min(self.acked + count, len(self.text))
        self.queue.ack_to(START + self.acked)

    @precondition(lambda self: self.acked < len(self.text))
    @rule(at=integers(0, 10**6), count=integers(1, 1000))
    def read(self, at, count):
        left = len(self.text) - self.acked
        offset = self.acked + at % left
        count = min(count, len(self.text) - offset)
        got = b"".join(self.queue.views(START + offset, count))
        assert got == self.text[offset : offset + count]

    @invariant()
    def agree(self):
        self.queue.check()
        assert len(self.queue) == len(self.text) - self.acked


TestRecvQueue = RecvQueueModel.TestCase
TestSendQueue = SendQueueModel.TestCase
TestRecvQueue.settings = settings(max_examples=settings.default.max_examples * 3 // 5, stateful_step_count=40)
TestSendQueue.settings = settings(max_examples=settings.default.max_examples * 2 // 5, stateful_step_count=40)
