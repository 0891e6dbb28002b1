"""An impaired device under a real driver: packets come through late, cut, and never get stuck."""

import asyncio

import pytest

from kit.recorder import Recorder, turns
from kit.supersegment import super_segment
from nuse.device import PairEnd, pair
from nuse.driver import Driver
from nuse.impair import parse_impair
from nuse.impair_device import ImpairedDevice, impair, impairment
from nuse.loop import monotonic_ns, run
from stack.ip.link import Link

MS = 1_000_000


def setup() -> tuple[Recorder, Driver, Link, PairEnd]:
    stack = Recorder()
    driver = Driver(stack)
    link = Link("tun0", 2)
    near, far = pair()
    driver.attach(link, near)
    return stack, driver, link, far


async def until(fact: object, seconds: float = 5.0) -> None:
    deadline = monotonic_ns() + int(seconds * 1e9)
    while not fact():  # type: ignore[operator]
        assert monotonic_ns() < deadline
        await asyncio.sleep(0.001)


def test_both_directions_are_late() -> None:
    async def main() -> None:
        stack, driver, link, far = setup()
        impair(driver, link, parse_impair("delay 5ms"))
        start = monotonic_ns()
        far.write([bytes(10), b"in"])
        stack.out.append((link, [bytes(10), b"out"]))
        driver.wake()
        await turns()
        early = list(stack.received)
        assert not early or monotonic_ns() - start >= 5 * MS  # a busy host may have stopped us for as long
        await until(lambda: stack.received)
        got: list[bytes] = []
        await until(lambda: got.extend(packet for packet in [far.read()] if packet is not None) or got)
        assert monotonic_ns() - start >= 5 * MS
        assert (stack.received, got) == ([bytes(10) + b"in"], [bytes(10) + b"out"])
        driver.close()

    run(main())


def test_a_super_segment_is_cut_and_all_of_it_arrives() -> None:
    async def main() -> None:
        stack, driver, link, far = setup()
        impair(driver, link, parse_impair("loss pattern 01 ingress"))
        far.write([super_segment(4, bytes(60_000), 1000)])
        await until(lambda: len(stack.received) == 30)
        assert all(packet[0] == 2 for packet in stack.received), "vouched for"
        assert impairment(driver, link)["ingress"]["lost"] == 30
        assert "egress" not in impairment(driver, link)
        driver.close()

    run(main())


def test_a_shaped_burst_drains_completely() -> None:
    async def main() -> None:
        stack, driver, link, far = setup()
        impair(driver, link, parse_impair("rate 1gbit"))
        for _ in range(900):
            far.write([bytes(10), bytes(1000)])
        start = monotonic_ns()
        await until(lambda: len(stack.received) == 900)
        assert monotonic_ns() - start >= 7 * MS
        driver.close()

    run(main())


def test_clearing_lets_go_of_what_is_held() -> None:
    async def main() -> None:
        stack, driver, link, far = setup()
        impair(driver, link, parse_impair("delay 100s"))
        far.write([bytes(10), b"in"])
        stack.out.append((link, [bytes(10), b"out"]))
        driver.wake()
        await turns()
        assert far.read() is None
        impair(driver, link, None)
        assert impairment(driver, link) == {}
        assert far.read() == bytes(10) + b"out"
        assert stack.received == [bytes(10) + b"in"]
        far.write([b"again"])
        await turns()
        assert stack.received[-1] == b"again"
        driver.close()

    run(main())


def test_a_new_spec_replaces_its_direction_only() -> None:
    async def main() -> None:
        _, driver, link, _ = setup()
        impair(driver, link, parse_impair("delay 1ms"))
        impair(driver, link, parse_impair("delay 2ms egress seed 1"))
        now = impairment(driver, link)
        assert now["egress"]["spec"] == "delay 2ms seed 1"
        assert str(now["ingress"]["spec"]).startswith("delay 1ms")
        assert isinstance(driver.device(link), ImpairedDevice)
        driver.close()

    run(main())


def test_a_link_without_device_cannot_be_impaired() -> None:
    async def main() -> None:
        _, driver, _, _ = setup()
        with pytest.raises(KeyError):
            impair(driver, Link("other", 9), parse_impair("delay 1ms"))
        driver.close()

    run(main())
