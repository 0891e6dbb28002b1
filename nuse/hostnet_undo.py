"""Taking away what a journal says was made in the host; the last made goes first.

Every step may already be gone: the user removed it, the crash came before it was made, or the kernel removed it with
the process. Devices, addresses and tables belong to a network namespace: a journal begun in another one (its `host`
step says which) is not allowed to touch the like-named things of this one.
"""

import contextlib
import logging
import subprocess
from collections.abc import Callable
from pathlib import Path

from pyroute2 import IPRoute, NetlinkError, netns

from nuse.hostnet_nat import here, leave_forwarding, nft_path
from nuse.statedir import Journal, Step

log = logging.getLogger("nuse.hostnet")


def undo(journal: Journal) -> list[str]:
    """Take away everything in the journal. Returns one line for each thing that refused to go."""
    failures = []
    elsewhere = any(step["netns"] != here() for step in journal.find("host"))
    for step in reversed(journal.steps):
        kind = step["kind"]
        if elsewhere and kind in _OF_THE_HOST:
            continue
        try:
            _UNDO[kind](step)
        except (OSError, NetlinkError, subprocess.SubprocessError, KeyError) as exc:
            failures.append(f"{kind} {step.get('name', step.get('path', ''))}: {exc}")
    journal.forget()
    return failures


def _undo_link(step: Step) -> None:
    with IPRoute() as ip:
        for index in ip.link_lookup(ifname=step["name"], kind="tun"):
            ip.link("del", index=index)


def _undo_addr(step: Step) -> None:
    address, _, prefix = step["address"].partition("/")
    with IPRoute() as ip, contextlib.suppress(NetlinkError):
        for index in ip.link_lookup(ifname=step["name"]):
            ip.addr("del", index=index, address=address, prefixlen=int(prefix))


def _undo_netns(step: Step) -> None:
    if step["name"] in netns.listnetns():
        netns.remove(step["name"])


def _undo_file(step: Step) -> None:
    Path(step["path"]).unlink(missing_ok=True)


def _undo_dir(step: Step) -> None:
    with contextlib.suppress(OSError):  # not empty: somebody else uses it by now
        Path(step["path"]).rmdir()


def _undo_sysctl(step: Step) -> None:
    with contextlib.suppress(FileNotFoundError):
        Path(step["path"]).write_text(step["old"])


def _undo_nft(step: Step) -> None:
    nft = nft_path()
    if nft:
        # `add` first: deleting a table that is not there is an error, adding one that is, is not.
        script = f"add table inet {step['name']}\ndelete table inet {step['name']}\n"
        subprocess.run([nft, "-f", "-"], input=script, text=True, check=True, capture_output=True)


def _undo_iptables(step: Step) -> None:
    subprocess.run([step["tool"], "-w", "-t", "nat", "-D", *step["rule"]], check=False, capture_output=True)


_UNDO: dict[str, Callable[[Step], None]] = {
    "host": lambda step: None,
    "plan": lambda step: None,
    "link": _undo_link,
    "addr": _undo_addr,
    "netns": _undo_netns,
    "file": _undo_file,
    "dir": _undo_dir,
    "sysctl": _undo_sysctl,
    "forward": lambda step: leave_forwarding(step["name"], step["netns"]),
    "nft": _undo_nft,
    "iptables": _undo_iptables,
}
_OF_THE_HOST = {"link", "addr", "sysctl", "nft", "iptables"}
