"""The link SPEC of the command line and of nuse.toml's [[link]]: a device name and `key=value` words.

    tun0,stack=10.64.0.2/24,host=10.64.0.1/24,stack6=fd64::2/64,host6=fd64::1/64,mtu=1500[,backup][,signal]…

A bare `tun3` means the fourth link of the default plan: 10.64.3.2/24 and fd64:3::2/64, the host at .1. With any address
given, only those given exist; without a `host=` the device is just brought up, for packets injected by hand.
"""

import difflib
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

MTU_LEAST, MTU_MOST = 576, 65535  # RFC 1122 §3.3.3; a TUN device takes no more
MTU_LEAST_V6 = 1280  # RFC 8200 §5
NAME_MOST = 15  # IFNAMSIZ less the NUL

FLAGS = ("backup", "signal", "subflow", "fullmesh")
ADDRESS_KEYS = ("stack", "stack6", "host", "host6")
SPEC_WORDS = (*ADDRESS_KEYS, "mtu", "impair", *FLAGS)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class ConfigError(ValueError):
    """What the user asked for cannot be; the message is the one line to show."""


@dataclass(slots=True, eq=False)
class LinkSpec:
    """One link as configured. `stack` and `host` hold the addresses of both families, in the order given."""

    name: str
    stack: list[Interface] = field(default_factory=list)
    host: list[Interface] = field(default_factory=list)
    mtu: int = 1500
    backup: bool = False
    signal: bool = False
    subflow: bool = False
    fullmesh: bool = False
    impair: str = ""

    def __str__(self) -> str:
        """A SPEC that parses to the same link."""
        words = [self.name]
        words += [f"stack{_six(a)}={a}" for a in self.stack]
        words += [f"host{_six(a)}={a}" for a in self.host]
        words.append(f"mtu={self.mtu}")
        words += self.flags
        if self.impair:
            words.append(f"impair={self.impair}")
        return ",".join(words)

    @property
    def flags(self) -> list[str]:
        """What its addresses are for, as endpoints of MPTCP."""
        return [flag for flag in FLAGS if getattr(self, flag)]

    def gateway(self, version: int) -> Interface | None:
        """The host's first address of an IP version: what the stack's default route points at."""
        return next((a for a in self.host if a.version == version), None)


def _six(address: Interface) -> str:
    return "6" if address.version == 6 else ""


def unknown(what: str, word: str, known: Iterable[str], where: str = "") -> ConfigError:
    """A ConfigError for a word nobody knows, which names the nearest one that somebody does."""
    choices = list(known)
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(choices)}"
    return ConfigError(f"unknown {what} {word!r}{where}{hint}")


def default_addresses(spec: LinkSpec, number: int) -> None:
    """Give `spec` the addresses of the plan's link `number` (0..255); IPv6 only if the MTU allows it."""
    net6 = "fd64::" if number == 0 else f"fd64:{number:x}::"
    pairs = [(f"10.64.{number}.2/24", f"10.64.{number}.1/24")]
    if spec.mtu >= MTU_LEAST_V6:
        pairs.append((f"{net6}2/64", f"{net6}1/64"))
    spec.stack = [ipaddress.ip_interface(stack) for stack, _ in pairs]
    spec.host = [ipaddress.ip_interface(host) for _, host in pairs]


def default_link(number: int) -> LinkSpec:
    """The plan's link `number`: tunN with its usual addresses."""
    spec = LinkSpec(f"tun{number}")
    default_addresses(spec, number)
    return spec


def check_device_name(name: str) -> str:
    """`name`, if Linux would take it for a device. Raises ConfigError."""
    if not _NAME.fullmatch(name) or len(name) > NAME_MOST:
        raise ConfigError(f"{name!r} is not a device name: 1 to {NAME_MOST} letters, digits and . _ -")
    if name in ("lo", "nuse0"):
        raise ConfigError(f"device name {name!r} is taken by nuse itself")
    return name


