"""Telling routers what we want to hear: the host side of IGMPv3 (RFC 3376 §5) and MLDv2 (RFC 3810 §6).

A change of a link's filter is reported at once and [Robustness Variable] − 1 more times, each at a random moment within
a second; later changes join what is still to be repeated. A query is answered at a random moment within the time it
allows: a general one for all groups, others for their group. A querier of an older version is spoken to in its language
for as long as it may be there (RFC 3376 §7.2.1, RFC 3810 §8.2.1).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from stack.checksum import ones_sum
from stack.errors import Malformed, StackError
from stack.ip.inbound import Inbound
from stack.ip.link import Link
from stack.units import MSEC, SEC, Nanos, sooner
from stack.wire import membership as wire
from stack.wire.icmp import MLD_DONE, MLD_QUERY, MLD_REPORT
from stack.wire.membership import Query, Record
from stack.wire.vnet import VNET_NONE

if TYPE_CHECKING:
    from stack.host import Stack

UNSOLICITED = SEC  # RFC 3376 §8.11, RFC 3810 §9.11
UNSOLICITED_OLD = 10 * SEC  # RFC 2236 §8.10, RFC 2710 §7.10
QUERY_INTERVAL = 125 * SEC
RESPONSE_INTERVAL = 10 * SEC
SOURCES_MAX = 256  # sources of one query that we remember


class GroupLike(Protocol):
    """What ip.multicast knows of a group on a link."""

    link: Link
    group: bytes
    include: bool
    sources: frozenset[bytes]


@dataclass(slots=True, eq=False)
class Pending:
    """What is still to be said about one group."""

    group: GroupLike
    mode_left: int = 0  # filter mode changes to send
    sources_left: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # source → record type, times to send
    answer_at: Nanos | None = None  # a query for this group is to be answered
    asked: set[bytes] = field(default_factory=set)  # … for these sources; empty: for the group
    old_left: int = 0  # reports to send in the language of an older querier
    old_at: Nanos | None = None
    reported: bool = False  # RFC 2236 §3: we sent the last report, so it is us who send the leave

    def idle(self) -> bool:
        """True if there is nothing left to say."""
        return not (self.mode_left or self.sources_left or self.old_left) and self.answer_at is None


@dataclass(slots=True, eq=False)
class Talk:
    """The conversation with the querier of one link."""

    link: Link
    robustness: int
    change_at: Nanos | None = None  # state changes are to be repeated
    answer_at: Nanos | None = None  # a general query is to be answered
    version1_until: Nanos = 0  # IGMPv1
    version2_until: Nanos = 0  # IGMPv2, MLDv1
    interval: Nanos = QUERY_INTERVAL


class Reporter:
    """All links' conversations in one of the two protocols."""

    def __init__(self, stack: "Stack", groups: Mapping[tuple[bytes, int], GroupLike], *, v6: bool) -> None:
        self._stack = stack
        self._groups = groups
        self._v6 = v6
        self._talks: dict[Link, Talk] = {}
        self._pending: dict[tuple[bytes, int], Pending] = {}

    def is_pending(self, group: GroupLike) -> bool:
        """True if something about this group is still to be sent."""
        return (group.group, group.link.index) in self._pending

    def forget_link(self, link: Link) -> None:
        """The link is gone."""
        self._talks.pop(link, None)
        for key in [key for key in self._pending if key[1] == link.index]:
            del self._pending[key]

    def _talk(self, link: Link) -> Talk:
        talk = self._talks.get(link)
        if talk is None:
            talk = self._talks[link] = Talk(link, self._robustness())
        return talk

    def _robustness(self) -> int:
        return self._stack.sysctl.mld_qrv if self._v6 else self._stack.sysctl.igmp_qrv

    def _pend(self, group: GroupLike) -> Pending:
        key = (group.group, group.link.index)
        pending = self._pending.get(key)
        if pending is None:
            pending = self._pending[key] = Pending(group)
        return pending

    def _random(self, span: Nanos) -> Nanos:
        """Somewhere in the next `span`."""
        return 1 + self._stack.entropy.below(max(span // 1000, 1)) * 1000

    def _old(self, talk: Talk, now: Nanos) -> int:
        """The version of an older querier that is still about, 0 for none."""
        return 1 if now < talk.version1_until else 2 if now < talk.version2_until else 0

    # --- our own changes

    def on_change(self, group: GroupLike, old_include: bool, old_sources: frozenset[bytes], now: Nanos) -> bool:
        """A link's filter changed: report it (RFC 3376 §5.1). False if there is nothing left to be said about it."""
        old, new = old_sources, group.sources
        if old_include is group.include and old == new:
            return self.is_pending(group)
        talk = self._talk(group.link)
        pending = self._pend(group)
        pending.group = group
        if self._old(talk, now):
            self._change_old(talk, pending, was=bool(old) or not old_include, now=now)
        elif old_include is not group.include:
            pending.mode_left = talk.robustness
            pending.sources_left.clear()
        else:
            heard, unheard = (new - old, old - new) if group.include else (old - new, new - old)
            for sources, kind in ((heard, wire.ALLOW), (unheard, wire.BLOCK)):
                for source in sources:
                    pending.sources_left[source] = (kind, talk.robustness)
        if not self._old(talk, now):
            self._send_changes(talk, now)
        return self._settle(pending)

    def _settle(self, pending: Pending) -> bool:
        """Forget what has been said; True if something is left."""
        if not pending.idle():
            return True
        if pending.reported and (pending.group.sources or not pending.group.include):
            return True
        self._pending.pop((pending.group.group, pending.group.link.index), None)
        return False

    def _send_changes(self, talk: Talk, now: Nanos) -> None:
        records = []
        for pending in [each for each in self._pending.values() if each.group.link is talk.link]:
            records += _change_records(pending)
        self._report(talk.link, records)
        more = any(
            each.mode_left or each.sources_left for each in self._pending.values() if each.group.link is talk.link
        )
        talk.change_at = now + self._random(UNSOLICITED) if more else None

    # --- queries

    def receive(self, inb: Inbound, now: Nanos) -> None:
        """A message of this protocol. Raises Malformed."""
        data = memoryview(inb.pkt)[inb.l4 : inb.end]
        if self._v6:
            kind = data[0]
            if kind == MLD_QUERY and _mld_valid(inb):
                self._on_query(inb.link, wire.parse_query6(data), now)
            elif kind == MLD_REPORT and len(data) >= 24:
                self._on_report(inb.link, bytes(data[8:24]))
            return
        if len(data) < 8 or ones_sum(data):
            raise Malformed("IGMP checksum or length")
        if data[0] == wire.QUERY:
            self._on_query(inb.link, wire.parse_query4(data), now)
        elif data[0] in (wire.REPORT1, wire.REPORT2):
            self._on_report(inb.link, bytes(data[4:8]))

    def _on_query(self, link: Link, query: Query, now: Nanos) -> None:
        """RFC 3376 §5.2: when to answer what."""
        if link.loopback:
            return
        talk = self._talk(link)
        newest = 2 if self._v6 else 3
        if query.version == newest:
            talk.robustness = query.robustness or self._robustness()
            talk.interval = query.interval_s * SEC or QUERY_INTERVAL
        else:
            until = now + talk.robustness * talk.interval + RESPONSE_INTERVAL
            if query.version == 1 and not self._v6:
                talk.version1_until = until
            else:
                talk.version2_until = until
            talk.change_at = talk.answer_at = None
            for pending in self._of(link):
                pending.mode_left = 0
                pending.sources_left.clear()
        at = now + self._random(query.delay_ms * MSEC)
        if self._old(talk, now):
            self._answer_old(link, query, at)
            return
        if talk.answer_at is not None and talk.answer_at <= at:
            return
        if not query.group:
            talk.answer_at = at
            return
        known = self._groups.get((query.group, link.index))
        if known is None or not (known.sources or not known.include):
            return
        pending = self._pend(known)
        fresh = pending.answer_at is None
        pending.answer_at = at if pending.answer_at is None else min(at, pending.answer_at)
        if not query.sources or (not fresh and not pending.asked):
            pending.asked.clear()
        else:
            pending.asked.update(query.sources[: SOURCES_MAX - len(pending.asked)])

    def _of(self, link: Link) -> list[Pending]:
        return [each for each in self._pending.values() if each.group.link is link]

    def _joined(self, link: Link) -> Iterable[GroupLike]:
        """Groups of this family that are worth reporting."""
        size = 16 if self._v6 else 4
        for (group, index), known in self._groups.items():
            if index != link.index or len(group) != size or group in (wire.ALL_HOSTS4, wire.ALL_NODES6):
                continue
            if (known.sources or not known.include) and (size == 4 or group[1] & 0xF >= 2):
                yield known

    def _answer(self, pending: Pending) -> list[Record]:
        """The current state of one group, as far as it was asked for (RFC 3376 §5.2).

        Asked for sources of which an EXCLUDE filter refuses not all, Linux gives the whole filter, not IS_IN (B − A).
        """
        group, asked = pending.group, pending.asked
        if not asked:
            return [_state_record(group)]
        if not group.include:
            return [] if asked <= group.sources else [_state_record(group)]
        wanted = sorted(asked & group.sources)
        return [Record(wire.IS_IN, group.group, wanted)] if wanted else []

    # --- older queriers

    def _change_old(self, talk: Talk, pending: Pending, *, was: bool, now: Nanos) -> None:
        """RFC 2236 §3, RFC 2710 §4: a report for a new group, repeated once; a leave from who reported last."""
        group = pending.group
        wanted = bool(group.sources) or not group.include
        if wanted and not was:
            pending.old_left = 2
            self._report_old(talk, pending, now)
        elif was and not wanted:
            pending.old_left, pending.old_at = 0, None
            if pending.reported and not (not self._v6 and self._old(talk, now) == 1):
                pending.reported = False
                self._send_old(talk, group.group, leave=True)
            pending.reported = False

    def _answer_old(self, link: Link, query: Query, at: Nanos) -> None:
        for known in self._joined(link):
            if query.group in (b"", known.group):
                pending = self._pend(known)
                if pending.old_at is None or at < pending.old_at:
                    pending.old_left, pending.old_at = max(pending.old_left, 1), at

    def _on_report(self, link: Link, group: bytes) -> None:
        """Somebody else reported the group, so we need not (older versions only)."""
        pending = self._pending.get((group, link.index))
        if pending is not None and pending.old_left:
            pending.old_left, pending.old_at, pending.reported = 0, None, False
            self._settle(pending)

    def _report_old(self, talk: Talk, pending: Pending, now: Nanos) -> None:
        pending.old_left -= 1
        pending.old_at = now + self._random(UNSOLICITED_OLD) if pending.old_left else None
        pending.reported = True
        self._send_old(talk, pending.group.group, leave=False)

    def _send_old(self, talk: Talk, group: bytes, *, leave: bool) -> None:
        if self._v6:
            message = wire.emit_mld1(MLD_DONE if leave else MLD_REPORT, group)
            self._send(talk.link, wire.ALL_ROUTERS6 if leave else group, message)
        else:
            kind = wire.LEAVE if leave else wire.REPORT1 if self._old(talk, self._stack.now) == 1 else wire.REPORT2
            self._send(talk.link, wire.ALL_ROUTERS4 if leave else group, wire.igmp(kind, group))

    # --- time

    def poll_timeout(self) -> Nanos | None:
        """When something is due. Asked after every batch of packets, so no list is made for a silent link."""
        earliest = None
        for talk in self._talks.values():
            earliest = sooner(earliest, sooner(talk.change_at, talk.answer_at))
        for pending in self._pending.values():
            earliest = sooner(earliest, sooner(pending.answer_at, pending.old_at))
        return earliest

    def handle_timeout(self, now: Nanos) -> list[tuple[bytes, int]]:
        """Send what is due; the groups about which nothing is left to say."""
        for talk in list(self._talks.values()):
            if talk.answer_at is not None and talk.answer_at <= now:
                talk.answer_at = None
                self._report(talk.link, [_state_record(known) for known in self._joined(talk.link)])
            if talk.change_at is not None and talk.change_at <= now:
                self._send_changes(talk, now)
        done = []
        for pending in list(self._pending.values()):
            if pending.answer_at is not None and pending.answer_at <= now:
                pending.answer_at = None
                self._report(pending.group.link, self._answer(pending))
                pending.asked.clear()
            if pending.old_at is not None and pending.old_at <= now:
                self._report_old(self._talk(pending.group.link), pending, now)
            if not self._settle(pending):
                done.append((pending.group.group, pending.group.link.index))
        return done

    # --- out

    def _report(self, link: Link, records: list[Record]) -> None:
        """Send records, in as many reports as the MTU makes it (RFC 3376 §4.2.16)."""
        room = link.mtu - (40 + 8 + 8 if self._v6 else 24 + 8)
        batch: list[Record] = []
        size = 0
        for record in _fitted(records, room):
            length = 4 + len(record.group) * (1 + len(record.sources))
            if batch and size + length > room:
                self._send(link, *self._report_of(batch))
                batch, size = [], 0
            batch.append(record)
            size += length
        if batch:
            self._send(link, *self._report_of(batch))

    def _report_of(self, records: list[Record]) -> tuple[bytes, bytes]:
        if self._v6:
            return wire.REPORTS6, wire.emit_report6(records)
        return wire.REPORTS4, wire.emit_report4(records)

    def _send(self, link: Link, dst: bytes, message: bytes) -> None:
        stack = self._stack
        if self._v6:  # RFC 3810 §5.2.13: from a link-local address or from ::
            mine = [addr for addr, _ in link.addrs if len(addr) == 16 and addr[0] == 0xFE and addr[1] & 0xC0 == 0x80]
            packet = wire.packet6(mine[0] if mine else bytes(16), dst, message)
            stack.mib.Ip6OutRequests += 1
            stack.mib.Icmp6OutMsgs += 1
            stack.mib.Icmp6OutMLDv2Reports += dst == wire.REPORTS6
        else:
            try:
                src = stack.routes.source(link, dst)
            except StackError:
                src = bytes(4)  # RFC 3376 §4.2.13
            packet = wire.packet4(src, dst, message)
            stack.mib.IpOutRequests += 1
        stack.outbox.append((link, (VNET_NONE + packet,)))


def _state_record(group: GroupLike) -> Record:
    return Record(wire.IS_IN if group.include else wire.IS_EX, group.group, sorted(group.sources))


def _change_records(pending: Pending) -> list[Record]:
    """RFC 3376 §5.1: the mode change carries the whole filter, so source changes wait until it has been said."""
    group = pending.group
    if pending.mode_left:
        pending.mode_left -= 1
        return [Record(wire.TO_IN if group.include else wire.TO_EX, group.group, sorted(group.sources))]
    records = []
    for kind in (wire.ALLOW, wire.BLOCK):
        sources = sorted(source for source, (of, _left) in pending.sources_left.items() if of == kind)
        if sources:
            records.append(Record(kind, group.group, sources))
    left = {source: (kind, n - 1) for source, (kind, n) in pending.sources_left.items() if n > 1}
    pending.sources_left = left
    return records


def _fitted(records: list[Record], room: int) -> list[Record]:
    """Records that fit one report each: a list of sources is cut in pieces, that of an EXCLUDE one is truncated."""
    fitted = []
    for record in records:
        most = (room - 4) // len(record.group) - 1
        if len(record.sources) <= most:
            fitted.append(record)
        elif record.kind in (wire.IS_EX, wire.TO_EX):
            fitted.append(Record(record.kind, record.group, record.sources[:most]))
        else:
            fitted += [
                Record(record.kind, record.group, record.sources[i : i + most])
                for i in range(0, len(record.sources), most)
            ]
    return fitted


def _mld_valid(inb: Inbound) -> bool:
    """RFC 3810 §6.2: from a link-local address, with hop limit 1 and the router alert, or it crossed a router."""
    local = inb.src[0] == 0xFE and inb.src[1] & 0xC0 == 0x80
    alert = inb.pkt[inb.l3 + 6] == 0 and b"\x05\x02\0\0" in inb.pkt[inb.l3 + 42 : inb.l4]
    return local and inb.ttl == 1 and alert
