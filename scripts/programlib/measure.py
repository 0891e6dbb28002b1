"""Programs that measure a network."""

import itertools
import json
import subprocess
from typing import Any

from programlib.lab import Failure, Lab, program


def _iperf(lab: Lab, server: "subprocess.Popen[bytes]", number: int, *options: object) -> dict[str, Any]:
    """One test; before each of them the server opens its listener anew, and says so."""
    lab.until(lambda: f"(test #{number})" in lab.said(server), "iperf3 does not listen again", server)
    output = lab.run("iperf3", "-J", "-c", lab.host, *(("-n", "6M") if lab.brief else ("-t", 1)), *options)
    end: dict[str, Any] = json.loads(output)["end"]
    if not end:
        raise Failure(output[-600:])
    return end


@program(needs={"iperf3": "iperf3"}, quick=True)
def iperf3(lab: Lab) -> str:
    """TCP up and down, alone and four at once, and both ways at once; UDP both ways at 50 Mbit/s with little loss."""
    server = lab.serve("iperf3", "-s", "--forceflush", says="Server listening")  # a connection that only asks upsets it
    numbers = itertools.count(1)
    notes = []
    for name, options in (("up", ()), ("down", ("-R",)), ("4 up", ("-P", 4)), ("both", ("--bidir",))):
        end = _iperf(lab, server, next(numbers), *options)
        sent, received = end["sum_sent"]["bytes"], end["sum_received"]["bytes"]
        if not 0 < received <= sent:
            raise Failure(f"{name}: {sent} bytes sent, {received} received")
        notes.append(f"{name} {end['sum_received']['bits_per_second'] / 1e9:.1f}")
    for name, options in (("UDP up", ()), ("UDP down", ("-R",))):
        end = _iperf(lab, server, next(numbers), "-u", "-b", "100M" if lab.brief else "50M", "-l", 1400, *options)
        if end["sum"]["lost_percent"] > 10 or end["sum"]["packets"] < 3000:
            raise Failure(f"{name}: {end['sum']['lost_packets']} of {end['sum']['packets']} lost")
        notes.append(f"{name} lost {end['sum']['lost_packets']}")
    return ", ".join(notes) + " (Gbit/s)"
