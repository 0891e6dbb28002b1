"""Link SPECs and nuse.toml: what is understood, and that each refusal names what was wrong."""

from ipaddress import ip_interface

import pytest

from nuse.config import Config, ConfigError, impair_targets, load_toml, set_sysctl_word
from nuse.linkspec import check_links, default_link, parse_link_spec

FULL = "tun0,stack=10.64.0.2/24,stack6=fd64::2/64,host=10.64.0.1/24,host6=fd64::1/64,mtu=1500"


def toml(tmp_path, text):
    path = tmp_path / "nuse.toml"
    path.write_text(text)
    return load_toml(path)


def test_a_bare_name_is_a_link_of_the_plan():
    assert str(parse_link_spec("tun0")) == FULL
    assert str(parse_link_spec("tun3")) == str(default_link(3))
    assert default_link(3).stack == [ip_interface("10.64.3.2/24"), ip_interface("fd64:3::2/64")]


@pytest.mark.parametrize(
    "spec",
    [
        FULL,
        "up-link,stack=192.0.2.2/30,host=192.0.2.1/30,mtu=9000,backup,fullmesh",
        "tun7,stack=10.0.0.2/24,stack=10.0.1.2/24,stack6=fd00::2/64,mtu=1280,signal,subflow",
        "tun1,stack=10.0.0.2/24,mtu=576,impair=delay 20ms loss 1%",
    ],
)
def test_a_spec_prints_as_what_parses_to_it(spec):
    assert str(parse_link_spec(spec)) == spec
    assert str(parse_link_spec(str(parse_link_spec(spec)))) == spec


def test_host_may_be_left_out():
    link = parse_link_spec("tun0,stack=10.64.0.2/24")
    assert link.host == []
    assert link.gateway(4) is None


def test_a_small_mtu_means_no_ipv6_by_default():
    assert [a.version for a in parse_link_spec("tun0,mtu=1279").stack] == [4]
    assert [a.version for a in parse_link_spec("tun0,mtu=1280").stack] == [4, 6]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("", "starts with a device name"),
        ("mtu=1400", "starts with a device name"),
        ("tun0,mtx=1400", "did you mean 'mtu'"),
        ("tun0,backupp", "did you mean 'backup'"),
        ("tun0,mtu=575", "outside 576..65535"),
        ("tun0,mtu=65536", "outside 576..65535"),
        ("tun0,mtu=-1", "not a number"),
        ("tun0,mtu=", "not a number"),
        ("tun0,mtu", "wants a value"),
        ("tun0,mtu=1400,mtu=1500", "given twice"),
        ("tun0,backup=yes", "takes no value"),
        ("tun0,mtu=1279,stack6=fd64::2/64", "IPv6 needs 1280"),
        ("tun0,stack=10.64.0.2", "prefix length is missing"),
        ("tun0,stack=10.64.0.2/33", "not an address"),
        ("tun0,stack=banana/24", "not an address"),
        ("tun0,stack6=10.64.0.2/24", "use stack="),
        ("tun0,stack=224.0.0.1/24", "not an address that a link can hold"),
        ("tun0,host=10.64.0.1/24", "no stack= address"),
        ("tun0,stack=10.64.0.2/24,host=10.64.0.2/24", "both the host's and the stack's"),
        ("tun0,stack=10.64.0.2/24,host=10.65.0.1/24", "in no network"),
        ("wg0", "no stack= address"),
        ("tun256", "no stack= address"),
        ("a-name-of-16-chars", "not a device name"),
        ("tun/0", "not a device name"),
        ("lo", "taken by nuse itself"),
        ("tun0,signal,fullmesh", "signal and fullmesh exclude each other in link tun0"),
    ],
)
def test_a_bad_spec_is_one_clear_line(spec, words):
    with pytest.raises(ConfigError) as caught:
        parse_link_spec(spec)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_links_must_not_share_names_or_addresses():
    with pytest.raises(ConfigError, match="given twice"):
        check_links([default_link(0), default_link(0)])
    with pytest.raises(ConfigError, match=r"10.64.0.2 is on two links: tun0 and tun1"):
        check_links([default_link(0), parse_link_spec("tun1,stack=10.64.0.2/24")])


