"""Tokens, data sequence numbers, HMACs and checksums against a session of two Linux kernels."""

import pytest

from kit.mpsession import capture, secrets
from mptcp import crypto, options
from mptcp.options import AddAddr, Dss, MpJoinAck, MpJoinSyn, MpJoinSynAck
from stack.checksum import ones_sum
from stack.seq import unwrap

CLIENT = bytes.fromhex(secrets()["client_key"])
SERVER = bytes.fromhex(secrets()["server_key"])


def sent(kind):
    """Every option of a kind in the session, with the segment that carried it."""
    for segment in capture():
        for wire in segment.options:
            option = options.parse(wire[2:])
            if isinstance(option, kind):
                yield segment, option


@pytest.mark.rfc("8684", "3.1")
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_key_makes_a_token_and_a_first_data_sequence_number(side):
    known = secrets()
    key = bytes.fromhex(known[f"{side}_key"])
    assert crypto.token(key) == int(known[f"{side}_token"], 16)
    assert crypto.idsn(key) == int(known[f"{side}_idsn"], 16)


@pytest.mark.rfc("8684", "3.2")
def test_a_join_proves_itself_both_ways():
    (_segment, syn), *_ = sent(MpJoinSyn)
    (_segment, synack), *_ = sent(MpJoinSynAck)
    (_segment, ack), *_ = sent(MpJoinAck)
    assert syn.token == crypto.token(SERVER)
    answer = crypto.join_hmac(SERVER, CLIENT, synack.nonce, syn.nonce)
    assert crypto.same(answer[: crypto.JOIN_SHORT], synack.hmac)
    proof = crypto.join_hmac(CLIENT, SERVER, syn.nonce, synack.nonce)
    assert crypto.same(proof[: crypto.JOIN_LONG], ack.hmac)
    assert not crypto.same(proof[: crypto.JOIN_SHORT], synack.hmac)


@pytest.mark.rfc("8684", "3.4.1")
def test_an_announced_address_is_signed_by_its_sender():
    announced = [option for _segment, option in sent(AddAddr) if not option.echo]
    assert announced
    for option in announced:
        assert option.hmac == crypto.add_addr_hmac(SERVER, CLIENT, option.address_id, option.addr, option.port)
        assert option.hmac != crypto.add_addr_hmac(CLIENT, SERVER, option.address_id, option.addr, option.port)
        assert option.hmac != crypto.add_addr_hmac(SERVER, CLIENT, option.address_id, option.addr, 8080)


@pytest.mark.rfc("8684", "3.3.1")
def test_the_checksum_of_every_mapping_that_linux_sent():
    checked = 0
    for segment, option in sent(Dss):
        mapping = option.mapping
        if mapping is None:
            continue
        own = CLIENT if segment.src.startswith("10.77.1.1:") or segment.src.startswith("10.77.2.1:") else SERVER
        dsn = mapping.dsn if mapping.wide else unwrap(mapping.dsn, crypto.idsn(own))
        text = ones_sum(segment.payload)
        assert mapping.length == len(segment.payload) + option.data_fin
        assert crypto.dss_checksum(dsn, mapping.ssn, mapping.length, text) == mapping.checksum
        assert crypto.dss_sound(dsn, mapping.ssn, mapping.length, text, mapping.checksum)
        assert not crypto.dss_sound(dsn, mapping.ssn, mapping.length, text + 1, mapping.checksum)
        checked += 1
    assert checked >= 12


@pytest.mark.rfc("8684", "3.3.1")
def test_a_checksum_covers_the_whole_data_sequence_number():
    low = crypto.dss_checksum(5, 1, 10, 0)
    assert low != crypto.dss_checksum(5 + 2**40, 1, 10, 0)
    assert low == crypto.dss_checksum(5 + 2**64, 1 + 2**32, 10, 0)


def test_a_checksum_whose_sum_is_zero_is_sound_in_both_of_its_forms():
    assert crypto.dss_checksum(0, 0, 0, 0xFFFF) == 0
    assert crypto.dss_sound(0, 0, 0, 0xFFFF, 0)
    assert crypto.dss_sound(0, 0, 0, 0xFFFF, 0xFFFF)
