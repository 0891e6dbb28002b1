"""Random scripts for the differential test: what a peer and a program do to one connection, from a seed.

A script is a list of lines in the grammar of wire traces (kit/script.py) without times, so a difference that was found
can be pasted into a trace test. All numbers are fixed when the script is made: leaving lines out changes nothing about
the others, which is what makes shrinking easy. One more verb: `bad` is `in` with a wrong TCP checksum.
"""

from dataclasses import dataclass, field
from random import Random

SIZES = (1, 1, 10, 100, 100, 536, 1000, 1000, 1400)
SENDS = (1, 10, 100, 500, 1000, 1500, 3000, 5000)
OLD_TS, FUTURE_TS = 5_000, 40_000_000  # our clock stands near 1,000,000


@dataclass(slots=True, eq=False)
class Author:
    """Writes one script, keeping in mind what a receiver that follows the rules has got so far."""

    random: Random
    role: str = "server"
    lines: list[str] = field(default_factory=list)
    nxt: int = 1  # the peer's next sequence number
    high: int = 1  # the furthest it has sent
    written: int = 0  # by the program
    fin: bool = False  # the program ended its direction
    ts: bool = False
    sack: bool = False
    closed: bool = False

    def pick(self, *choices: object) -> object:
        return self.random.choice(choices)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    @property
    def acked(self) -> int:
        """The acknowledgment of everything that the program can have sent."""
        return 1 + self.written + self.fin

    # --- pieces of a segment

    def ack(self) -> int:
        kind = self.random.random()
        if kind < 0.7:
            return self.acked
        if kind < 0.85:
            return self.random.randint(1, self.acked)
        return int(self.pick(0, 1, self.acked + 1, self.acked + 1000, -1, -40_000, -70_000, 2**31, 2**31 + 7))

    def win(self) -> int:
        return int(self.pick(65535, 65535, 65535, 20000, 5000, 1000, 100, 1, 0))

    def options(self) -> str:
        kind = self.random.random()
        if kind < 0.8:
            return ""
        if kind < 0.85:
            return " <>"
        if kind < 0.93 or not self.sack:
            val = self.pick("?", OLD_TS, FUTURE_TS, 0)
            return f" <nop,nop,TS val {val} ecr {self.pick('?', '?', 0, 77)}>"
        blocks = []
        for _ in range(self.random.randint(1, 3)):
            left = self.random.randint(-50, self.acked + 50)
            blocks.append(f"{left}:{left + int(self.pick(1, 100, 500, 1000, 1460, -10))}")
        ts = ",nop,nop,TS val ? ecr ?" if self.ts else ""
        return f" <nop,nop,sack {' '.join(blocks)}{ts}>"

    def extras(self, flags: str) -> str:
        text = f" win {self.win()}"
        if "U" in flags:
            text += f" urg {self.pick(0, 1, 5, 100, 2000)}"
        if self.chance(0.04):
            text += f" {self.pick('ect0', 'ect1', 'ce')}"
        return text + self.options()

    def segment(self, flags: str, seq: int, size: int = 0, ack: int | None = None) -> None:
        ack = self.ack() if ack is None else ack
        acks = f" ack {ack}" if "." in flags else ""
        verb = "bad" if self.chance(0.01) else "in"
        self.lines.append(f"{verb} {flags or 'none'} {seq}:{seq + size}{acks}{self.extras(flags)}".replace("none", "P"))
        if "." in flags and verb == "in" and not set(flags) & set("SR"):
            self.high = max(self.high, seq + size + ("F" in flags))
            if seq <= self.nxt < seq + size + ("F" in flags):
                self.nxt = self.high if seq + size == self.high else seq + size + ("F" in flags)

    def place(self) -> int:
        """A sequence number of some interest."""
        kind = self.random.random()
        if kind < 0.5:
            return self.nxt
        if kind < 0.7:
            return self.nxt + int(self.pick(1, 100, 500, 1000, 2000, 5000))
        if kind < 0.9:
            return self.nxt - int(self.pick(1, 1, 50, 100, 500, 1000, 3000))
        return int(self.pick(0, 1, self.high, self.nxt + 300_000, self.nxt + 2**30, self.nxt - 100_000, 2**31 + 3))

    # --- lines

    def syn_options(self) -> str:
        names = []
        if self.chance(0.85):
            names.append(f"mss {self.pick(1460, 1460, 1000, 536, 300, 88, 9000)}")
        if self.chance(0.6):
            names.append("sackOK")
            self.sack = True
        if self.chance(0.5):
            names.append("TS val ? ecr ?")
            self.ts = True
        if self.chance(0.6):
            names += ["nop", f"wscale {self.pick(0, 1, 2, 7, 14, 15)}"]
        if self.chance(0.1):
            self.random.shuffle(names)
        return f"<{','.join(names)}>"

    def handshake(self) -> None:
        win = self.pick(65535, 65535, 20000, 1000, 0)
        ecn = "EW" if self.chance(0.15) else ""
        if self.role == "server":
            self.lines.append(f"in S{ecn} 0:0 win {win} {self.syn_options()}")
            if self.chance(0.1):
                self.noise()
            if self.chance(0.1):
                self.segment(".", 1, int(self.pick(0, 100)))
            self.lines.append(f"in . 1:1 ack 1 win {win}")
            if self.chance(0.9):
                self.lines.append("app accept")
        else:
            self.lines.append("app connect")
            if self.chance(0.1):
                self.noise()
            if self.chance(0.1):
                self.lines.append(f"in S 0:0 win {win} {self.syn_options()}")
            answer = f"S.{'E' if ecn else ''}"
            size = int(self.pick(0, 0, 0, 0, 0, 100))
            self.lines.append(f"in {answer} 0:{size} ack 1 win {win} {self.syn_options()}")
            self.nxt = self.high = 1 + size

    def noise(self) -> None:
        """A segment without sense."""
        letters = "".join(c for c in "SFRPUEW." if self.chance(0.3))
        self.segment(letters, self.place(), int(self.pick(0, 0, 1, 100)))

    def peer(self) -> None:
        kind = self.random.random()
        push = "P." if self.chance(0.3) else "."
        if kind < 0.25:
            self.segment(push, self.nxt, self.random.choice(SIZES))
        elif kind < 0.45:
            self.segment(push, self.place(), self.random.choice(SIZES))
        elif kind < 0.65:
            self.segment(".", self.nxt if self.chance(0.8) else self.place())
        elif kind < 0.75:
            self.segment("F.", self.nxt if self.chance(0.6) else self.place(), int(self.pick(0, 0, 100)))
        elif kind < 0.79:
            self.segment(str(self.pick("R", "R.", "R.")), self.place(), int(self.pick(0, 0, 0, 5)))
        elif kind < 0.83:
            self.segment(str(self.pick("S", "S.", "S", "SF", "SR")), self.place(), int(self.pick(0, 0, 10)))
        elif kind < 0.86:
            self.segment("U.", self.place(), self.random.choice(SIZES))
        elif kind < 0.89:
            self.segment(str(self.pick("E.", "W.", "EW.")), self.nxt, int(self.pick(0, 100)))
        elif kind < 0.92:
            self.noise()
        else:
            before = [line for line in self.lines if line.startswith("in")]
            self.lines.append(self.random.choice(before) if before else "in . 1:1 ack 1")

    def program(self) -> None:
        kind = self.random.random()
        if kind < 0.35:
            size = self.random.choice(SENDS)
            self.lines.append(f"app send {size}")
            if not self.fin:
                self.written += size
        elif kind < 0.65:
            self.lines.append(f"app recv {self.pick(1, 50, 1000, 100000, 100000)}")
        elif kind < 0.72:
            self.lines.append("app accept")
        elif kind < 0.80:
            name = self.pick("nodelay 1", "nodelay 0", "cork 1", "cork 0", "linger 0", "quickack 1", "quickack 0")
            self.lines.append(f"app setopt {name}")
        elif kind < 0.90:
            how = str(self.pick("wr", "wr", "rd", "rdwr"))
            self.lines.append(f"app shutdown {how}")
            self.fin |= "wr" in how
        else:
            self.lines.append("app close")
            self.fin = True

    def write(self) -> list[str]:
        if self.chance(0.15):
            self.noise()
        if self.chance(0.93):
            self.handshake()
        for _ in range(self.random.randint(3, 12)):
            if self.chance(0.35):
                self.program()
            else:
                self.peer()
        # What is the connection's state? Its answer to a segment just below the window tells.
        self.lines.append(f"in . {self.nxt - 1}:{self.nxt - 1} ack {self.acked} win 65535")
        self.lines.append("app recv 100000")
        self.lines.append(f"in . {self.nxt}:{self.nxt} ack {self.acked} win 65535")
        return self.lines


def random_script(seed: str) -> list[str]:
    """The script of a seed."""
    random = Random(seed)
    return Author(random, role=random.choice(("server", "server", "client"))).write()
