"""Groups: who joined which on what link, from whom they want to hear, and so what the link must let in.

RFC 3376 §3 and RFC 3810 §4, which are one model: each endpoint has a filter per (group, link), INCLUDE or EXCLUDE some
sources; the link's filter is their union. ip.reports tells routers of its changes. 224.0.0.1 and ff02::1 are always
joined and never reported, ff01::/16 stays on this host; on `lo` nobody listens to reports. All tables are bounded by
igmp_max_memberships and igmp_max_msf or mld_max_msf per endpoint, as in Linux.
"""

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stack.errors import InvariantBroken, StackError
from stack.ip.addr import show_addr
from stack.ip.inbound import Inbound
from stack.ip.link import Link
from stack.ip.reports import Reporter
from stack.units import Nanos, sooner
from stack.wire.membership import ALL_HOSTS4, ALL_NODES6

if TYPE_CHECKING:
    from stack.host import Stack

_NODE_LOCAL6 = b"\xff\x01" + bytes(13) + b"\x01"
ALWAYS = frozenset((ALL_HOSTS4, ALL_NODES6, _NODE_LOCAL6))


@dataclass(slots=True, eq=False)
class Membership:
    """One endpoint's filter for one group on one link."""

    group: bytes
    link: Link
    include: bool = False
    sources: set[bytes] = field(default_factory=set)

    def allows(self, source: bytes) -> bool:
        """True if a datagram from `source` passes."""
        return (source in self.sources) is self.include


Memberships = dict[tuple[bytes, int], Membership]  # by group and link index


@dataclass(slots=True, eq=False)
class Group:
    """One group on one link: the memberships and what they come to."""

    link: Link
    group: bytes
    members: list[Membership] = field(default_factory=list)
    include: bool = True  # with no sources: nobody wants it
    sources: frozenset[bytes] = frozenset()


