"""A bad network in words: `delay 20ms 5ms rate 50mbit limit 1000 loss 1% reorder 5% gap 3 seed 7 egress`.

The words and their meaning are netem's (tc-netem(8)), with these differences: `limit` bounds only the packets that wait
for the rate, not those in flight, so that a long fat link needs no arithmetic; numbers need their unit; `loss pattern`
and `mark` are ours. What they do to packets is in nuse/impair_path.py.
"""

import secrets
from dataclasses import dataclass

SEC = 1_000_000_000

TIME_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": SEC}
RATE_UNITS = {
    "bit": 1,
    "kbit": 10**3,
    "mbit": 10**6,
    "gbit": 10**9,
    "bps": 8,
    "kbps": 8 * 10**3,
    "mbps": 8 * 10**6,
    "gbps": 8 * 10**9,
}


class ImpairError(ValueError):
    """An impairment that cannot be understood; one line says which word."""


@dataclass(slots=True, frozen=True)
class ImpairSpec:
    """What `impair …` says. Probabilities are 0..1; times ns; rate bit/s."""

    delay: int = 0
    jitter: int = 0
    rate: int = 0
    limit: int = 1000
    loss: float = 0.0
    gemodel: tuple[float, float, float, float] | None = None  # p, r, loss when bad, loss when good
    pattern: str = ""  # repeats; "1" is a lost packet
    duplicate: float = 0.0
    reorder: float = 0.0
    gap: int = 0
    corrupt: float = 0.0
    mark: float = 0.0
    mark_over: int = 0
    ecn: bool = False
    seed: int = 0
    egress: bool = True
    ingress: bool = True

    @property
    def per_packet(self) -> bool:
        """True if wire packets differ in fate, so that super-segments must be cut first."""
        return any(getattr(self, name) for name in _PER_PACKET)

    def show(self) -> str:
        """The words that parse to this."""
        words = []
        if self.delay:
            words.append(f"delay {_show_time(self.delay)}" + (f" {_show_time(self.jitter)}" if self.jitter else ""))
        if self.rate:
            words.append(f"rate {_show_rate(self.rate)} limit {self.limit}")
        if self.loss:
            words.append(f"loss {_show_share(self.loss)}")
        if self.gemodel:
            words.append("loss gemodel " + " ".join(map(_show_share, self.gemodel)))
        if self.pattern:
            words.append(f"loss pattern {self.pattern}")
        words += [f"{name} {_show_share(getattr(self, name))}" for name in ("duplicate",) if getattr(self, name)]
        if self.reorder:
            words.append(f"reorder {_show_share(self.reorder)}" + (f" gap {self.gap}" if self.gap else ""))
        words += [f"{name} {_show_share(getattr(self, name))}" for name in ("corrupt", "mark") if getattr(self, name)]
        if self.mark_over:
            words.append(f"mark over {self.mark_over}")
        if self.ecn:
            words.append("ecn")
        words.append(f"seed {self.seed}")
        if self.egress != self.ingress:
            words.append("egress" if self.egress else "ingress")
        return " ".join(words)


_PER_PACKET = ("jitter", "rate", "loss", "gemodel", "pattern", "duplicate", "reorder", "corrupt", "mark", "mark_over")


def _show_time(ns: int) -> str:
    for unit in ("s", "ms", "us"):
        if not ns % TIME_UNITS[unit]:
            return f"{ns // TIME_UNITS[unit]}{unit}"
    return f"{ns}ns"


def _show_rate(bits: int) -> str:
    for unit in ("gbit", "mbit", "kbit"):
        if not bits % RATE_UNITS[unit]:
            return f"{bits // RATE_UNITS[unit]}{unit}"
    return f"{bits}bit"


def _show_share(share: float) -> str:
    return f"{share * 100:.10g}%"


