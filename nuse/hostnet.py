"""The host's side of a stack, with pyroute2: devices, addresses, forwarding, masquerading, the namespace.

Two callers, one code: scripts/setup-tun.sh makes what shall outlive stacks (persistent devices, owned by a user), and
the runtime makes what ends with it, on top of whatever the former left. Each has its own journal (nuse/statedir.py).
Devices are always made persistent first, configured, then opened; the runtime's lose that property once they are open.

Not to be called inside a running event loop: pyroute2 runs one of its own.
"""

import errno
import fcntl
import ipaddress
import os
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute, NetlinkError

from nuse.config import DEFAULT_NAME, Config
from nuse.hostnet_nat import (
    enter_forwarding,
    here,
    iptables_path,
    iptables_rule,
    nft_path,
    nft_script,
    run_nft,
    table_name,
)
from nuse.hostnet_netns import DEVICE, TX_QUEUE, add_address, inside, make_netns, quiet_ipv6
from nuse.hostnet_undo import undo
from nuse.linkspec import LinkSpec, default_link, parse_link_spec
from nuse.refusal import Refused
from nuse.statedir import StateDir, host_lock
from nuse.tun import Tun, TunError

TUN_FILE = Path("/dev/net/tun")
TUNSETPERSIST = 0x400454CB
CAP_NET_ADMIN, CAP_SYS_ADMIN = 12, 21