class Multicast:
    """All groups of a stack."""

    def __init__(self, stack: "Stack") -> None:
        self._stack = stack
        self._groups: dict[tuple[bytes, int], Group] = {}
        self._reporter4 = Reporter(stack, self._groups, v6=False)
        self._reporter6 = Reporter(stack, self._groups, v6=True)

    # --- what comes in

    def accepts(self, group: bytes, source: bytes | None, link: Link) -> bool:
        """True if somebody here wants what `source` (None: anybody) sends to `group` on `link`."""
        if group in ALWAYS:
            return True
        known = self._groups.get((group, link.index))
        if known is None or not known.members:
            return False
        return source is None or (source in known.sources) is known.include

    def link_for(self, group: bytes) -> Link | None:
        """Where a group is joined if the program does not say: where it is routed to, as in Linux."""
        try:
            return self._stack.route(group).link
        except StackError:
            return None

    def receive(self, inb: Inbound, now: Nanos) -> None:
        """An IGMP message, or an ICMPv6 one of MLD with its checksum verified. Raises Malformed."""
        (self._reporter6 if len(inb.src) == 16 else self._reporter4).receive(inb, now)

    def groups(self) -> list[Group]:
        """All groups that are joined, for `nuse maddr` and the like."""
        return [each for each in self._groups.values() if each.members]

    # --- what endpoints ask for

    def join(self, mine: Memberships, group: bytes, link: Link, source: bytes | None) -> None:
        """IP_ADD_MEMBERSHIP, or IP_ADD_SOURCE_MEMBERSHIP with a source. Raises EADDRINUSE, ENOBUFS, EINVAL."""
        known = mine.get((group, link.index))
        if source is None:
            if known is not None:
                raise StackError(errno.EADDRINUSE, f"{show_addr(group)} is joined already")
            self._add(mine, Membership(group, link))
            return
        _check_source(group, source)
        if known is None:
            self._add(mine, Membership(group, link, include=True, sources={source}))
            return
        if not known.include:
            raise StackError(errno.EINVAL, f"{show_addr(group)} is joined from anybody")
        if source in known.sources:
            raise StackError(errno.EADDRNOTAVAIL, f"{show_addr(source)} is in the filter already")
        self._check_count(group, len(known.sources) + 1)
        known.sources.add(source)
        self._update(group, link)

    def leave(self, mine: Memberships, group: bytes, link: Link, source: bytes | None) -> None:
        """IP_DROP_MEMBERSHIP, or IP_DROP_SOURCE_MEMBERSHIP. Raises EADDRNOTAVAIL, EINVAL."""
        known = self._known(mine, group, link)
        if source is not None:
            if not known.include:
                raise StackError(errno.EINVAL, f"{show_addr(group)} is joined from anybody")
            if source not in known.sources:
                raise StackError(errno.EADDRNOTAVAIL, f"{show_addr(source)} is not in the filter")
            known.sources.discard(source)
            if known.sources:
                self._update(group, link)
                return
        del mine[group, link.index]
        self._remove(known)

    def block(self, mine: Memberships, group: bytes, link: Link, source: bytes, unblock: bool) -> None:
        """IP_BLOCK_SOURCE and IP_UNBLOCK_SOURCE. Raises EINVAL, EADDRNOTAVAIL, ENOBUFS."""
        _check_source(group, source)
        known = self._known(mine, group, link)
        if known.include:
            raise StackError(errno.EINVAL, f"{show_addr(group)} is joined from named sources")
        if (source in known.sources) is not unblock:
            raise StackError(errno.EADDRNOTAVAIL, f"{show_addr(source)} is blocked already, or was not")
        if unblock:
            known.sources.discard(source)
        else:
            self._check_count(group, len(known.sources) + 1)
            known.sources.add(source)
        self._update(group, link)

    def set_filter(self, mine: Memberships, group: bytes, link: Link, sources: list[bytes], include: bool) -> None:
        """MCAST_MSFILTER: replace the filter; INCLUDE nobody leaves the group. Raises as `join`."""
        for source in sources:
            _check_source(group, source)
        self._check_count(group, len(sources))
        known = mine.get((group, link.index))
        if include and not sources:
            self.leave(mine, group, link, None)
        elif known is None:
            self._add(mine, Membership(group, link, include, set(sources)))
        else:
            known.include, known.sources = include, set(sources)
            self._update(group, link)

    def leave_all(self, mine: Memberships) -> None:
        """The endpoint is gone."""
        for known in mine.values():
            self._remove(known)
        mine.clear()

    def link_up(self, link: Link) -> None:
        """The link came up: tell its routers anew, as Linux's ip_mc_up."""
        for known in [each for each in self._groups.values() if each.link is link and each.members]:
            if not self._quiet(known):
                reporter = self._reporter6 if len(known.group) == 16 else self._reporter4
                reporter.on_change(known, True, frozenset(), self._stack.now)

    def forget_link(self, link: Link) -> None:
        """The link is gone; memberships on it hear nothing any more."""
        for key in [key for key, known in self._groups.items() if known.link is link]:
            del self._groups[key]
        self._reporter4.forget_link(link)
        self._reporter6.forget_link(link)

    def _known(self, mine: Memberships, group: bytes, link: Link) -> Membership:
        known = mine.get((group, link.index))
        if known is None:
            raise StackError(errno.EADDRNOTAVAIL, f"{show_addr(group)} is not joined on {link.name}")
        return known

    def _check_count(self, group: bytes, count: int) -> None:
        sysctl = self._stack.sysctl
        if count > (sysctl.igmp_max_msf if len(group) == 4 else sysctl.mld_max_msf):
            raise StackError(errno.ENOBUFS, f"{count} sources in one filter")

    def _add(self, mine: Memberships, membership: Membership) -> None:
        if len(mine) >= self._stack.sysctl.igmp_max_memberships:
            raise StackError(errno.ENOBUFS, f"{len(mine)} groups joined already")
        key = (membership.group, membership.link.index)
        mine[key] = membership
        known = self._groups.get(key)
        if known is None:
            known = self._groups[key] = Group(membership.link, membership.group)
        known.members.append(membership)
        self._update(*key[:1], membership.link)

    def _remove(self, membership: Membership) -> None:
        known = self._groups.get((membership.group, membership.link.index))
        if known is not None and membership in known.members:
            known.members.remove(membership)
            self._update(membership.group, membership.link)

    def _update(self, group: bytes, link: Link) -> None:
        """Derive the link's filter (RFC 3376 §3.2) and report what changed."""
        known = self._groups[group, link.index]
        excluding = [each.sources for each in known.members if not each.include]
        included = set().union(*[each.sources for each in known.members if each.include])
        old = known.include, known.sources
        if excluding:
            known.include, known.sources = False, frozenset(set.intersection(*excluding) - included)
        else:
            known.include, known.sources = True, frozenset(included)
        reporter = self._reporter6 if len(group) == 16 else self._reporter4
        if self._quiet(known) or not reporter.on_change(known, *old, self._stack.now):
            self._reap(known)

    def _quiet(self, known: Group) -> bool:
        """True for groups that are nobody else's business."""
        group = known.group
        return group in ALWAYS or known.link.loopback or (len(group) == 16 and group[1] & 0xF < 2)

    def _reap(self, known: Group) -> None:
        if not known.members:
            del self._groups[known.group, known.link.index]

    # --- time

    def poll_timeout(self) -> Nanos | None:
        """When the next report is due."""
        return sooner(self._reporter4.poll_timeout(), self._reporter6.poll_timeout())

    def handle_timeout(self, now: Nanos) -> None:
        """Send the reports that are due."""
        for reporter in (self._reporter4, self._reporter6):
            for key in reporter.handle_timeout(now):
                known = self._groups.get(key)
                if known is not None and not known.members:
                    del self._groups[key]

    def check(self) -> None:
        """No group without a member, unless its end is still being reported."""
        for (group, index), known in self._groups.items():
            if known.group != group or known.link.index != index:
                raise InvariantBroken(f"group {show_addr(group)} in the wrong place")
            reporter = self._reporter6 if len(group) == 16 else self._reporter4
            if not known.members and not reporter.is_pending(known):
                raise InvariantBroken(f"nobody wants {show_addr(group)}")


def _check_source(group: bytes, source: bytes) -> None:
    if len(source) != len(group):
        raise StackError(errno.EINVAL, "group and source of different families")
