"""nuse: a TCP/IP stack in a user process, for unmodified programs (`nuse run`) and for Python programs:

    async with nuse.open_stack() as net:
        reader, writer = await nuse.open_connection("10.64.0.1", 80, stack=net)

What is named here is imported when first used, so that `nuse ss` starts without the stack.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nuse.aio import (
        Network,
        create_connection,
        create_server,
        open_connection,
        open_stack,
        start_server,
    )
    from nuse.loop import run

__all__ = [
    "Network",
    "create_connection",
    "create_server",
    "open_connection",
    "open_stack",
    "run",
    "start_server",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'nuse' has no attribute {name!r}")
    return getattr(import_module("nuse.loop" if name == "run" else "nuse.aio"), name)
