"""Where the kernel and our stack may differ, each with its reason. Everything else is a bug of one of the two: ours."""

import re
from collections.abc import Callable

from diff_sides import Step

Rule = Callable[[str, Step, Step, list[str]], bool]


def text_on_syn_ack(line: str, theirs: Step, ours: Step, before: list[str]) -> bool:
    """Text or FIN on a SYN-ACK: we take it (RFC 9293 §3.10.7.3), Linux drops it and lets the peer send it again."""
    flags, _, place = line.removeprefix("in ").partition(" ")
    match = re.match(r"(-?\d+):(-?\d+) ", place)
    return {"S", "."} <= set(flags) and match is not None and ("F" in flags or match[1] != match[2])


def options_of_a_crossing_syn(line: str, theirs: Step, ours: Step, before: list[str]) -> bool:
    """Simultaneous open: Linux repeats its options; RFC 7323 §2.2, §3.2 allows those that the peer offered."""
    strip = [[re.sub(r" <.*>", "", packet) for packet in step.out] for step in (theirs, ours)]
    return "app connect" in before and strip[0] == strip[1] and all(packet.startswith("S") for packet in ours.out)


def bytes_of_cwnd(line: str, theirs: Step, ours: Step, before: list[str]) -> bool:
    """cwnd counts bytes here and segments there, so small segments make a difference to how many fit."""
    small = any(re.search(r"<.*mss (88|300|536)\b", each) or ("in S" in each and "mss" not in each) for each in before)
    if small and len(theirs.out) == len(ours.out) == 1 and theirs.state == ours.state:
        # A bare ACK here, the same on text there.
        return re.sub(r":\d+ | ect0|W", "", theirs.out[0]) == re.sub(r":\d+ | ect0|W", "", ours.out[0])
    short, long = sorted((theirs.out, ours.out), key=len)
    return small and bool(long) and long[: len(short)] == short and all(" win 1" in each for each in long[len(short) :])


def crossing_syn_ack(line: str, theirs: Step, ours: Step, before: list[str]) -> bool:
    """Simultaneous open: the peer's SYN-ACK repeats its SYN, which Linux acknowledges as a duplicate."""
    return "app connect" in before and len(theirs.out) == 1 and not ours.out and line.startswith("in S")


def timestamp_of_an_old_ack(line: str, theirs: Step, ours: Step, before: list[str]) -> bool:
    """TS.Recent from a segment whose ACK is old: we take it (RFC 7323 §4.3), Linux only sometimes."""
    acks = [int(match[1]) for each in [*before, line] if (match := re.search(r" ack (-?\d+)", each))]
    old = any(ack < max([1, *acks[:number]]) for number, ack in enumerate(acks))
    strip = [[re.sub(r"ecr \d+", "", packet) for packet in step.out] for step in (theirs, ours)]
    return old and strip[0] == strip[1] and theirs.state == ours.state


def stale_sack_blocks(line: str, theirs: Step, ours: Step, before: list[str]) -> bool:
    """A block that a later one covers, text beyond a FIN, blocks after the last FIN: Linux still reports them."""
    strip = [
        [re.sub(r",?sack [\d: ]+", "", packet).replace(" <>", "") for packet in step.out] for step in (theirs, ours)
    ]
    if strip[0] != strip[1] or theirs.state != ours.state or theirs.result != ours.result:
        return False
    fin = any("F" in each.split()[1] for each in [*before, line])
    known, reported = _sacked(theirs), _sacked(ours)
    return reported <= known if fin else reported == known


def _sacked(step: Step) -> set[int]:
    blocks = re.findall(r"(\d+):(\d+)(?=[ >\d:]*>)", " ".join(re.findall(r"sack [^>,]*>?", " ".join(step.out))) + ">")
    return {at for left, right in blocks for at in range(int(left), min(int(right), int(left) + 100_000))}


def text_beyond_a_fin(line: str, theirs: Step, ours: Step, before: list[str]) -> bool:
    """Text or a FIN beyond a FIN out of order: we ignore it (RFC 9293 §3.10.7.4), Linux takes it and loses the FIN."""
    fins, ends = [], []
    for each in [*before, line]:
        match = re.match(r"in (\S+) -?\d+:(-?\d+)", each)
        if match is not None and "S" not in match[1] and "R" not in match[1]:
            (fins if "F" in match[1] else ends).append(int(match[2]))
    return len(set(fins)) > 1 or any(end > fin for fin in fins for end in ends)


