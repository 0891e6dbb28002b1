"""Lines as ip(8), nstat(8) and sysctl(8) print them, from what the debug socket says. Pure: rows in, text out."""

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]

COUNTER_WIDTH = 32


def link_lines(links: Iterable[Row], *, stats: bool = False) -> list[str]:
    """`ip -s addr`: what each link is, holds and did, and how it is impaired."""
    lines = []
    for link in links:
        flags = ",".join(_flags(link))
        state = "UP" if link["up"] else "DOWN"
        offload = "on" if link["offload"] else "off"
        lines.append(f"{link['index']}: {link['name']}: <{flags}> mtu {link['mtu']} state {state} offload {offload}")
        for address in link["addrs"]:
            lines.append(f"    {'inet6' if ':' in address else 'inet'} {address}")
        for direction, figures in link["impair"].items():
            lines.append(f"    impair {direction} {figures['spec']}")
        if stats:
            lines += _stats_lines(link)
    return lines


def _flags(link: Row) -> list[str]:
    flags = ["LOOPBACK" if link["name"] == "lo" else "POINTOPOINT"]
    return [*flags, "UP", "LOWER_UP"] if link["up"] else flags


def _stats_lines(link: Row) -> list[str]:
    """Counters in the columns of `ip -s link`, and what an impairment did."""
    figures = link["stats"]
    lines = []
    for side, extra in (("rx", "rx_errors"), ("tx", "device_write_errors")):
        heads = [f"{side.upper()}:  bytes", "packets", "errors", "dropped"]
        dropped = figures.get(f"{side}_dropped", 0)
        values = [figures[f"{side}_bytes"], figures[f"{side}_packets"], figures.get(extra, 0), dropped]
        widths = [max(len(head), len(str(value))) for head, value in zip(heads, values, strict=True)]
        lines.append("    " + " ".join(head.rjust(width) for head, width in zip(heads, widths, strict=True)))
        lines.append("    " + " ".join(str(value).rjust(width) for value, width in zip(values, widths, strict=True)))
    for direction, counted in link["impair"].items():
        words = " ".join(f"{name} {value}" for name, value in counted.items() if name != "spec" and value)
        if words:
            lines.append(f"    impaired {direction}: {words}")
    return lines


def link_json(link: Row) -> dict[str, Any]:
    """A link as `ip -j -s addr` has it, with ours (`offload`, `impair`) beside."""
    stats = link["stats"]
    return {
        "ifindex": link["index"],
        "ifname": link["name"],
        "flags": _flags(link),
        "mtu": link["mtu"],
        "operstate": "UP" if link["up"] else "DOWN",
        "addr_info": [_address_json(address) for address in link["addrs"]],
        "stats64": {
            "rx": {word: stats.get(f"rx_{word}", 0) for word in ("bytes", "packets", "errors", "dropped")},
            "tx": {word: stats.get(f"tx_{word}", 0) for word in ("bytes", "packets", "errors", "dropped")},
        },
        "offload": link["offload"],
        "impair": link["impair"],
    }


def _address_json(text: str) -> dict[str, Any]:
    local, _, length = text.partition("/")
    return {"family": "inet6" if ":" in local else "inet", "local": local, "prefixlen": int(length)}


def route_lines(routes: Iterable[Row]) -> list[str]:
    """`ip route`, then `ip -6 route`."""
    lines: dict[str, list[str]] = {"inet": [], "inet6": []}
    for route in routes:
        words = [route["dst"]]
        if route.get("type", "unicast") != "unicast":
            words.insert(0, route["type"])
        if route["via"]:
            words += ["via", route["via"]]
        words += ["dev", route["dev"]]
        if route.get("src"):
            words += ["src", route["src"]]
        if route["metric"]:
            words += ["metric", str(route["metric"])]
        if route.get("mtu"):
            words += ["mtu", str(route["mtu"])]
        if route.get("advmss"):
            words += ["advmss", str(route["advmss"])]
        lines[route["family"]].append(" ".join(words))
    return lines["inet"] + lines["inet6"]


def route_json(route: Row) -> dict[str, Any]:
    """A route as `ip -j route` has it."""
    found = {"dst": route["dst"], "dev": route["dev"], "metric": route["metric"], "family": route["family"]}
    found |= {"gateway": route["via"]} if route["via"] else {}
    return found | ({"prefsrc": route["src"]} if route.get("src") else {})


def counter_lines(counters: Mapping[str, int]) -> list[str]:
    """`nstat`: the header and a line each. The rate column is 0.0 there too, without its daemon."""
    return ["#kernel", *(f"{name:<{COUNTER_WIDTH}}{value:<16d}{0.0:>6.1f}" for name, value in counters.items())]


def choose_counters(
    counters: Mapping[str, int], *, since: Mapping[str, int], zeros: bool, patterns: Sequence[str]
) -> dict[str, int]:
    """Counters less what they were, without those that are zero unless `zeros`, only those matching a pattern."""
    found = {}
    for name, value in counters.items():
        grown = value - since.get(name, 0)
        if (grown or zeros) and (not patterns or any(fnmatch.fnmatchcase(name, p) for p in patterns)):
            found[name] = grown
    return found


def sysctl_text(value: object) -> str:
    """A value as `sysctl` prints it: several numbers with tabs between."""
    return "\t".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
