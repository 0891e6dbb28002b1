"""The MSS: what a route, the program and tcp_min_snd_mss make of it. RFC 9293 §3.7.1, RFC 6691."""

import errno

import pytest

from kit.wire import PEER4, PEER6
from stack.errors import StackError
from stack.ip.route import Entry

ONCE = "v4 v6"


def add_route(wire, **attributes):
    """A route to the peer alone."""
    peer = PEER6 if wire.v6 else PEER4
    link = next(link for link in wire.stack.links.values() if not link.loopback)
    wire.stack.routes.add(Entry(peer, len(peer) * 8, link, **attributes))


@pytest.mark.rfc("9293", "3.7.1")
@pytest.mark.wire(only=ONCE)
def test_a_syn_says_what_the_route_says(wire):
    """`ip route … advmss 700`; what we may send is the peer's to say."""
    add_route(wire, advmss=700)
    wire.play("""
        +0     app    connect
        +0     out    S   0:0 <mss 700,sackOK,TS val ? ecr ?,nop,wscale ?>
        +10ms  in     S.  0:0 ack 1 <mss 1000>
        +0     out    .   1:1 ack 1
        +0     app    send 2000
        +0     out    .   1:2001/1000
        +0     check  advmss == 700 and snd_mss == 1000
    """)


@pytest.mark.rfc("9293", "3.7.1")
@pytest.mark.wire(
    only=ONCE, sysctl={"net.ipv4.tcp_timestamps": "0", "net.ipv4.tcp_window_scaling": "0", "net.ipv4.tcp_sack": "0"}
)
@pytest.mark.parametrize("cookies", [1, 2])
def test_a_syn_ack_as_well_also_behind_a_cookie(wire, cookies):
    wire.stack.sysctl.tcp_syncookies = cookies
    add_route(wire, advmss=700)
    wire.play("""
        +0     app    listen
        +0     in     S   0:0 <mss 1000>
        +0     out    S.  0:0 ack 1 <mss 700>
        +10ms  in     .   1:1 ack 1
        +0     app    accept
        +0     check  state is ESTABLISHED and advmss == 700
    """)


@pytest.mark.rfc("9293", "3.7.1")
@pytest.mark.wire(only=ONCE)
@pytest.mark.parametrize(("maxseg", "advmss", "told"), [(600, 700, 600), (800, 700, 700), (0, 3000, 3000)])
def test_the_lesser_of_route_and_program(wire, maxseg, advmss, told):
    """TCP_MAXSEG bounds; a route may say more than the link can take, as in Linux."""
    add_route(wire, advmss=advmss)
    wire.options.maxseg = maxseg
    wire.play(f"""
        +0     app    connect
        +0     out    S   0:0 <mss {told},sackOK,TS val ? ecr ?,nop,wscale ?>
    """)


@pytest.mark.rfc("6691", "2")
@pytest.mark.wire(only=ONCE)
def test_a_routes_mtu_bounds_what_we_advertise(wire):
    add_route(wire, mtu=1300)
    told = 1240 if wire.v6 else 1260
    wire.play(f"""
        +0     app    connect
        +0     out    S   0:0 <mss {told},sackOK,TS val ? ecr ?,nop,wscale ?>
        +10ms  in     S.  0:0 ack 1 <mss 1460>
        +0     out    .   1:1 ack 1
        +0     check  snd_mss == {told}
    """)


@pytest.mark.rfc("9293", "3.7.1")
@pytest.mark.wire(only=ONCE)
@pytest.mark.parametrize(("least", "peer", "used"), [(48, 20, 48), (200, 20, 200), (48, 88, 88), (600, 536, 600)])
def test_no_peer_gets_us_below_tcp_min_snd_mss(wire, least, peer, used):
    """A peer that wants a byte a segment would make us send a header for each (CVE-2019-11479)."""
    wire.stack.sysctl.tcp_min_snd_mss = least
    wire.play(f"""
        +0     app    connect
        +0     out    S   0:0
        +10ms  in     S.  0:0 ack 1 <mss {peer}>
        +0     out    .   1:1 ack 1
        +0     check  snd_mss == {used}
    """)


@pytest.mark.parametrize("advmss", [47, 65496, -1])
def test_nonsense_is_refused(wire, advmss):
    with pytest.raises(StackError) as caught:
        add_route(wire, advmss=advmss)
    assert caught.value.errno == errno.EINVAL