def has_capability(bit: int) -> bool:
    """Whether this process has a capability, root or not."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> bit & 1)
    return False


def privileged() -> bool:
    """Whether we may make devices and namespaces."""
    return has_capability(CAP_NET_ADMIN) and has_capability(CAP_SYS_ADMIN)


class HostNet:
    """The host's side of one stack; `up` makes it, `down` takes it away."""

    def __init__(self, config: Config, state: StateDir, *, owner: int | None = None, persistent: bool = False) -> None:
        self.config = config
        self.state = state
        self.owner = owner
        self.persistent = persistent
        self.links: list[LinkSpec] = []
        self.warnings: list[str] = []
        self.has_netns = False
        self._journal = state.journal("setup" if persistent else "up")
        self._kept = state.journal("setup")

    # --- up

    def up(self) -> None:
        """Make everything, or nothing. Raises Refused."""
        if not TUN_FILE.exists():
            raise Refused(f"no {TUN_FILE}: load the tun module (modprobe tun), or pass the device into the container")
        with host_lock():
            self.state.make()
            if not self.persistent:
                self.warnings += undo(self._journal)  # left by a stack that was killed
            self.links = self._choose()
            self._drop_other_plan()
            try:
                self._make_all()
            except (NetlinkError, OSError) as exc:
                self._take_back()
                raise _refused(exc) from exc
            except BaseException:
                self._take_back()
                raise

    def _make_all(self) -> None:
        if not privileged():
            for spec in self.links:
                self._check_unprivileged(spec)
            return
        self._journal.record({"kind": "host", "netns": here()})
        self._journal.record({"kind": "plan", "links": [str(spec) for spec in self.links]})
        for spec in self.links:
            self._make_link(spec)
        if any(spec.host for spec in self.links):
            self._forward()
            for spec in self.links:
                self._masquerade(spec)
        if self.config.netns:
            self.warnings += make_netns(self.config.name, self.links, self._journal, self._kept)
            self.has_netns = True

    def _choose(self) -> list[LinkSpec]:
        """The links asked for; else those that setup-tun.sh made; else tun0, or for another name the first free one."""
        if self.config.links:
            return self.config.links
        for plan in self._kept.find("plan"):
            return [parse_link_spec(text) for text in plan["links"]]
        if self.config.name == DEFAULT_NAME or not privileged():
            return [default_link(0)]
        with IPRoute() as ip:
            return [default_link(free_number(ip))]

    def _drop_other_plan(self) -> None:
        """setup-tun.sh with other links than last time starts afresh."""
        plans = self._journal.find("plan")
        if self.persistent and plans and plans[0]["links"] != [str(spec) for spec in self.links]:
            self.warnings += undo(self._journal)
            self._kept = self.state.journal("setup")

    def _make_link(self, spec: LinkSpec) -> None:
        """One device with the host's addresses on it."""
        step = {"kind": "link", "name": spec.name}
        with IPRoute() as ip:
            found = ip.link_lookup(ifname=spec.name)
            if found and step not in self._kept.steps:
                _check_adoptable(ip.get_links(found[0])[0], spec.name)
            _check_addresses(ip, spec)
            if not found:
                if step not in self._kept.steps:
                    self._journal.record(step)
                user = {} if self.owner is None else {"uid": self.owner}
                ip.link("add", ifname=spec.name, kind="tuntap", mode="tun", **user)
                found = ip.link_lookup(ifname=spec.name)
                quiet_ipv6(spec.name)
            index = found[0]
            ip.link("set", index=index, mtu=spec.mtu, txqlen=TX_QUEUE, state="up")
            for address in spec.host:
                if address.version == 6 and not Path("/proc/sys/net/ipv6").exists():
                    self.warnings.append(f"this host has no IPv6: {address} is left out")
                    continue
                if add_address(ip, index, str(address.ip), address.network.prefixlen) and not self._made(spec.name):
                    self._journal.record({"kind": "addr", "name": spec.name, "address": str(address)})

    def _made(self, name: str) -> bool:
        """Whether we make the device ourselves, so that it goes with all that is on it."""
        return {"kind": "link", "name": name} in self._journal.steps

    def _check_unprivileged(self, spec: LinkSpec) -> None:
        """Without privilege only a device that somebody has prepared will do."""
        with IPRoute() as ip:
            found = ip.link_lookup(ifname=spec.name)
            if not found:
                hint = "run as root, or have `sudo scripts/setup-tun.sh up` make it for you"
                raise Refused(f"no privilege to make {spec.name}: {hint}")
            _check_adoptable(ip.get_links(found[0])[0], spec.name)
            there = {a.get_attr("IFA_ADDRESS") for a in ip.get_addr(index=found[0])}
        missing = [str(a) for a in spec.host if str(a.ip) not in there]
        if missing:
            raise Refused(f"no privilege to give {spec.name} the address {missing[0]}: run as root")

    def _forward(self) -> None:
        user = f"{self.config.name}.{'setup' if self.persistent else 'up'}"
        self._journal.record({"kind": "forward", "name": user, "netns": here()})
        self.warnings += enter_forwarding(user)

    def _masquerade(self, spec: LinkSpec) -> None:
        """Packets of the link leave the host under the host's own address."""
        networks: dict[int, list[str]] = {4: [], 6: []}
        for address in spec.stack:
            networks[address.version].append(str(address.network))
        step = {"kind": "nft", "name": table_name(self.config.name, spec.name)}
        if nft_path():
            if step not in self._kept.steps or self.persistent:
                self._journal.record(step)
                failure = run_nft(nft_script(step["name"], spec.name, networks))
                if failure:
                    self.warnings.append(f"no masquerading on {spec.name}: nft says {failure!r}")
            return
        for version, found in networks.items():
            tool = iptables_path(version)
            for network in found if tool else ():
                rule = iptables_rule(self.config.name, spec.name, network)
                made = {"kind": "iptables", "tool": tool, "rule": rule}
                if made not in self._kept.steps and self._journal.record(made):
                    os.spawnl(os.P_WAIT, str(tool), "iptables", "-w", "-t", "nat", "-A", *rule)
            if found and not tool:
                self.warnings.append(
                    f"no nft and no iptables: IPv{version} of {spec.name} gets no further than this host"
                )

    # --- devices

    def open_link(self, spec: LinkSpec, *, offload: bool) -> Tun:
        """Open the device of a link; one that we made will vanish with the file. Raises Refused."""
        tun = _open(spec.name, offload=offload)
        if self._made(spec.name) and not self.persistent:
            fcntl.ioctl(tun.fileno(), TUNSETPERSIST, 0)
        return tun

    def open_netns(self) -> Tun | None:
        """Open nuse0 of the namespace, if there is one."""
        if not self.has_netns:
            return None
        with inside(self.config.name):
            tun = _open(DEVICE, offload=False)
        if {"kind": "netns", "name": self.config.name} in self._journal.steps:
            fcntl.ioctl(tun.fileno(), TUNSETPERSIST, 0)
        return tun

    # --- down

    def down(self) -> list[str]:
        """Take away everything that `up` made. Returns one line for each thing that would not go."""
        with host_lock():
            return undo(self._journal)

    def _take_back(self) -> None:
        undo(self._journal)
        if self.state.holder() is None and not self._kept.steps:
            self.state.release()


