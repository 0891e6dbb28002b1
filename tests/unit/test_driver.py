"""The driver against a stack that only records: order of work, fairness, and that nobody's fault kills it."""

import asyncio
from collections.abc import Callable

import pytest

from kit.recorder import Endpoint, Recorder, turns
from nuse.device import PairEnd, pair
from nuse.driver import READ_BATCH, SEND_BUDGET, Driver
from nuse.loop import Alarm, monotonic_ns, run
from stack.ip.link import Link

SEC = 1_000_000_000


class Owner:
    def __init__(self, act: Callable[[int], None]) -> None:
        self.on_events = act


LINK = Link("tun0", 2)


def test_packets_in_then_events_then_packets_out() -> None:
    async def main() -> None:
        stack = Recorder()
        driver = Driver(stack)
        near, far = pair()
        driver.attach(LINK, near)
        endpoint = Endpoint(Owner(lambda mask: stack.log.append(f"event {mask}")))

        def answer(pkt: bytes) -> None:
            stack.events.append((endpoint, 3))
            stack.out.append((LINK, [b"re", pkt]))

        stack.on_receive = answer
        far.write([b"one"])
        await turns()
        assert stack.log == ["receive", "event 3", "transmit"]
        assert far.read() == b"reone"
        driver.close()

    run(main())


def test_wakes_coalesce_into_one_flush() -> None:
    async def main() -> None:
        stack = Recorder()
        driver = Driver(stack)
        near, far = pair()
        driver.attach(LINK, near)
        stack.out.append((LINK, [b"x"]))
        driver.wake()
        driver.wake()
        assert far.read() is None
        await turns()
        assert far.read() == b"x"
        driver.close()

    run(main())


def test_a_bulk_sender_leaves_the_loop_to_others_between_budgets() -> None:
    async def main() -> None:
        stack = Recorder()
        driver = Driver(stack)
        near, far = pair()
        driver.attach(LINK, near)
        stack.out.extend((LINK, [b"x"]) for _ in range(5 * SEND_BUDGET))
        sent_at_turn = []
        driver.wake()
        for _ in range(7):
            await asyncio.sleep(0)
            sent = 0
            while far.read() is not None:
                sent += 1
            sent_at_turn.append(sent)
        assert sum(sent_at_turn) == 5 * SEND_BUDGET
        assert max(sent_at_turn) <= SEND_BUDGET
        driver.close()

    run(main())


def test_a_bulk_receiver_answers_after_each_batch() -> None:
    async def main() -> None:
        stack = Recorder()
        driver = Driver(stack)
        near, far = pair()
        driver.attach(LINK, near)
        stack.on_receive = lambda pkt: stack.out.append((LINK, [b"ack"])) if not stack.out else None
        for _ in range(4 * READ_BATCH):
            far.write([b"data"])
        await turns(20)
        longest = max(len(burst.split()) for burst in " ".join(stack.log).split("transmit"))
        assert len(stack.received) == 4 * READ_BATCH
        assert longest <= READ_BATCH + 1
        driver.close()

    run(main())


def test_a_deadline_rings_and_one_that_moved_away_does_not() -> None:
    async def main() -> None:
        stack = Recorder()
        driver = Driver(stack)
        stack.deadline = monotonic_ns() + 2_000_000
        driver.flush()
        stack.deadline += 4_000_000
        due = stack.deadline
        while stack.deadline is not None:
            await asyncio.sleep(0.001)
        assert stack.log == ["timeout"]
        assert monotonic_ns() >= due
        driver.close()

    run(main())


@pytest.mark.parametrize("answered", [False, True])
def test_what_has_come_is_heard_before_a_time_out(answered: bool) -> None:
    """Where we were the ones who slept, the ACK for which a timer runs lies on the device."""

    async def main() -> None:
        stack = Recorder()
        driver = Driver(stack)
        links = LINK, Link("tun1", 3)
        far = []
        for link in links:
            near, other = pair()
            driver.attach(link, near)
            far.append(other)
        await turns()
        stack.deadline = monotonic_ns() + 1_000_000
        driver.flush()

        def heard(_pkt: bytes) -> None:
            if answered:
                stack.deadline = None

        stack.on_receive = heard
        for other in far:
            for _ in range(2 * READ_BATCH):
                other.write([b"ack"])
        while stack.deadline > monotonic_ns():
            pass
        driver.flush()
        assert stack.log == ["receive"] * 4 * READ_BATCH + ["timeout"] * (not answered)
        driver.close()

    run(main())


