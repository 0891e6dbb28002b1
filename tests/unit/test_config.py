"""Sysctls under Linux's names: text in, checked value out."""

import errno

import pytest

from stack.config import Sysctl, sysctl_get, sysctl_help, sysctl_items, sysctl_names, sysctl_set
from stack.errors import StackError, UnknownSysctl


def test_every_default_is_a_value_that_set_would_take():
    knobs = Sysctl()
    for name, value in sysctl_items(knobs):
        text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert sysctl_set(knobs, name, text) == value


def test_every_sysctl_has_help_and_a_namespace():
    for name in sysctl_names():
        assert name.startswith(("net.ipv4.", "net.ipv6.", "net.core.", "net.mptcp.", "nuse."))
        assert sysctl_help(name)["help"]


def test_set_changes_one_stack_only():
    first, second = Sysctl(), Sysctl()
    assert sysctl_set(first, "net.ipv4.tcp_sack", "0") == 0
    assert sysctl_get(first, "net.ipv4.tcp_sack") == 0
    assert second.tcp_sack == 1


def test_slashes_are_dots_as_in_proc():
    assert sysctl_get(Sysctl(), "net/ipv4/tcp_sack") == 1


def test_triples_take_three_rising_numbers():
    knobs = Sysctl()
    assert sysctl_set(knobs, "net.ipv4.tcp_rmem", "4096 65536 1000000") == (4096, 65536, 1000000)
    assert sysctl_set(knobs, "net.ipv4.tcp_rmem", "4096,65536,1000000") == (4096, 65536, 1000000)
    for text in ("4096", "3 2 1", "1 2 3 4", ""):
        with pytest.raises(UnknownSysctl) as caught:
            sysctl_set(knobs, "net.ipv4.tcp_rmem", text)
        assert caught.value.errno == errno.EINVAL
    assert knobs.tcp_rmem == (4096, 65536, 1000000)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("net.ipv4.tcp_sack", "2"),
        ("net.ipv4.tcp_sack", "-1"),
        ("net.ipv4.tcp_sack", "yes"),
        ("net.ipv4.tcp_sack", "1 1"),
        ("net.ipv4.ip_default_ttl", "0"),
        ("net.ipv4.ip_default_ttl", "256"),
        ("net.ipv4.tcp_congestion_control", "vegas9"),
    ],
)
def test_a_value_out_of_bounds_is_einval_and_changes_nothing(name, text):
    knobs = Sysctl()
    before = sysctl_get(knobs, name)
    with pytest.raises(StackError) as caught:
        sysctl_set(knobs, name, text)
    assert caught.value.errno == errno.EINVAL
    assert sysctl_get(knobs, name) == before


def test_an_unknown_name_names_the_nearest():
    with pytest.raises(UnknownSysctl, match=r"did you mean 'net\.ipv4\.tcp_sack'") as caught:
        sysctl_set(Sysctl(), "net.ipv4.tcp_sak", "1")
    assert caught.value.errno == errno.ENOENT


def test_congestion_controls_on_offer_exist():
    from stack.tcp.cc import CONGESTION_CONTROLS

    assert set(sysctl_help("net.ipv4.tcp_congestion_control")["choices"]) == set(CONGESTION_CONTROLS)
