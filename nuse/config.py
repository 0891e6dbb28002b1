"""What a stack is to be: nuse.toml and the command line, checked as far as possible before anything is made.

Sections [stack] [[link]] [sysctl] [mptcp] [shim] [gateway] [debug]; a key or section that nobody knows is an error
that names the nearest known one, since a misspelt knob that silently does nothing costs an afternoon.

Every command imports this, so the stack itself is imported only where a sysctl is looked at.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nuse.linkspec import (
    FLAGS,
    SPEC_WORDS,
    ConfigError,
    LinkSpec,
    check_links,
    default_link,
    link_from_items,
    parse_link_spec,
    unknown,
)
from nuse.shim.rules import RuleError, parse_rule

if TYPE_CHECKING:
    from mptcp.config import MptcpSysctl
    from stack.config import Sysctl
    from stack.errors import StackError

DEFAULT_NAME = "nuse"
NAME_MOST = 32
CC = "net.ipv4.tcp_congestion_control"
SCHEDULER = "net.mptcp.scheduler"
MPTCP_MODES = ("auto", "on", "off")
NETNS_MODES = ("nuse", "host")
LOOPBACK_OWNERS = ("stack", "kernel")
LOG_LEVELS = ("debug", "info", "warning", "error")

SECTIONS: dict[str, tuple[str, ...]] = {
    "stack": ("name", "offload", "cc", "netns"),
    "mptcp": ("mode",),
    "shim": ("netns", "rules", "loopback"),
    "gateway": ("enabled",),
    "debug": ("log",),
}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(slots=True, eq=False)
class Config:
    """One stack as configured. No links means: choose when the host is looked at (nuse/hostnet.py)."""

    name: str = DEFAULT_NAME
    links: list[LinkSpec] = field(default_factory=list)
    sysctl: dict[str, str] = field(default_factory=dict)
    offload: bool = True
    netns: bool = True  # make a network namespace for the programs
    mptcp: str = "auto"  # whether TCP sockets are upgraded: by nuse.mptcp_upgrade, always, or no MPTCP at all
    run_netns: str = "nuse"  # where `nuse run` starts its command
    rules: list[str] = field(default_factory=list)  # which sockets are the stack's (nuse/shim/rules.py)
    loopback: str = "stack"  # who has 127.0.0.0/8 and ::1
    log: str = "info"
    impair: list[str] = field(default_factory=list)  # `[LINK] words`, for links that may not be chosen yet

    def tables(self) -> "tuple[Sysctl, MptcpSysctl]":
        """The sysctls of this stack, TCP/IP's and MPTCP's: defaults, then what was configured."""
        from stack.knobs import sysctl_set, table_of

        tables = _tables()
        for name, text in self.sysctl.items():
            sysctl_set(table_of(tables, name), name, text)
        return tables

    def knobs(self) -> "Sysctl":
        """Those of TCP/IP."""
        return self.tables()[0]

    def check(self) -> None:
        """Refuse what cannot work together. Raises ConfigError."""
        check_name(self.name)
        check_links(self.links)
        for spec in self.links:
            if spec.impair:
                check_impair(spec.impair, spec.name)
        trial = [LinkSpec(spec.name) for spec in self.links] or [default_link(0)]
        for text in self.impair:
            impair_targets(trial, text)


def check_name(name: str) -> str:
    """`name`, if a stack can be called that: it becomes a directory, a namespace and part of an nft table."""
    if not _NAME.fullmatch(name) or len(name) > NAME_MOST:
        raise ConfigError(f"{name!r} is not a name for a stack: 1 to {NAME_MOST} letters, digits and . _ -")
    return name


def check_impair(text: str, link: str) -> None:
    """Refuse impairments that nuse/impair.py does not understand."""
    from nuse.impair import parse_impair

    try:
        parse_impair(text)
    except ValueError as exc:
        raise ConfigError(f"link {link}: {exc}") from None


def set_sysctl(config: Config, name: str, value: str) -> None:
    """Note a sysctl for the stack, after trying it. Raises ConfigError."""
    from stack.errors import StackError
    from stack.knobs import sysctl_set, table_of

    try:
        sysctl_set(table_of(_tables(), name), name, value)
    except StackError as exc:
        raise ConfigError(_bare(exc)) from None
    config.sysctl[name.replace("/", ".")] = value


def _tables() -> "tuple[Sysctl, MptcpSysctl]":
    import mptcp.cc  # noqa: F401 - so that sysctls know coupled congestion controls
    from mptcp.config import MptcpSysctl
    from stack.config import Sysctl

    return Sysctl(), MptcpSysctl()


def _bare(exc: "StackError") -> str:
    """The words of a StackError, without the errno that a program would want."""
    return re.sub(r" \[E[A-Z0-9]+\]$", "", exc.strerror or str(exc))


def set_sysctl_word(config: Config, word: str) -> None:
    """`--sysctl K=V`. Raises ConfigError."""
    name, equals, value = word.partition("=")
    if not equals:
        raise ConfigError(f"--sysctl {word}: wants NAME=VALUE")
    set_sysctl(config, name.strip(), value.strip())


def set_cc(config: Config, name: str) -> None:
    """`--cc NAME`: the congestion control of new connections. Raises ConfigError."""
    set_sysctl(config, CC, name)


def check_choices(scheduler: str, congestion: str) -> None:
    """What a program's sockets begin with: empty, or a value of net.mptcp.scheduler and of CC. Raises ConfigError."""
    for knob, name in ((SCHEDULER, scheduler), (CC, congestion)):
        if name:
            set_sysctl(Config(), knob, name)


