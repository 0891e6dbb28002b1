"""The option of kind 30 against what Linux put on the wire, and else against the figures of RFC 8684."""

import pytest

from kit.mpsession import capture
from mptcp import options
from mptcp.options import (
    AddAddr,
    Dss,
    Mapping,
    MpCapable,
    MpFail,
    MpFastclose,
    MpJoinAck,
    MpJoinSyn,
    MpJoinSynAck,
    MpPrio,
    MpTcprst,
    RemoveAddr,
)
from stack import Malformed

KEY_A, KEY_B = bytes(range(8)), bytes(range(8, 16))


@pytest.mark.rfc("8684", "3")
def test_every_option_that_linux_sent_comes_out_as_it_went_in():
    wire = [each for segment in capture() for each in segment.options]
    assert len(wire) > 30
    for each in wire:
        assert each[0] == options.KIND
        assert each[1] == len(each)
        parsed = options.parse(each[2:])
        assert parsed.emit() == each


@pytest.mark.rfc("8684", "3.1")
def test_the_handshake_of_linux_says_what_it_means():
    syn, synack, ack = [options.parse(segment.options[0][2:]) for segment in capture()[:3]]
    flags = options.CHECKSUM_REQUIRED | options.HMAC_SHA256
    client, server = bytes.fromhex("639c91007525f54e"), bytes.fromhex("14d35ff49b5e9d08")
    assert syn == MpCapable(flags)
    assert synack == MpCapable(flags, server)
    assert ack == MpCapable(flags, client, server)


@pytest.mark.rfc("8684", "3.1")
def test_mp_capable_with_text_has_a_length_and_perhaps_a_checksum():
    plain = MpCapable(options.HMAC_SHA256, KEY_A, KEY_B, length=1000)
    summed = MpCapable(options.CHECKSUM_REQUIRED | options.HMAC_SHA256, KEY_A, KEY_B, length=1000, checksum=0xBEEF)
    assert plain.emit() == b"\x1e\x16\x01\x01" + KEY_A + KEY_B + b"\x03\xe8"
    assert summed.emit() == b"\x1e\x18\x01\x81" + KEY_A + KEY_B + b"\x03\xe8\xbe\xef"
    for each in (plain, summed):
        assert options.parse(each.emit()[2:]) == each


@pytest.mark.rfc("8684", "3.1")
def test_the_version_is_told_so_that_another_can_be_answered():
    assert options.parse(b"\x00\x01" + KEY_A) == MpCapable(1, KEY_A, version=0)


@pytest.mark.rfc("8684", "3.2")
@pytest.mark.parametrize(
    ("written", "option"),
    [
        ("1e0c10018ea312eaafe37f0d", MpJoinSyn(1, 0x8EA312EA, bytes.fromhex("afe37f0d"))),
        ("1e0c11018ea312eaafe37f0d", MpJoinSyn(1, 0x8EA312EA, bytes.fromhex("afe37f0d"), backup=True)),
        (
            "1e1010019d56851cef802096dde114b5",
            MpJoinSynAck(1, bytes.fromhex("9d56851cef802096"), bytes.fromhex("dde114b5")),
        ),
        (
            "1e1810002fc64648b0dae221b4aa67bf9129878d6724bfe8",
            MpJoinAck(bytes.fromhex("2fc64648b0dae221b4aa67bf9129878d6724bfe8")),
        ),
    ],
)
def test_mp_join_is_told_apart_by_its_length(written, option):
    assert options.parse(bytes.fromhex(written)[2:]) == option
    assert option.emit().hex() == written


@pytest.mark.rfc("8684", "3.3")
@pytest.mark.parametrize(
    ("written", "option"),
    [
        ("1e082001a0097793", Dss(0xA0097793, ack_wide=False)),
        ("1e0c20036a6978b4a00977a1", Dss(0x6A6978B4A00977A1)),
        (
            "1e18200dde25744d6a6978b4a009779300000001000e79b4",
            Dss(0xDE25744D, Mapping(0x6A6978B4A0097793, 1, 14, 0x79B4), ack_wide=False),
        ),
        ("1e0e2004a0097793000000010000", Dss(None, Mapping(0xA0097793, 1, 0, wide=False))),
        ("1e12201c0000000000000007000000000001", Dss(None, Mapping(7, 0, 1), data_fin=True)),
    ],
)
def test_dss_in_both_widths_with_and_without_each_part(written, option):
    assert options.parse(bytes.fromhex(written)[2:]) == option
    assert option.emit().hex() == written


@pytest.mark.rfc("8684", "3.3")
def test_a_data_fin_without_a_mapping_and_a_width_without_a_number_mean_nothing():
    assert options.parse(bytes.fromhex("2011a0097793")) == Dss(0xA0097793, ack_wide=False)
    assert options.parse(bytes.fromhex("200a")) == Dss()