class _Words:
    """A cursor over the words of a spec."""

    def __init__(self, text: str) -> None:
        self.left = text.split()[::-1]
        self.seen: set[str] = set()

    def take(self, after: str) -> str:
        if not self.left:
            raise ImpairError(f"impair: {after!r} needs a value")
        return self.left.pop()

    def next_is_number(self) -> bool:
        return bool(self.left) and self.left[-1][0].isdigit()

    def time(self, after: str) -> int:
        return int(self._scaled(after, TIME_UNITS, "a time such as 20ms"))

    def rate(self, after: str) -> int:
        bits = int(self._scaled(after, RATE_UNITS, "a rate such as 50mbit"))
        if bits <= 0:
            raise ImpairError("impair: a rate of 0 would never send anything; use loss 100%")
        return bits

    def count(self, after: str, least: int = 1) -> int:
        word = self.take(after)
        if not word.isdigit() or int(word) < least:
            raise ImpairError(f"impair: {after} takes a number from {least}, not {word!r}")
        return int(word)

    def share(self, after: str) -> float:
        word = self.take(after)
        try:
            percent = float(word.removesuffix("%"))
        except ValueError:
            percent = -1.0
        if not word.endswith("%") or not 0 <= percent <= 100:
            raise ImpairError(f"impair: {after} takes a share such as 1%, not {word!r}")
        return percent / 100

    def _scaled(self, after: str, units: dict[str, int], wanted: str) -> float:
        word = self.take(after)
        digits = word.rstrip("abcdefghijklmnopqrstuvwxyz")
        try:
            return float(digits) * units[word[len(digits) :]]
        except (ValueError, KeyError):
            raise ImpairError(f"impair: {after} takes {wanted}, not {word!r}") from None


def parse_impair(text: str) -> ImpairSpec:
    """Read `delay 20ms 5ms rate 50mbit limit 1000 loss 1% … seed 7 egress`. Raises ImpairError.

    Both directions unless `egress` (stack → peer) or `ingress` is among the words. Without a seed one is drawn, and
    `show()` tells it, so that any run can be repeated.
    """
    words = _Words(text)
    if not words.left:
        raise ImpairError("impair: nothing said; try 'delay 20ms loss 1%', or 'clear'")
    found: dict[str, object] = {}
    while words.left:
        word = words.take("impair")
        if word in words.seen and word not in ("loss", "mark"):
            raise ImpairError(f"impair: {word!r} is said twice")
        words.seen.add(word)
        _parse_word(word, words, found)
    if "egress" in found and "ingress" in found:
        raise ImpairError("impair: say egress or ingress; both is the default")
    if "egress" in found or "ingress" in found:
        found = {"egress": False, "ingress": False} | found
    found.setdefault("seed", secrets.randbelow(1 << 31))
    spec = ImpairSpec(**found)  # type: ignore[arg-type]
    if spec.reorder and not spec.delay:
        raise ImpairError("impair: reorder needs a delay: the reordered packets are those that skip it")
    if spec.jitter > spec.delay:
        raise ImpairError("impair: jitter cannot exceed the delay")
    if "limit" in found and not spec.rate:
        raise ImpairError("impair: limit is that of the rate's queue; give a rate")
    if spec.mark_over and not spec.rate:
        raise ImpairError("impair: 'mark over' looks at the rate's queue; give a rate")
    return spec


def _parse_word(word: str, words: _Words, found: dict[str, object]) -> None:
    if word == "delay":
        found["delay"] = words.time(word)
        if words.next_is_number():
            found["jitter"] = words.time("jitter")
    elif word == "rate":
        found["rate"] = words.rate(word)
    elif word == "loss":
        _parse_loss(words, found)
    elif word in ("duplicate", "corrupt"):
        found[word] = words.share(word)
    elif word == "reorder":
        found["reorder"] = words.share(word)
        if words.left and words.left[-1] == "gap":
            found["gap"] = words.count(words.take(word))
    elif word == "mark":
        if words.left and words.left[-1] == "over":
            found["mark_over"] = words.count(words.take(word))
        else:
            found["mark"] = words.share(word)
    elif word == "limit":
        found["limit"] = words.count(word)
    elif word == "seed":
        found["seed"] = words.count(word, 0)
    elif word == "ecn" or word in DIRECTIONS:
        found[word] = True
    else:
        raise ImpairError(f"impair: unknown word {word!r}; known are {' '.join(KEYWORDS + DIRECTIONS)}")


KEYWORDS = ("delay", "rate", "limit", "loss", "duplicate", "reorder", "corrupt", "mark", "ecn", "seed")
DIRECTIONS = ("egress", "ingress")


def _parse_loss(words: _Words, found: dict[str, object]) -> None:
    kind = words.left[-1] if words.left else ""
    if kind == "gemodel":
        words.take("loss")
        shares = [words.share("loss gemodel")]
        while len(shares) < 4 and words.next_is_number():
            shares.append(words.share("loss gemodel"))
        defaults = [0.0, 1.0 - shares[0], 1.0, 0.0]
        found["gemodel"] = tuple(shares + defaults[len(shares) :])
    elif kind == "pattern":
        words.take("loss")
        pattern = words.take("loss pattern")
        if not pattern or pattern.strip("01"):
            raise ImpairError(f"impair: loss pattern takes zeros and ones (1 is lost), not {pattern!r}")
        found["pattern"] = pattern
    else:
        if kind == "random":
            words.take("loss")
        found["loss"] = words.share("loss")
