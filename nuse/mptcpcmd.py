"""Endpoints and limits of MPTCP's path manager, in the words of ip-mptcp(8); refusals in its manner too.

    endpoint add ADDRESS [dev NAME] [id ID] [port NR] [signal] [subflow] [backup] [fullmesh]
    endpoint delete id ID [ADDRESS] | change [id ID] [ADDRESS] [port NR] OPTION… | show [id ID] | flush
    limits set [subflows NR] [add_addr_accepted NR] | show

Other than `ip`, `change` leaves a flag that it does not name as it is.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mptcp.pm import BACKUP, FULLMESH, SIGNAL, SUBFLOW, Endpoint, PathManager
from mptcp.pm.endpoint import MAX_ID, MAX_LIMIT, flag_words
from stack.errors import StackError
from stack.ip.addr import parse_addr, show_addr
from stack.units import Nanos

Row = dict[str, Any]

ENDPOINT_USAGE = (
    "mptcp endpoint add ADDRESS [dev NAME] [id ID] [port NR] [signal|subflow|backup|fullmesh]…"
    " | delete id ID [ADDRESS] | change [id ID] [ADDRESS] [port NR] backup|nobackup|fullmesh|nofullmesh…"
    " | show [id ID] | flush"
)
LIMITS_USAGE = "mptcp limits set [subflows NR] [add_addr_accepted NR] | show"
LIMITS = ("subflows", "add_addr_accepted")
_FLAGS = {"signal": SIGNAL, "subflow": SUBFLOW, "backup": BACKUP, "fullmesh": FULLMESH}
_NO = {"nobackup": "backup", "nofullmesh": "fullmesh"}


@dataclass(slots=True)
class Words:
    """An endpoint as it was spelled; None for what was not said."""

    addr: bytes | None = None
    ident: int | None = None
    port: int = 0
    dev: str = ""
    flags: int = 0
    backup: bool | None = None
    fullmesh: bool | None = None


def mptcp_command(pm: PathManager, words: Sequence[str], now: Nanos) -> Any:
    """Obey `endpoint …` or `limits …`; the endpoints (as `ip -j` has them) or limits afterwards. Raises StackError."""
    what, rest = words[0], list(words[1:])
    verb = rest.pop(0) if rest else "show"
    if what in ("endpoint", "endpoints"):
        return _endpoint(pm, verb, rest, now)
    if what == "limits":
        return _limits(pm, verb, rest, now)
    raise StackError(errno.EINVAL, f"usage: {ENDPOINT_USAGE}, or {LIMITS_USAGE}")


def endpoint_row(endpoint: Endpoint) -> Row:
    """One endpoint as `ip -j mptcp endpoint` has it."""
    row: Row = {"address": show_addr(endpoint.addr)}
    if endpoint.port:
        row["port"] = endpoint.port
    row["id"] = endpoint.id
    row |= dict.fromkeys(flag_words(endpoint.flags), True)
    if endpoint.dev:
        row["dev"] = endpoint.dev
    return row


def _endpoint(pm: PathManager, verb: str, words: list[str], now: Nanos) -> list[Row]:
    if verb in ("show", "list"):
        said = _parse(pm, words, ())
        if said.ident is not None:
            return [endpoint_row(pm.endpoints.by_id(said.ident))]
    elif verb == "add":
        said = _parse(pm, words, tuple(_FLAGS))
        if said.addr is None:
            raise StackError(errno.EINVAL, 'argument "ADDRESS" is required')
        if said.port and not said.flags & SIGNAL:
            raise StackError(errno.EINVAL, 'argument "port" is wrong: flags must have signal when using port')
        pm.add(said.addr, now, ident=said.ident or 0, port=said.port, flags=said.flags, dev=said.dev)
    elif verb in ("delete", "del"):
        said = _parse(pm, words, ())
        if said.ident is None:
            raise StackError(errno.EINVAL, 'argument "ID" is required')
        if not said.ident and said.addr is None:
            raise StackError(errno.EINVAL, 'argument "ID" is wrong: address is needed for deleting id 0 address')
        pm.delete(said.ident, now, said.addr)
    elif verb == "change":
        said = _parse(pm, words, ("backup", "fullmesh", *_NO))
        pm.change(_meant(pm, said), now, backup=said.backup, fullmesh=said.fullmesh)
    elif verb == "flush" and not words:
        pm.flush(now)
    else:
        raise StackError(errno.EINVAL, f"usage: {ENDPOINT_USAGE}")
    return [endpoint_row(each) for each in sorted(pm.endpoints, key=lambda each: each.id)]


def _meant(pm: PathManager, said: Words) -> Endpoint:
    """The endpoint to change."""
    if said.addr is not None:
        found = pm.endpoints.by_addr(said.addr, said.port)
        if found is None:
            raise StackError(errno.EINVAL, "address not found")
        return found
    if said.ident is None:
        raise StackError(errno.EINVAL, "missing address ID")
    return pm.endpoints.by_id(said.ident)


def _limits(pm: PathManager, verb: str, words: list[str], now: Nanos) -> Row:
    if verb == "set":
        if len(words) % 2:
            raise StackError(errno.EINVAL, f"usage: {LIMITS_USAGE}")
        wanted: dict[str, int] = {}
        for name, text in zip(words[::2], words[1::2], strict=True):
            if name not in LIMITS:
                raise StackError(errno.EINVAL, f'argument "{name}" is wrong: unknown limit')
            wanted[name] = _number(text, f"invalid {name}", 2**32 - 1)
            if wanted[name] > MAX_LIMIT:
                raise StackError(errno.EINVAL, f"limit greater than maximum ({MAX_LIMIT})")
        pm.set_limits(now, **wanted)
    elif verb not in ("show", "list") or words:
        raise StackError(errno.EINVAL, f"usage: {LIMITS_USAGE}")
    return {"add_addr_accepted": pm.limits.add_addr_accepted, "subflows": pm.limits.subflows}


def _parse(pm: PathManager, words: Sequence[str], flags: Sequence[str]) -> Words:
    """The words after the verb, of which `flags` are allowed to be flags. Raises StackError EINVAL, ENODEV."""
    said = Words()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word in flags:
            said.flags |= _FLAGS.get(word, 0)
            if _NO.get(word, word) in ("backup", "fullmesh"):
                setattr(said, _NO.get(word, word), word not in _NO)
        elif word in _FLAGS or word in _NO:
            raise StackError(errno.EINVAL, f'argument "{word}" is wrong: {_where(flags)}')
        elif word in ("id", "port", "dev"):
            if not rest:
                raise StackError(errno.EINVAL, f"a value is missing after {word}")
            value = rest.pop(0)
            if word == "id":
                said.ident = _number(value, "invalid ID", MAX_ID)
            elif word == "port":
                said.port = _number(value, "expected port", 65535)
            elif value in pm.host.stack.links:
                said.dev = value
            else:
                raise StackError(errno.ENODEV, f'argument "{value}" is wrong: device does not exist')
        else:
            said.addr = _addr(word)
    if said.flags & SIGNAL and said.flags & FULLMESH:
        raise StackError(errno.EINVAL, 'argument "fullmesh" is wrong: flags mustn\'t have both signal and fullmesh')
    return said


def _where(flags: Sequence[str]) -> str:
    return "invalid flags, backup and fullmesh only" if "nobackup" in flags else "no flag belongs here"


def _addr(text: str) -> bytes:
    try:
        return parse_addr(text)
    except ValueError:
        raise StackError(errno.EINVAL, f'any valid address is expected rather than "{text}"') from None


def _number(text: str, wrong: str, most: int) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > most:
        raise StackError(errno.EINVAL, f'argument "{text}" is wrong: {wrong}')
    return int(text)