def parse_interface(text: str, key: str) -> Interface:
    """An address with its prefix length, of the version that `key` allows. Raises ConfigError."""
    if "/" not in text:
        raise ConfigError(f"{key}={text}: a prefix length is missing, as in {text or '10.64.0.2'}/24")
    try:
        address = ipaddress.ip_interface(text)
    except ValueError:
        raise ConfigError(f"{key}={text}: not an address with a prefix length") from None
    if key.endswith("6") and address.version == 4:
        raise ConfigError(f"{key}={text}: IPv4 address where an IPv6 one belongs; use {key[:-1]}=")
    if address.ip.is_multicast or address.ip.is_unspecified or address.ip.is_loopback:
        raise ConfigError(f"{key}={text}: not an address that a link can hold")
    return address


def parse_mtu(text: str) -> int:
    """An MTU in range. Raises ConfigError."""
    if not text.isascii() or not text.isdigit():
        raise ConfigError(f"mtu={text}: not a number")
    mtu = int(text)
    if not MTU_LEAST <= mtu <= MTU_MOST:
        raise ConfigError(f"mtu={text}: outside {MTU_LEAST}..{MTU_MOST}")
    return mtu


def parse_link_spec(text: str) -> LinkSpec:
    """A link from its SPEC. Raises ConfigError with one clear line."""
    name, *words = [word.strip() for word in text.split(",")]
    if not name or "=" in name:
        raise ConfigError(f"link {text!r}: a SPEC starts with a device name, as in tun0,mtu=1400")
    items: list[tuple[str, str | bool]] = []
    for word in words:
        key, equals, value = word.partition("=")
        items.append((key, value if equals else True))
    return link_from_items(name, items)


def link_from_items(name: str, items: Iterable[tuple[str, str | bool]]) -> LinkSpec:
    """A link from (key, value) pairs; True is the value of a flag. Raises ConfigError."""
    where = f" in link {name}"
    spec = LinkSpec(check_device_name(name))
    seen: set[str] = set()
    for key, value in items:
        if key not in SPEC_WORDS:
            raise unknown("key", key, SPEC_WORDS, where)
        if key in seen and key not in ADDRESS_KEYS:
            raise ConfigError(f"{key!r} is given twice{where}")
        seen.add(key)
        if key in FLAGS:
            if not isinstance(value, bool):
                raise ConfigError(f"{key!r} is a flag and takes no value{where}")
            setattr(spec, key, value)
        elif not isinstance(value, str):
            raise ConfigError(f"{key!r} wants a value{where}, as in {key}=…")
        elif key == "mtu":
            spec.mtu = parse_mtu(value)
        elif key == "impair":
            spec.impair = value
        else:
            side = spec.stack if key.startswith("stack") else spec.host
            side.append(parse_interface(value, key))
    if not spec.stack:
        if spec.host:
            raise ConfigError(f"host address but no stack= address{where}")
        number = re.fullmatch(r"tun(\d{1,3})", name)
        if number is None or int(number[1]) > 255:
            raise ConfigError(f"no stack= address{where}: only tun0 to tun255 have default ones")
        default_addresses(spec, int(number[1]))
    _check_link(spec)
    return spec


def _check_link(spec: LinkSpec) -> None:
    """Refuse what could never work: IPv6 on a tiny MTU, both ends alike or on different networks, flags at odds."""
    where = f" in link {spec.name}"
    if spec.signal and spec.fullmesh:
        raise ConfigError(f"signal and fullmesh exclude each other{where}")
    if spec.mtu < MTU_LEAST_V6 and any(a.version == 6 for a in spec.stack + spec.host):
        raise ConfigError(f"mtu={spec.mtu}: IPv6 needs {MTU_LEAST_V6} or more{where}")
    for host in spec.host:
        if any(host.ip == a.ip for a in spec.stack):
            raise ConfigError(f"{host.ip} is both the host's and the stack's{where}")
        if not any(host.ip in a.network for a in spec.stack):
            raise ConfigError(f"host{_six(host)}={host}: in no network of a stack address{where}")


def check_links(links: list[LinkSpec]) -> None:
    """Refuse links that stand in one another's way. Raises ConfigError."""
    owners: dict[object, str] = {}
    names: set[str] = set()
    for spec in links:
        if spec.name in names:
            raise ConfigError(f"link {spec.name} is given twice")
        names.add(spec.name)
        for address in spec.stack + spec.host:
            if owners.setdefault(address.ip, spec.name) != spec.name:
                raise ConfigError(f"{address.ip} is on two links: {owners[address.ip]} and {spec.name}")