def _open(name: str, *, offload: bool) -> Tun:
    try:
        return Tun(name, offload=offload)
    except TunError as exc:
        raise Refused(exc.strerror or str(exc)) from exc


def free_number(ip: IPRoute) -> int:
    """The first number whose device and networks nobody has. Raises Refused."""
    return free_numbers(ip, 1)[0]


def free_numbers(ip: IPRoute, count: int) -> list[int]:
    """The first `count` of them."""
    taken = {link.get_attr("IFLA_IFNAME") for link in ip.get_links()}
    networks = _networks(ip)
    found: list[int] = []
    for number in range(256):
        spec = default_link(number)
        clash = any(a.network.overlaps(net) for a in spec.stack for net in networks if net.version == a.version)
        if spec.name not in taken and not clash:
            found.append(number)
        if len(found) == count:
            return found
    raise Refused("all of tun0 to tun255 and 10.64.0.0/16 are in use")


def _networks(ip: IPRoute) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Networks that the host has addresses in or routes to, but for the default route."""
    found = []
    for address in ip.get_addr():
        text = address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS")
        found.append(ipaddress.ip_network(f"{text}/{address['prefixlen']}", strict=False))
    for route in ip.get_routes():
        text = route.get_attr("RTA_DST")
        if text and route["dst_len"] >= 12:  # a wider one, such as a VPN's 10.0.0.0/8, yields to ours
            found.append(ipaddress.ip_network(f"{text}/{route['dst_len']}", strict=False))
    return found


def _check_adoptable(link: Any, name: str) -> None:
    """Only an idle TUN device may be taken over. Raises Refused."""
    info = link.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info else "a device of the host"
    if kind != "tun":
        raise Refused(f"device {name} is in use: it exists and is {kind}, not a TUN; choose another with --link")
    if link.get_attr("IFLA_CARRIER") and link.get_attr("IFLA_OPERSTATE") != "DOWN":
        raise Refused(f"device {name} is in use by another process; choose another with --link")


def _check_addresses(ip: IPRoute, spec: LinkSpec) -> None:
    """No other device may hold an address of this link. Raises Refused."""
    wanted = {str(a.ip) for a in spec.host + spec.stack}
    mine = ip.link_lookup(ifname=spec.name)
    for address in ip.get_addr():
        text = address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS")
        if text in wanted and (address["index"] not in mine or any(text == str(a.ip) for a in spec.stack)):
            name = ip.get_links(address["index"])[0].get_attr("IFLA_IFNAME")
            raise Refused(f"address {text} is in use on {name}; choose others with --link")


def _refused(exc: OSError | NetlinkError) -> Refused:
    code = exc.code if isinstance(exc, NetlinkError) else exc.errno
    if code in (errno.EPERM, errno.EACCES):
        return Refused("no privilege to set up the network: run as root (CAP_NET_ADMIN and CAP_SYS_ADMIN)")
    if code == errno.EBUSY:
        return Refused("a device is in use by another process; choose another with --link")
    return Refused(f"cannot set up the network: {exc}")


if __name__ == "__main__":
    from nuse.cli.setup import main

    raise SystemExit(main())
