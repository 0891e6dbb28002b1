"""The demo's yardstick: the same curl on the kernel's own TCP, over a veth pair into a namespace of its own."""

import os
import subprocess
from functools import partial
from pathlib import Path

from pyroute2 import IPRoute

from nuse.hostnet import free_number
from nuse.hostnet_netns import inside
from nuse.linkspec import default_link
from nuse.refusal import Refused
from nuse.shim import abi, native


def kernel_curl(curl: str, port: int, copy: Path, options: list[str]) -> str:
    """Run curl in a nameless namespace at the other end of a veth pair. Both end with it. Returns what curl said."""
    with IPRoute() as ip:
        spec = default_link(free_number(ip))
        host, inner = spec.host[0], spec.stack[0]
        command = [curl, "-sS", "-o", str(copy), *options, f"http://{host.ip}:{port}/file"]
        go_r, go_w = os.pipe()
        process = subprocess.Popen(
            ["/bin/sh", "-c", f'read go <&{go_r}; exec "$@"', "sh", *command],
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=(go_r,),
            preexec_fn=partial(native.unshare, abi.CLONE_NEWNET),  # noqa: PLW1509 - we have no threads
        )  # returns after exec, so the namespace is there
        os.close(go_r)
        name = f"nv{process.pid}"
        ip.link("add", ifname=name, kind="veth", peer={"ifname": "eth0", "net_ns_pid": process.pid})
        index = ip.link_lookup(ifname=name)[0]
        ip.addr("add", index=index, address=str(host.ip), prefixlen=24)
        ip.link("set", index=index, state="up")
        with inside(f"/proc/{process.pid}/ns/net"), IPRoute() as there:
            index = there.link_lookup(ifname="eth0")[0]
            there.addr("add", index=index, address=str(inner.ip), prefixlen=24)
            there.link("set", index=index, state="up")
        os.write(go_w, b"\n")
        os.close(go_w)
    said, _ = process.communicate()
    if process.returncode:
        raise Refused(f"curl on the kernel's TCP failed with exit status {process.returncode}")
    return said
