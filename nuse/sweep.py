"""Cleaning up after stacks that were killed: everything their journals name, and their state directories."""

import os
import re

from nuse.hostnet_undo import undo
from nuse.refusal import Refused
from nuse.statedir import StateDir, host_lock, state_root

_PRIVATE = re.compile(r"(?:run|demo|py)-?(\d+)")  # names with a pid in them, which nobody will use again


def sweep(state: StateDir) -> list[str]:
    """Remove what a dead stack left. Returns one line for each thing that would not go; nothing if it lives."""
    if not state.path.exists() or not state.claim():
        return []
    with host_lock():
        failures = undo(state.journal("up"))
    state.release()
    return failures


def sweep_private() -> None:
    """Remove what private stacks left whose launcher is dead; no `nuse down` will ever name them."""
    try:
        names = [entry.name for entry in state_root().iterdir()]
    except OSError:
        return
    for name in names:
        match = _PRIVATE.fullmatch(name)
        if match and not os.path.exists(f"/proc/{match[1]}"):
            try:
                sweep(StateDir(name))
            except (OSError, Refused):
                continue