def impair_targets(links: list[LinkSpec], text: str) -> tuple[list[LinkSpec], str]:
    """What `--impair [LINK] WORDS` means: the link named, or all, and the words. Raises ConfigError."""
    first, _, rest = text.strip().partition(" ")
    chosen = [spec for spec in links if spec.name == first]
    words = rest if chosen else text
    for spec in chosen or links:
        check_impair(words, spec.name)
    return chosen or links, words


def load_toml(path: str | os.PathLike[str]) -> Config:
    """The configuration in a file. Raises ConfigError, its line starting with the file's name."""
    try:
        data = tomllib.loads(Path(path).read_text())
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: {exc}") from None
    try:
        return from_mapping(data)
    except ConfigError as exc:
        raise ConfigError(f"{path}: {exc}") from None


def from_mapping(data: Mapping[str, Any]) -> Config:
    """The configuration in a parsed nuse.toml. Raises ConfigError."""
    config = Config()
    for section, content in data.items():
        if section == "link":
            config.links = _links(content)
        elif section == "sysctl":
            for name, value in _flat(_table(content, section)):
                set_sysctl(config, name, _sysctl_text(value, name))
        elif section in SECTIONS:
            for key, value in _table(content, section).items():
                if key not in SECTIONS[section]:
                    raise unknown("key", key, SECTIONS[section], f" in [{section}]")
                _set(config, section, key, value)
        else:
            raise unknown("section", section, [*SECTIONS, "link", "sysctl"])
    config.check()
    return config


def _set(config: Config, section: str, key: str, value: object) -> None:
    """Store one key of a section whose name is known."""
    where = f"[{section}] {key}"
    match section, key:
        case "stack", "name":
            config.name = check_name(_text(value, where))
        case "stack", "offload":
            config.offload = _flag(value, where)
        case "stack", "cc":
            set_cc(config, _text(value, where))
        case "stack", "netns":
            config.netns = _flag(value, where)
        case "mptcp", "mode":
            config.mptcp = check_mptcp(_text(value, where))
        case "shim", "netns":
            config.run_netns = _choice(value, NETNS_MODES, where)
        case "shim", "rules":
            if not isinstance(value, list):
                raise ConfigError(f"{where}: a list of rules belongs here")
            config.rules = check_rules([_text(each, where) for each in value])
        case "shim", "loopback":
            config.loopback = check_loopback(_text(value, where))
        case "gateway", "enabled":
            if _flag(value, where):
                raise ConfigError("[gateway] enabled = true: there is no gateway in this version")
        case "debug", "log":
            config.log = _choice(value, LOG_LEVELS, where)


def check_mptcp(mode: str) -> str:
    """`mode`, if there is such a one. Raises ConfigError."""
    return _choice(mode, MPTCP_MODES, "mptcp")


def check_rules(rules: list[str]) -> list[str]:
    """`rules`, if all of them are some. Raises ConfigError."""
    for text in rules:
        try:
            parse_rule(text)
        except RuleError as exc:
            raise ConfigError(str(exc)) from None
    return rules


def check_loopback(who: str) -> str:
    """`who`, if loopback can be theirs. Raises ConfigError."""
    return _choice(who, LOOPBACK_OWNERS, "loopback")


def _links(content: object) -> list[LinkSpec]:
    """[[link]] tables, with the keys of a SPEC; `stack`, `host` … may be lists."""
    if not isinstance(content, list):
        raise ConfigError("links are written [[link]], with two brackets")
    links = []
    for number, table in enumerate(content):
        if not isinstance(table, dict):
            raise ConfigError("links are written [[link]], with two brackets")
        if "spec" in table:
            if len(table) > 1:
                raise ConfigError("[[link]] spec= stands alone: it says everything")
            links.append(parse_link_spec(_text(table["spec"], "[[link]] spec")))
            continue
        name = _text(table.get("name", f"tun{number}"), "[[link]] name")
        items: list[tuple[str, str | bool]] = []
        for key, value in table.items():
            if key == "name":
                continue
            if key not in SPEC_WORDS:
                raise unknown("key", key, ("name", "spec", *SPEC_WORDS), f" in [[link]] {name}")
            items += [(key, _item(key, one)) for one in (value if isinstance(value, list) else [value])]
        links.append(link_from_items(name, items))
    return links


def _item(key: str, value: object) -> str | bool:
    where = f"[[link]] {key}"
    if key in FLAGS:
        return _flag(value, where)
    if key == "mtu" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value, where)


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted names of nested tables: TOML reads an unquoted net.ipv4.tcp_sack = 0 as three tables."""
    found: list[tuple[str, Any]] = []
    for key, value in table.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return found


def _sysctl_text(value: object, name: str) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int | str):
        return str(value)
    if isinstance(value, list) and all(isinstance(n, int) for n in value):
        return " ".join(map(str, value))
    raise ConfigError(f"[sysctl] {name}: a number, a list of numbers or a word belongs here")


def _table(value: object, section: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{section!r} is a section: [{section}]")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{where}: text in quotes belongs here")
    return value


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: true or false belongs here")
    return value


def _choice(value: object, choices: tuple[str, ...], where: str) -> str:
    if value not in choices:
        raise ConfigError(f"{where}: {value!r} is none of {', '.join(choices)}")
    return str(value)


__all__ = ["CC", "DEFAULT_NAME", "Config", "ConfigError", "LinkSpec", "load_toml", "parse_link_spec"]
