"""What paths turned out to carry: the path MTU cache, RFC 1191 and RFC 8201.

Bounded, the oldest lesson goes first; each is forgotten after ten minutes (RFC 1191 §6.3), so that a path that got
wider is found again. Whether a message may teach us anything is its receiver's decision: ip.icmp asks only after the
quoted packet was recognised as ours.
"""

from stack.errors import InvariantBroken
from stack.mib import Mib
from stack.units import SEC, Nanos
from stack.wire.ipv6 import IPV6_MIN_MTU

EXPIRES = 600 * SEC
MIN_PMTU4 = 552  # Linux's ip_rt_min_pmtu: below it we leave DF off and let routers cut
LIMIT = 4096
PLATEAUS = (32000, 17914, 8166, 4352, 2002, 1492, 1006, MIN_PMTU4)  # RFC 1191 §7.1


def plateau(length: int) -> int:
    """The MTU to try when a router that predates RFC 1191 dropped `length` bytes and named no MTU."""
    return next((size for size in PLATEAUS if size < length), MIN_PMTU4)


class PmtuCache:
    """Destination → (MTU, expiry), in order of expiry."""

    def __init__(self, mib: Mib) -> None:
        self._paths: dict[bytes, tuple[int, Nanos]] = {}
        self._mib = mib
        self.version = 0  # grows with every change

    def __len__(self) -> int:
        return len(self._paths)

    def get(self, dst: bytes, link_mtu: int) -> int:
        """MTU of the path to `dst` that leaves over a link of `link_mtu`."""
        known = self._paths.get(dst)
        return link_mtu if known is None or known[0] > link_mtu else known[0]

    def learn(self, dst: bytes, mtu: int, current: int, now: Nanos) -> int | None:
        """A router says that `mtu` is the most; the MTU now in force, None if it is not less than `current`.

        Never below 552 or, for IPv6, 1280 (RFC 8201 §4): a smaller value can only come from a liar or a museum.
        """
        mtu = max(mtu, MIN_PMTU4 if len(dst) == 4 else IPV6_MIN_MTU)
        if mtu >= current:
            return None
        self._paths.pop(dst, None)
        if len(self._paths) >= LIMIT:
            del self._paths[next(iter(self._paths))]
            self._mib.NusePmtuEvicted += 1
        self._paths[dst] = (mtu, now + EXPIRES)
        self.version += 1
        return mtu

    def poll_timeout(self) -> Nanos | None:
        """When the oldest entry expires."""
        for _mtu, expires in self._paths.values():
            return expires
        return None

    def handle_timeout(self, now: Nanos) -> set[bytes]:
        """Forget what is too old; the destinations whose path may carry more again."""
        forgotten: set[bytes] = set()
        while self._paths:
            dst, (_mtu, expires) = next(iter(self._paths.items()))
            if expires > now:
                break
            del self._paths[dst]
            forgotten.add(dst)
            self.version += 1
        return forgotten

    def items(self) -> list[tuple[bytes, int, Nanos]]:
        """(destination, MTU, expiry) for the curious."""
        return [(dst, mtu, expires) for dst, (mtu, expires) in self._paths.items()]

    def check(self) -> None:
        """Bounded, ordered, and no value that we promised never to hold."""
        if len(self._paths) > LIMIT:
            raise InvariantBroken(f"{len(self._paths)} paths")
        times = [expires for _mtu, expires in self._paths.values()]
        if times != sorted(times):
            raise InvariantBroken("paths out of order")
        for dst, (mtu, _expires) in self._paths.items():
            if mtu < (MIN_PMTU4 if len(dst) == 4 else IPV6_MIN_MTU):
                raise InvariantBroken(f"path MTU {mtu}")
