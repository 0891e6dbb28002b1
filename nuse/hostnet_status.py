"""What there is of a stack's links in the host, in one line each."""

from pyroute2 import IPRoute, netns

from nuse.hostnet_nat import FORWARD4
from nuse.linkspec import LinkSpec
from nuse.statedir import StateDir


def status_lines(state: StateDir, links: list[LinkSpec]) -> list[str]:
    """Lines for scripts/setup-tun.sh status."""
    lines = []
    with IPRoute() as ip:
        for spec in links:
            found = ip.link_lookup(ifname=spec.name)
            if not found:
                lines.append(f"{spec.name}: missing (run `setup-tun.sh up` again)")
                continue
            there = ", ".join(f"{a.get_attr('IFA_ADDRESS')}/{a['prefixlen']}" for a in ip.get_addr(index=found[0]))
            stack = ", ".join(map(str, spec.stack))
            lines.append(f"{spec.name}: mtu {spec.mtu}, host {there or 'without address'}, stack {stack}")
    if state.name in netns.listnetns():
        lines.append(f"namespace {state.name}: nuse0 shows the stack's addresses")
    lines.append(f"forwarding {'on' if FORWARD4.read_text().strip() == '1' else 'off'}")
    pid = state.holder()
    lines.append(f"stack {state.name}: " + (f"running, pid {pid}" if pid else "not running"))
    return lines