def header_prediction_and_old_acks(line: str, theirs: Step, ours: Step, before: list[str]) -> bool:
    """Linux's fast path takes text in order whatever it acknowledges, if that is old; RFC 5961 §5.2 says not to."""
    match = re.match(r"in P?\. -?\d+:-?\d+ ack (-?\d+)", line)
    return match is not None and not 0 < int(match[1]) < 2**31


def window_edge(line: str, theirs: Step, ours: Step, before: list[str]) -> bool:
    """The rest of a window, less than a segment: Linux sends it where its buffers happen to be cut there."""
    return len(theirs.out) == len(ours.out) + 1 > 1 and theirs.out[:-1] == ours.out and line.startswith("app send")


def small_send_buffer(line: str, theirs: Step, ours: Step, before: list[str]) -> bool:
    """Linux's send buffer is small while the MSS is: a write is cut short."""
    return line.startswith("app send") and theirs.result.endswith(" bytes") and theirs.out == ours.out


def timestamp_echo_in_syn_received(line: str, theirs: Step, ours: Step, before: list[str]) -> bool:
    """Linux 6.15 takes no timestamp echo in SYN-RECEIVED but those of its SYN-ACKs, not even that of its own ACK."""
    answered = len(theirs.out) == 1 and theirs.out[0].startswith(". 1:1 ") and "TS" in theirs.out[0]
    late = line == "app accept" and theirs.result == "EAGAIN" and any(each.startswith("in R") for each in before)
    return late or (answered and theirs.state == "-" and line.startswith("in ") and "." in line.split()[1])


def timestamp_zero(line: str, theirs: Step, ours: Step, before: list[str]) -> bool:
    """A peer whose SYN said TSval 0: Linux sends its ACKs in SYN-RECEIVED without timestamps."""
    strip = [[re.sub(r" <TS val 0 ecr 0>", "", packet) for packet in step.out] for step in (theirs, ours)]
    return strip[0] == strip[1] and any(each.startswith("in S") and "TS val 0" in each for each in before)


def reset_in_syn_received(line: str, theirs: Step, ours: Step, before: list[str]) -> bool:
    """RFC 5961 §3.2 asks for the exact sequence number also in SYN-RECEIVED; Linux does not."""
    challenged = "R" in line.split()[1] and len(ours.out) == 1 and not theirs.out
    survived = any("R" in each.split()[1] for each in before if each.startswith("in")) and not ours.out
    return ours.state == "-" and (challenged or survived)


def fin_says_the_ack(line: str, theirs: Step, ours: Step, before: list[str]) -> bool:
    """A FIN that the window lets out: Linux acknowledges first and sends it then, ours is both."""
    return len(theirs.out) == 2 and theirs.out[1:] == ours.out and theirs.out[0].startswith(". ")


def cut_before_the_mss_grew(line: str, theirs: Step, ours: Step, before: list[str]) -> bool:
    """Segments are at most half the largest window; what Linux had cut by that before the window grew, it leaves so."""
    small = any(re.search(r"in S\S* .* win (0|1000|5000) ", each + " ") for each in before)
    runs = [re.findall(r"(\d+):(\d+) ack", " ".join(step.out)) for step in (theirs, ours)]
    whole = all(run and all(run[at][1] == run[at + 1][0] for at in range(len(run) - 1)) for run in runs)
    return small and whole and runs[0][0][0] == runs[1][0][0] and max(map(len, runs)) > 1


RULES: dict[str, Rule] = {
    rule.__name__.replace("_", " "): rule
    for rule in (
        text_on_syn_ack,
        options_of_a_crossing_syn,
        crossing_syn_ack,
        timestamp_of_an_old_ack,
        stale_sack_blocks,
        text_beyond_a_fin,
        header_prediction_and_old_acks,
        window_edge,
        cut_before_the_mss_grew,
        small_send_buffer,
        timestamp_echo_in_syn_received,
        timestamp_zero,
        reset_in_syn_received,
        fin_says_the_ack,
        bytes_of_cwnd,
    )
}


def explain(lines: list[str], number: int, theirs: Step, ours: Step) -> str:
    """The name of the rule that lets this step differ, or an empty string."""
    for name, rule in RULES.items():
        if rule(lines[number], theirs, ours, lines[:number]):
            return name
    return ""
