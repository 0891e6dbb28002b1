"""The device itself: what the kernel agrees to and what it refuses. Each case runs in a namespace of its own."""

import json
import sys

import pytest

SHOW = """
import json, sys
from pathlib import Path
from nuse.tun import Tun, TunError
try:
    tun = Tun({name!r}, offload={offload})
except TunError as exc:
    print(json.dumps({{"errno": exc.errno, "why": exc.strerror}}))
    sys.exit()
import subprocess
shown = subprocess.run(["ip", "-j", "-d", "link", "show", tun.name], capture_output=True, check=True)
link = json.loads(shown.stdout)[0]
subprocess.run(["ip", "link", "set", tun.name, "up"], check=True)
facts = {{"name": tun.name, "txqlen": link["txqlen"], "vnet": link["linkinfo"]["info_data"]["vnet_hdr"]}}
facts["offload"] = tun.offload
facts["written"] = tun.write([bytes(10), b"\\0nonsense"])
while (packet := tun.read()) is not None:
    facts.setdefault("first", packet[10] >> 4)
tun.close()
tun.close()
facts["after"] = tun.read()
print(json.dumps(facts))
"""


def show(netns, name="", offload=True):
    return json.loads(netns.run(sys.executable, "-c", SHOW.format(name=name, offload=offload)).stdout)


@pytest.mark.parametrize("offload", [True, False])
def test_a_device_has_offload_vnet_headers_and_a_long_queue(netns, offload):
    facts = show(netns, "tun7", offload)
    assert (facts["name"], facts["txqlen"], facts["vnet"], facts["offload"]) == ("tun7", 10000, True, offload)
    assert facts["written"] is False, "the kernel refuses what is no packet, and we count it"
    assert facts["after"] is None
    assert "tun7" not in netns.run("ip", "link").stdout


def test_the_kernel_chooses_a_name(netns):
    assert show(netns)["name"].startswith("tun")


def test_an_existing_persistent_device_is_opened_and_left(netns):
    netns.run("ip", "tuntap", "add", "mode", "tun", "name", "tun8", "vnet_hdr")
    assert show(netns, "tun8")["name"] == "tun8"
    assert "tun8" in netns.run("ip", "link").stdout


def test_refusals_name_the_reason(netns):
    netns.run("ip", "tuntap", "add", "mode", "tap", "name", "tap0")
    assert "another kind of device" in show(netns, "tap0")["why"]
    netns.run("ip", "link", "add", "dummy0", "type", "dummy", check=False)
    code = "from nuse.tun import Tun; import subprocess, sys; t = Tun('tun9'); subprocess.run(sys.argv[1:])"
    done = netns.run(sys.executable, "-c", code, sys.executable, "-c", SHOW.format(name="tun9", offload=True))
    assert "in use by another process" in json.loads(done.stdout)["why"]


def test_without_privilege_it_says_so(netns):
    code = SHOW.format(name="tun9", offload=True)
    done = netns.run(
        "setpriv", "--bounding-set=-all", "--inh-caps=-all", "--reuid=65534", sys.executable, "-c", code, check=False
    )
    if not done.stdout:
        pytest.skip("this user cannot run the interpreter here")
    assert "run as root or with CAP_NET_ADMIN" in json.loads(done.stdout)["why"]


def test_a_deleted_device_is_noticed(netns):
    code = """
import asyncio, subprocess, time
import nuse
async def main():
    async with nuse.open_stack() as net:
        (link,) = [link for link in net.stack.links.values() if not link.loopback]
        assert link.up
        await asyncio.to_thread(subprocess.run, ["ip", "link", "del", link.name], check=True)
        try:
            async with asyncio.timeout(5):
                await net.open_connection(str(net.host_addresses[0]), 9)
        except OSError:
            pass
        assert not link.up
        begun = time.process_time()
        await asyncio.sleep(0.3)
        assert time.process_time() - begun < 0.1
        try:
            await net.open_connection(str(net.host_addresses[0]), 9)
        except OSError as exc:
            print(exc.strerror)
nuse.run(main())
"""
    assert "ENETUNREACH" in netns.run(sys.executable, "-c", code).stdout