@pytest.mark.rfc("8684", "3.3.1")
def test_numbers_are_cut_to_the_width_on_the_wire():
    dss = Dss(2**64 + 5, Mapping(2**40 + 7, 2**32 + 9, 100, wide=False), ack_wide=False)
    assert options.parse(dss.emit()[2:]) == Dss(5, Mapping(7, 9, 100, wide=False), ack_wide=False)


@pytest.mark.rfc("8684", "3.3")
def test_timestamps_and_a_whole_dss_fill_the_option_space_exactly():
    whole = Dss(1, Mapping(1, 1, 1, 1)).emit()
    assert len(options.pad(whole)) == 28
    assert len(options.pad(Dss(1, Mapping(1, 1, 1)).emit())) == 28


@pytest.mark.rfc("8684", "3.4.1")
@pytest.mark.parametrize("addr", [bytes((10, 77, 2, 2)), bytes(15) + b"\1"])
@pytest.mark.parametrize("port", [0, 8080])
@pytest.mark.parametrize("proof", [None, KEY_A])
def test_add_addr_in_its_eight_sizes(addr, port, proof):
    option = AddAddr(3, addr, port, proof)
    wire = option.emit()
    assert len(wire) == 4 + len(addr) + 2 * bool(port) + 8 * bool(proof)
    assert options.parse(wire[2:]) == option
    assert option.echo is (proof is None)


@pytest.mark.rfc("8684", "3.4.2")
def test_remove_addr_names_one_address_or_more():
    assert RemoveAddr((1,)).emit().hex() == "1e044001"
    assert options.parse(bytes((0x40, 1, 2, 9))) == RemoveAddr((1, 2, 9))
    with pytest.raises(Malformed):
        options.parse(b"\x40")


@pytest.mark.rfc("8684", "3.3.8")
def test_mp_prio_says_backup_or_not():
    assert options.parse(b"\x51") == MpPrio(backup=True)
    assert MpPrio(backup=False).emit().hex() == "1e0350"


@pytest.mark.rfc("8684", "3.7")
def test_mp_fail_carries_the_whole_data_sequence_number():
    assert MpFail(0x0102030405060708).emit().hex() == "1e0c60000102030405060708"
    assert options.parse(bytes.fromhex("60000102030405060708")) == MpFail(0x0102030405060708)


@pytest.mark.rfc("8684", "3.5")
def test_mp_fastclose_carries_the_receivers_key():
    assert MpFastclose(KEY_B).emit() == b"\x1e\x0c\x70\x00" + KEY_B
    assert options.parse(b"\x70\x00" + KEY_B) == MpFastclose(KEY_B)


@pytest.mark.rfc("8684", "3.6")
def test_mp_tcprst_carries_a_reason_and_whether_it_passes():
    assert MpTcprst(options.RST_EMIDDLEBOX, transient=True).emit().hex() == "1e048106"
    assert options.parse(bytes.fromhex("8003")) == MpTcprst(options.RST_EPROHIBIT)


@pytest.mark.rfc("8684", "3")
def test_no_wrong_length_and_no_unknown_subtype_passes():
    right = {
        options.MP_CAPABLE: {2, 10, 18, 20, 22},
        options.MP_JOIN: {10, 14, 22},
        options.ADD_ADDR: {14, 16, 26, 28},
        options.REMOVE_ADDR: set(range(2, 39)),
        options.MP_PRIO: {1},
        options.MP_FAIL: {10},
        options.MP_FASTCLOSE: {10},
        options.MP_TCPRST: {2},
        options.DSS: {2},  # with no flag set
    }
    for subtype in range(16):
        for size in range(1, 39):
            body = bytes((subtype << 4,)) + bytes(size - 1)
            if size in right.get(subtype, set()):
                assert len(options.parse(body).emit()) >= 3
            else:
                with pytest.raises(Malformed):
                    options.parse(body)
    with pytest.raises(Malformed):
        options.parse(b"")


@pytest.mark.rfc("8684", "3.3")
@pytest.mark.parametrize("flags", range(32))
def test_dss_of_every_flag_takes_exactly_its_lengths(flags):
    ack = (8 if flags & 2 else 4) if flags & 1 else 0
    mapped = (8 if flags & 8 else 4) + 6 if flags & 4 else 0
    good = {2 + ack + mapped} | ({4 + ack + mapped} if mapped else set())
    for size in range(2, 39):
        body = bytes((0x20, flags)) + bytes(size - 2)
        if size in good:
            assert isinstance(options.parse(body), Dss)
        else:
            with pytest.raises(Malformed):
                options.parse(body)