def test_an_owner_that_throws_loses_its_endpoint_only(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        stack = Recorder()
        driver = Driver(stack)
        told: list[int] = []

        def throw(mask: int) -> None:
            raise ValueError("bug of the owner")

        bad, good = Endpoint(Owner(throw)), Endpoint(Owner(told.append))
        stack.events.extend([(bad, 1), (good, 2)])
        driver.flush()
        assert (bad.closed, bad.owner) == (True, None)
        assert (good.closed, told) == (False, [2])
        assert driver.faults == 1
        driver.close()

    run(main())
    assert "bug of the owner" in caplog.text


def test_a_stack_that_throws_is_flushed_again(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        stack = Recorder()
        driver = Driver(stack)
        near, far = pair()
        driver.attach(LINK, near)
        stack.fail = AssertionError("broken invariant")
        stack.out.append((LINK, [b"later"]))
        driver.flush()
        assert far.read() is None
        while (packet := far.read()) is None:
            await asyncio.sleep(0.01)
        assert packet == b"later"
        driver.close()

    run(main())
    assert "broken invariant" in caplog.text


def test_a_packet_for_a_link_without_device_is_a_drop() -> None:
    async def main() -> None:
        stack = Recorder()
        driver = Driver(stack)
        link = Link("gone", 3)
        stack.out.append((link, [b"x"]))
        driver.flush()
        assert link.stats.tx_dropped == 1
        driver.close()

    run(main())


def test_a_device_that_is_gone_takes_its_link_down_once(caplog: pytest.LogCaptureFixture) -> None:
    class Deleted:
        gone = True
        closed = False

        def fileno(self) -> int:
            return -1

        def read(self) -> bytes | None:
            return None

        def write(self, iovec: object) -> bool:
            return False

        def close(self) -> None:
            self.closed = True

    async def main() -> None:
        stack = Recorder()
        driver = Driver(stack)
        link, device = Link("tun0", 2), Deleted()
        driver.attach(link, device)
        stack.out.extend([(link, [b"x"]), (link, [b"y"])])
        driver.flush()
        assert (link.up, device.closed, driver.device(link)) == (False, True, None)
        assert link.stats.tx_dropped == 2
        driver.close()

    run(main())
    assert caplog.text.count("is gone") == 1


def test_a_device_that_finds_a_packet_too_large_is_asked_for_smaller_ones() -> None:
    class Tight(PairEnd):
        gso_max = 400_000

        def write(self, iovec: object) -> bool:
            self.gso_max = 200_000
            return False

    async def main() -> None:
        stack = Recorder()
        driver = Driver(stack)
        link = Link("tun0", 2)
        driver.attach(link, Tight())
        assert link.gso_max == 400_000
        stack.out.append((link, [b"x"]))
        driver.flush()
        assert link.gso_max == 200_000
        driver.detach(link)
        driver.attach(link, PairEnd())
        assert link.gso_max == 65_535
        driver.close()

    run(main())


def test_detach_hands_the_device_back_open() -> None:
    async def main() -> None:
        stack = Recorder()
        driver = Driver(stack)
        near, far = pair()
        driver.attach(LINK, near)
        assert driver.device(LINK) is near
        assert driver.detach(LINK) is near
        far.write([b"unheard"])
        await turns()
        assert stack.received == []
        assert near.read() == b"unheard"
        assert driver.detach(LINK) is None
        driver.close()

    run(main())


def test_alarm_rings_once_at_the_earliest_deadline() -> None:
    async def main() -> None:
        rung: list[int] = []
        alarm = Alarm(asyncio.get_running_loop(), lambda: rung.append(monotonic_ns()))
        start = monotonic_ns()
        alarm.at(start + 10 * SEC)
        alarm.at(start + 3_000_000)
        alarm.at(start + 20 * SEC)
        while not rung:
            await asyncio.sleep(0.001)
        assert len(rung) == 1
        assert rung[0] - start >= 3_000_000
        alarm.close()
        alarm.close()

    run(main())
