"""Letting the links' packets out of the host: forwarding, shared between stacks, and masquerading.

Forwarding is one switch for the whole host. The first stack that needs it notes what it was; the last one to leave puts
that back. Turning IPv6 forwarding on makes the kernel ignore router advertisements, which would cost the host its own
default route; accept_ra=2 keeps them (Linux ip-sysctl: accept_ra).
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

from nuse.statedir import state_root

FORWARD4 = Path("/proc/sys/net/ipv4/ip_forward")
FORWARD6 = Path("/proc/sys/net/ipv6/conf/all/forwarding")
CONF6 = Path("/proc/sys/net/ipv6/conf")
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"


def _tool(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":" + _SBIN)


def nft_path() -> str | None:
    """The nft program, if the host has it."""
    return _tool("nft")


def iptables_path(version: int) -> str | None:
    """The iptables program of an IP version, if the host has it."""
    return _tool("iptables" if version == 4 else "ip6tables")


def here() -> int:
    """The identity of the network namespace that we are in."""
    return os.stat("/proc/self/ns/net").st_ino


def _users_dir(namespace: int) -> Path:
    return state_root() / f".forward-{namespace}"


def enter_forwarding(user: str) -> list[str]:
    """Turn forwarding on, for `user` among others. Returns warnings. The caller holds host_lock()."""
    users = _users_dir(here())
    saved = users / ".saved"
    users.mkdir(mode=0o700, exist_ok=True)
    warnings = []
    if not saved.exists():
        old: dict[str, str] = {}
        wanted = {str(FORWARD4): "1"}
        if FORWARD6.exists():
            for conf in CONF6.iterdir():
                if conf.name not in ("all", "default") and _read(conf / "accept_ra") == "1":
                    wanted[str(conf / "accept_ra")] = "2"
            wanted[str(FORWARD6)] = "1"
        for path in wanted:
            old[path] = _read(Path(path))
        saved.write_text(json.dumps(old))
        for path, value in wanted.items():
            if old[path] != value and not _write(Path(path), value):
                warnings.append(f"cannot set {path} to {value}: packets will not leave this host")
    (users / user).touch()
    return warnings


def leave_forwarding(user: str, namespace: int) -> None:
    """`user` needs forwarding no more; the last one puts back what was, if that can be done from here."""
    users = _users_dir(namespace)
    if not users.is_dir():
        return
    (users / user).unlink(missing_ok=True)
    saved = users / ".saved"
    if any(_alive(entry.name) for entry in users.iterdir() if entry != saved):
        return
    if saved.exists() and namespace == here():
        for path, value in reversed(json.loads(saved.read_text()).items()):
            if _read(Path(path)) != value:
                _write(Path(path), value)
    shutil.rmtree(users, ignore_errors=True)


def _alive(user: str) -> bool:
    """Whether a user's journal still says that it needs forwarding."""
    name, _, kind = user.rpartition(".")
    return (state_root() / name / f"{kind}.journal").exists()


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _write(path: Path, value: str) -> bool:
    try:
        path.write_text(value)
    except OSError:
        return False
    return True


def table_name(stack: str, link: str) -> str:
    """The nft table of one link; nft takes letters, digits, `_` and `.` in a name."""
    return f"nuse_{stack}_{link}".replace("-", "__")


def nft_script(table: str, link: str, networks: dict[int, list[str]]) -> str:
    """Rules that masquerade what comes from the link's networks and leaves by another device."""
    words = {4: "ip", 6: "ip6"}
    rules = "\n".join(
        f'    {words[version]} saddr {network} oifname != "{link}" masquerade'
        for version, found in networks.items()
        for network in found
    )
    return (
        f"add table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n  chain postrouting {{\n"
        f"    type nat hook postrouting priority 100; policy accept;\n{rules}\n  }}\n}}\n"
    )


def run_nft(script: str) -> str:
    """Feed nft; the empty string, or the line that tells why not."""
    nft = nft_path()
    done = subprocess.run([nft or "nft", "-f", "-"], input=script, text=True, check=False, capture_output=True)
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[0]


def iptables_rule(stack: str, link: str, network: str) -> list[str]:
    """The same as a rule of iptables, marked with whose it is."""
    mark = ["-m", "comment", "--comment", f"nuse {stack}"]
    return ["POSTROUTING", "-s", network, "!", "-o", link, *mark, "-j", "MASQUERADE"]
