"""Tables of sysctls: what a knob is, and how one is found by its Linux name, read, and set from text.

A table is a dataclass whose fields are made by `knob`: stack/config.py has the stack's, further protocols their own.
"""

import difflib
import errno
from collections.abc import Collection, Iterable, Iterator
from dataclasses import field, fields
from typing import Any, TypeVar

from stack.errors import UnknownSysctl

Value = int | str | tuple[int, ...]
Table = TypeVar("Table")
I31 = 2**31 - 1


def knob(
    name: str,
    default: Value,
    help_: str,
    *,
    low: int = 0,
    high: int = 1,
    choices: Collection[str] = (),
    several: bool = False,
    fixed: bool = False,
) -> Any:
    """A field of a table. `choices` is looked at whenever a word is set, so a registry may grow.

    A `fixed` knob cannot be set; if it has choices, they are its value. One that takes `several` words, with the
    default "", begins with all that there are.
    """
    meta = {"name": name, "default": default, "help": help_, "low": low, "high": high, "choices": choices}
    meta |= {"several": several, "fixed": fixed}
    if several and not default:
        return field(default_factory=lambda: " ".join(choices), metadata=meta)
    return field(default=default, metadata=meta)


def knob_fields(kind: type) -> dict[str, Any]:
    """The dataclass fields of a table, by Linux name."""
    return {f.metadata["name"]: f for f in fields(kind)}


def find_knob(kind: type, name: str) -> Any:
    """The dataclass field under a Linux name. Raises UnknownSysctl, with the nearest name there is."""
    found = knob_fields(kind).get(name.replace("/", "."))
    if found is None:
        raise _unknown(name, knob_fields(kind))
    return found


def _unknown(name: str, known: Iterable[str]) -> UnknownSysctl:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.4)
    return UnknownSysctl(f"no sysctl {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


def table_of(tables: Iterable[Table], name: str) -> Table:
    """The one of several tables that has this name. Raises UnknownSysctl."""
    found: dict[str, Any] = {known: table for table in tables for known in knob_fields(table.__class__)}
    if name.replace("/", ".") not in found:
        raise _unknown(name, found)
    table: Table = found[name.replace("/", ".")]
    return table


def sysctl_get(knobs: Any, name: str) -> Value:
    """The value under a Linux name. Raises UnknownSysctl."""
    return _value(knobs, find_knob(type(knobs), name))


def _value(knobs: Any, spec: Any) -> Value:
    if spec.metadata["fixed"] and spec.metadata["choices"]:
        return " ".join(spec.metadata["choices"])
    value: Value = getattr(knobs, spec.name)
    return value


def sysctl_items(knobs: Any) -> Iterator[tuple[str, Value]]:
    """(name, value) of every knob, sorted by name."""
    for name, spec in sorted(knob_fields(type(knobs)).items()):
        yield name, _value(knobs, spec)


def sysctl_set(knobs: Any, name: str, text: str) -> Value:
    """Set a knob from text as `sysctl -w` would: a number, several numbers, or a word. Returns the new value.

    Raises UnknownSysctl, with EINVAL if the name is known but the value is not one it takes.
    """
    spec = find_knob(type(knobs), name)
    meta = spec.metadata
    value: Value
    if meta["fixed"]:
        raise UnknownSysctl(f"{name} cannot be set", errno.EACCES)
    if isinstance(meta["default"], str):
        words = text.split() if meta["several"] else [text]
        if not words or any(word not in meta["choices"] for word in words):
            raise UnknownSysctl(f"{name}: {text!r} is none of {', '.join(meta['choices'])}", errno.EINVAL)
        value = text
    else:
        value = _numbers(meta, name, text)
    setattr(knobs, spec.name, value)
    return value


def _numbers(meta: Any, name: str, text: str) -> int | tuple[int, ...]:
    default = meta["default"]
    try:
        numbers = tuple(int(word, 0) for word in text.replace(",", " ").split())
    except ValueError:
        raise UnknownSysctl(f"{name}: {text!r} is not a number", errno.EINVAL) from None
    wanted = len(default) if isinstance(default, tuple) else 1
    if len(numbers) != wanted:
        raise UnknownSysctl(f"{name}: takes {wanted} number(s), got {text!r}", errno.EINVAL)
    if not all(meta["low"] <= n <= meta["high"] for n in numbers):
        raise UnknownSysctl(f"{name}: {text} is outside {meta['low']}..{meta['high']}", errno.EINVAL)
    if list(numbers) != sorted(numbers):
        raise UnknownSysctl(f"{name}: {text} does not rise", errno.EINVAL)
    return numbers if isinstance(default, tuple) else numbers[0]
