"""Opening a TUN device: every refusal is one line that says what to do."""

import errno

import pytest

from nuse import tun
from nuse.tun import Tun, TunError


class Refusing:
    """python-pytun where the kernel says no."""

    IFF_TUN = IFF_NO_PI = IFF_VNET_HDR = 0

    def __init__(self, code: int) -> None:
        self.code = code

    def TunTapDevice(self, **_: object) -> object:
        raise OSError(self.code, "no")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOENT, "modprobe tun"),
        (errno.EPERM, "CAP_NET_ADMIN"),
        (errno.EBUSY, "'tun0' is in use"),
        (errno.EINVAL, "not a name for a TUN device"),
        (errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_refusals_say_what_to_do(monkeypatch: pytest.MonkeyPatch, code: int, words: str) -> None:
    monkeypatch.setattr(tun, "pytun", Refusing(code))
    with pytest.raises(TunError, match=words) as caught:
        Tun("tun0")
    assert caught.value.errno == code
    assert "\n" not in str(caught.value)


def test_a_long_name_is_refused_before_the_kernel_sees_it() -> None:
    with pytest.raises(TunError, match="longer than 15 bytes"):
        Tun("a-name-of-16-byte")
