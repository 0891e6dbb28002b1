"""A session between two Linux 6.18 kernels, checksums on: what was on the wire, and the secrets behind it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent / "data"
SYN, ACK = 2, 16


@dataclass(frozen=True, slots=True)
class Captured:
    """One segment: sequence numbers as on the wire, its MPTCP options with kind and length."""

    src: str
    dst: str
    seq: int
    flags: int
    options: tuple[bytes, ...]
    payload: bytes

    def opens(self) -> bool:
        """True for a SYN without ACK."""
        return self.flags & (SYN | ACK) == SYN


def secrets() -> dict[str, Any]:
    """Keys, tokens, first data sequence numbers, nonces and HMACs, in hex."""
    found: dict[str, Any] = json.loads((DATA / "mptcp_vectors.json").read_text())
    return found


def capture() -> list[Captured]:
    """All segments, in their order."""
    return [
        Captured(
            each["src"],
            each["dst"],
            each["seq"],
            each["flags"],
            tuple(bytes.fromhex(option) for option in each["mptcp"]),
            bytes.fromhex(each["payload"]),
        )
        for each in json.loads((DATA / "mptcp_capture.json").read_text())
    ]
