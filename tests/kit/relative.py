"""An emitted segment in a script's numbers, to print it and to compare it with what the script said."""

from kit.oracle import Packet, flags_text
from kit.script import ANY, SegmentSpec

PSH, ACK = 8, 16
_ECN = ("", "ect1", "ect0", "ce")


def relative_options(packet: Packet, isn: int, ts_base: int) -> dict[str, list[int]]:
    """Options by their script names, numbers relative: SACK edges to the peer's ISN, TSval to the stack's first."""
    found: dict[str, list[int]] = {}
    for kind, body in packet.options:
        if kind in (2, 3):
            found["mss" if kind == 2 else "wscale"] = [int.from_bytes(body, "big")]
        elif kind == 4:
            found["sackOK"] = []
        elif kind == 5:
            found["sack"] = [edge - isn & 0xFFFFFFFF for block in packet.sack for edge in block]
        elif kind == 8 and packet.timestamps:
            val, ecr = packet.timestamps
            found["TS"] = [val - ts_base & 0xFFFFFFFF, ecr]
        else:
            found[f"kind {kind}"] = list(body)
    return found


def show(packet: Packet, iss: int, isn: int, ts_base: int) -> str:
    """One line in the words of the scripts."""
    seq = packet.seq - iss & 0xFFFFFFFF
    words = [flags_text(packet.flags), f"{seq}:{seq + len(packet.payload)}"]
    if packet.flags & ACK:
        words.append(f"ack {packet.ack - isn & 0xFFFFFFFF}")
    words.append(f"win {packet.win}")
    if packet.tos & 3:
        words.append(_ECN[packet.tos & 3])
    options = []
    for name, numbers in relative_options(packet, isn, ts_base).items():
        if name == "TS":
            options.append(f"TS val {numbers[0]} ecr {numbers[1]}")
        elif name == "sack":
            pairs = zip(numbers[0::2], numbers[1::2], strict=True)
            options.append("sack " + " ".join(f"{left}:{right}" for left, right in pairs))
        else:
            options.append(" ".join([name, *map(str, numbers)]))
    return " ".join(words) + (f" <{','.join(options)}>" if options else "")


def differences(spec: SegmentSpec, packet: Packet, iss: int, isn: int, ts_base: int) -> list[str]:
    """Names of what the script says and the packet does not; payload is the wire's business."""
    wrong = []
    compared = 0xFF if spec.flags & PSH else 0xFF & ~PSH
    if (packet.flags ^ spec.flags) & compared:
        wrong.append("flags")
    if spec.seq is not None and (packet.seq - iss - spec.seq) & 0xFFFFFFFF:
        wrong.append("seq")
    if spec.seq is not None and len(packet.payload) != spec.length:
        wrong.append("length")
    if spec.ack not in (None, ANY) and (packet.ack - isn - (spec.ack or 0)) & 0xFFFFFFFF:
        wrong.append("ack")
    got = (("win", spec.win, packet.win), ("urg", spec.urg, packet.urg), ("ecn", spec.ecn, packet.tos & 3))
    wrong += [name for name, want, have in got if want not in (None, ANY, have)]
    if spec.options is not None:
        wrong += _option_differences(dict(spec.options), relative_options(packet, isn, ts_base))
    return wrong


def _option_differences(wanted: dict[str, list[int]], got: dict[str, list[int]]) -> list[str]:
    for padding in ("nop", "eol"):
        wanted.pop(padding, None)
    wrong = [f"option {name}" for name in set(wanted) ^ set(got)]
    for name in set(wanted) & set(got):
        pairs = list(zip(wanted[name], got[name], strict=False))
        if len(wanted[name]) != len(got[name]) or any(want not in (ANY, have) for want, have in pairs):
            wrong.append(f"option {name}")
    return wrong