def test_toml_says_everything_the_command_line_does(tmp_path):
    config = toml(
        tmp_path,
        """
        [stack]
        name = "lab"
        offload = false
        cc = "reno"
        [[link]]
        name = "tun4"
        mtu = 1400
        backup = true
        impair = "delay 20ms"
        [[link]]
        name = "tun5"
        stack = ["10.0.0.2/24", "10.0.1.2/24"]
        host = "10.0.0.1/24"
        [[link]]
        spec = "tun6,mtu=9000"
        [sysctl]
        net.ipv4.tcp_sack = 0
        "net.ipv4.tcp_rmem" = [4096, 131072, 6291456]
        [mptcp]
        mode = "off"
        [shim]
        netns = "host"
        rules = ["kernel to 10.0.0.0/8", "mptcp"]
        loopback = "kernel"
        [gateway]
        enabled = false
        [debug]
        log = "debug"
        """,
    )
    assert (config.name, config.offload, config.mptcp, config.run_netns, config.log) == (
        "lab", False, "off", "host", "debug",
    )  # fmt: skip
    assert (config.rules, config.loopback) == (["kernel to 10.0.0.0/8", "mptcp"], "kernel")
    assert [link.name for link in config.links] == ["tun4", "tun5", "tun6"]
    assert (config.links[0].mtu, config.links[0].backup, config.links[0].impair) == (1400, True, "delay 20ms")
    assert len(config.links[1].stack) == 2
    knobs = config.knobs()
    assert (knobs.tcp_sack, knobs.tcp_congestion_control, knobs.tcp_rmem) == (0, "reno", (4096, 131072, 6291456))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[stak]", "unknown section 'stak'; did you mean 'stack'?"),
        ("[stack]\nnmae = 'x'", "unknown key 'nmae' in [stack]; did you mean 'name'?"),
        ("[[link]]\nname='tun0'\nmtuu = 1", "unknown key 'mtuu' in [[link]] tun0; did you mean 'mtu'?"),
        ("[link]\nname='tun0'", "two brackets"),
        ("[sysctl]\nnet.ipv4.tcp_sakc = 1", "did you mean 'net.ipv4.tcp_sack'"),
        ("[sysctl]\nnet.ipv4.tcp_sack = 7", "outside 0..1"),
        ("[stack]\noffload = 'yes'", "true or false"),
        ("[stack]\nname = 'a/b'", "not a name for a stack"),
        ("[stack]\ncc = 'vegas'", "none of cubic, reno"),
        ("[mptcp]\nmode = 'maybe'", "none of auto, on, off"),
        ("[shim]\nrules = 'kernel'", "a list of rules belongs here"),
        ("[shim]\nrules = ['kernel', 'kernel by udp']", "rule 'kernel by udp': 'by' is none of tcp, udp"),
        ("[shim]\nloopback = 'host'", "none of stack, kernel"),
        ("[gateway]\nenabled = true", "no gateway in this version"),
        ("[debug]\nlog = 'loud'", "none of debug, info"),
        ("[[link]]\nname='tun0'\nimpair='dealy 20ms'", "tun0"),
        ("[[link]]\nname='tun0'\n[[link]]\nname='tun0'", "given twice"),
        ("stack = 1", "is a section"),
        ("= nonsense", "nuse.toml"),
    ],
)
def test_a_bad_file_is_one_line_that_names_the_file(tmp_path, text, words):
    with pytest.raises(ConfigError) as caught:
        toml(tmp_path, text)
    assert words in str(caught.value)
    assert "nuse.toml: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nuse.toml: No such file"):
        load_toml(tmp_path / "nuse.toml")


def test_a_sysctl_word_needs_a_value():
    config = Config()
    set_sysctl_word(config, "net/ipv4/tcp_sack=0")
    assert config.knobs().tcp_sack == 0
    with pytest.raises(ConfigError, match="wants NAME=VALUE"):
        set_sysctl_word(config, "net.ipv4.tcp_sack")


def test_impair_names_a_link_or_means_all():
    links = [default_link(0), default_link(1)]
    assert impair_targets(links, "tun1 delay 20ms") == ([links[1]], "delay 20ms")
    assert impair_targets(links, "delay 20ms") == (links, "delay 20ms")
    with pytest.raises(ConfigError):
        impair_targets(links, "tun9 delay 20ms")


def test_the_error_of_a_bad_impairment_comes_before_anything_is_made():
    config = Config(impair=["loss 101%"])
    with pytest.raises(ConfigError):
        config.check()


@pytest.mark.parametrize("name", ["lia", "olia", "balia", "wvegas"])
def test_coupled_congestion_controls_are_known(name):
    config = Config()
    set_sysctl_word(config, f"net.ipv4.tcp_congestion_control={name}")
    assert config.knobs().tcp_congestion_control == name
    assert name in config.knobs().tcp_allowed_congestion_control.split()
