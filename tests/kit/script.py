"""The grammar of wire traces: packetdrill's, cut down to what reads well.

    +time  verb  …                          # comment

`+time` counts from the line before: `+0`, `+5ms`, `+1.5s`; `+190ms..210ms` accepts a range. Verbs:

    in    [@peer] FLAGS [seq[:end[/size]]] [ack N] [win N] [urg N] [ect0|ect1|ce] [<options>]    from the peer
    in    [@peer] icmp KIND [mtu N] [about N]                        an ICMP error about the stack's last segment
    out   the same words as `in`                                     exactly this segment leaves the stack
    quiet                                                            nothing leaves within that time
    app   VERB [argument …] [-> ERRNO]                               what the program does
    check EXPRESSION                                                 on state, errno, tcp_info fields, counters

FLAGS are tcpdump's letters, `S F R P . U E W`. Numbers are relative to the initial sequence number of whoever owns
them, so SYNs are 0 and data starts at 1; `win` is the field as on the wire. Options are
`<mss 1460,sackOK,TS val X ecr Y,nop,wscale 7,sack 1:2 3:4,kind 34 1 2>`; `?` stands for any number (`in`: for the byte
there when the stack last sent that kind). The stack's timestamps count
from the one on its SYN. What a line does not mention is not compared (`in`: takes a sensible default); flags other than
P always are, and so is the set of options once a `<…>` is there. Lines `in` at +0 in a row arrive as one burst, as if
read from the device before the stack had a chance to answer. `1:4001/1000` stands for four such lines in a row.
"""

import re
from dataclasses import dataclass, field, replace

from kit.clock import parse_time
from stack.units import Nanos

ANY = -1  # a `?` in the script

FLAG_BITS = {"F": 1, "S": 2, "R": 4, "P": 8, ".": 16, "U": 32, "E": 64, "W": 128}
ECN_BITS = {"noect": 0, "ect1": 1, "ect0": 2, "ce": 3}


@dataclass(slots=True, eq=False)
class SegmentSpec:
    """A segment as a script tells it; None where it says nothing. Numbers are relative."""

    peer: int = 1
    flags: int = 0
    seq: int | None = None
    end: int | None = None
    ack: int | None = None
    win: int | None = None
    urg: int | None = None
    ecn: int | None = None
    options: list[tuple[str, list[int]]] | None = None
    size: int = 0  # of the segments that this one is to be cut into

    @property
    def length(self) -> int:
        """Payload bytes."""
        return 0 if self.seq is None or self.end is None else self.end - self.seq


@dataclass(slots=True, eq=False)
class IcmpSpec:
    """An ICMP error as a script tells it."""

    peer: int
    kind: str
    mtu: int = 0
    about: int | None = None  # relative sequence number in the quoted header; None: as sent


@dataclass(slots=True, eq=False)
class Line:
    """One line of a script."""

    number: int
    text: str
    delay: Nanos = 0
    latest: Nanos = 0
    verb: str = ""
    words: list[str] = field(default_factory=list)
    rest: str = ""
    segment: SegmentSpec | None = None
    icmp: IcmpSpec | None = None


class BadScript(Exception):
    """A line that does not follow the grammar."""


_LINE = re.compile(r"\+(\S+)\s+(in|out|app|quiet|check)\b\s*(.*)")


def parse_script(script: str) -> list[Line]:
    """All lines, blanks and comments left out. Raises BadScript."""
    lines = []
    for number, text in enumerate(script.splitlines()):
        code = text.split("#")[0].strip()
        if not code:
            continue
        match = _LINE.fullmatch(code)
        if match is None:
            raise BadScript(f"line {number}: {text.strip()!r} is not `+time verb …`")
        line = Line(number, text, verb=match[2], words=match[3].split(), rest=match[3])
        early, _, late = match[1].partition("..")
        try:
            line.delay = parse_time(early)
            line.latest = parse_time(late) if late else line.delay
            if line.verb in ("in", "out"):
                _parse_packet(line)
                lines += _cut(line)
                continue
        except (ValueError, KeyError, IndexError, StopIteration) as error:
            raise BadScript(f"line {number}: {text.strip()!r}: {error!r}") from error
        lines.append(line)
    return lines


def _cut(line: Line) -> list[Line]:
    """One line for each segment that `seq:end/size` stands for; the first keeps the time, the others follow at +0."""
    spec = line.segment
    if spec is None or not spec.size or spec.seq is None or spec.end is None:
        return [line]
    parts: list[Line] = []
    for at in range(spec.seq, spec.end, spec.size):
        segment = replace(spec, seq=at, end=min(at + spec.size, spec.end), size=0)
        if parts:
            parts.append(replace(line, segment=segment, delay=0, latest=0))
        else:
            parts.append(replace(line, segment=segment))
    return parts


def _parse_packet(line: Line) -> None:
    words = line.words
    peer = 1
    if words[0].startswith("@"):
        peer = int(words[0][1:])
        words = words[1:]
    if words[0] == "icmp":
        line.icmp = IcmpSpec(peer, words[1])
        pairs = dict(zip(words[2::2], words[3::2], strict=True))
        line.icmp.mtu = int(pairs.pop("mtu", "0"))
        if "about" in pairs:
            line.icmp.about = int(pairs.pop("about"))
        if pairs:
            raise ValueError(pairs)
        return
    line.segment = _parse_segment(" ".join(words), peer)


def _parse_segment(text: str, peer: int) -> SegmentSpec:
    spec = SegmentSpec(peer)
    text, bracket, inside = text.partition("<")
    if bracket:
        spec.options = _parse_options(inside.rstrip().removesuffix(">"))
    words = iter(text.split())
    for letter in next(words):
        spec.flags |= FLAG_BITS[letter]
    for word in words:
        if word in ECN_BITS:
            spec.ecn = ECN_BITS[word]
        elif word in ("ack", "win", "urg"):
            setattr(spec, word, _number(next(words)))
        else:
            whole, _, size = word.partition("/")
            spec.size = int(size) if size else 0
            seq, _, end = whole.partition(":")
            spec.seq = int(seq)
            spec.end = int(end) if end else spec.seq
    return spec


def _number(word: str) -> int:
    return ANY if word == "?" else int(word)


def _parse_options(text: str) -> list[tuple[str, list[int]]]:
    options = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, *words = item.split()
        if name == "TS":
            if words[0::2] != ["val", "ecr"]:
                raise ValueError(item)
            words = words[1::2]
        elif name == "sack":
            words = [edge for block in words for edge in block.split(":")]
        elif name == "kind":
            name, words = f"kind {words[0]}", words[1:]
        elif name not in ("mss", "wscale", "sackOK", "nop", "eol"):
            raise ValueError(item)
        options.append((name, [_number(word) for word in words]))
    return options
