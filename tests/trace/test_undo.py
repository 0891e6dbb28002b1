"""What takes a reduction back and what does not, as Linux's tcp_try_undo_*: RFC 4015, 2883, 3708, 8985."""

import pytest

from stack.tcp.ecn import Ecn

TEN = """
    +0     app    send 40000
    +0     out    .   1:10001/1000
"""


@pytest.mark.rfc("2883", "4")
def test_a_late_ack_with_old_sack_blocks_is_no_dsack(wire):
    """Its first block lies below SND.UNA, but above the number it acknowledges itself."""
    wire.established(sack=True)
    wire.play(
        TEN
        + """
        +10ms  in     .   1:1 ack 4001
        +0     out    .   10001:16001/1000
        +1ms   in     .   1:1 ack 1 <sack 2001:4001>          # left before the one above
        +0     check  TcpExtTCPDSACKRecv == 0 and dsack_dups == 0
        +1ms   in     .   1:1 ack 4001 <sack 2001:3001>
        +0     check  TcpExtTCPDSACKRecv == 1
    """,
        loose=True,
    )


@pytest.mark.rfc("2018", "5")
def test_what_a_late_ack_sacks_is_news(wire):
    wire.established(sack=True)
    wire.play(
        TEN
        + """
        +10ms  in     .   1:1 ack 2001
        +0     out    .   10001:14001/1000
        +0     in     .   1:1 ack 1001 <sack 3001:8001>       # overtaken on its way
        +0     out    .   2001:3001
        +0     check  ca_state == "recovery" and sacked == 5
    """,
        loose=True,
    )


@pytest.mark.rfc("4015", "3")
def test_a_late_original_while_a_retransmission_is_out_undoes_nothing_yet(wire):
    """As in Linux, nothing more is sent again either; when the retransmissions are accounted for, it is undone."""
    wire.established(sack=True, ts=True)
    wire.play(
        """
        +0     app    send 39520
        +0     out    .   1:9881/988
        +10ms  in     .   1:1 ack 1 <TS val ? ecr 10,sack 3953:9881>     # four seem to be lost
        +0     out    .   1:989
        +0     out    .   989:1977
        +0     out    .   1977:2965
        +1ms   in     .   1:1 ack 989 <TS val ? ecr 10,sack 3953:9881>   # the first was late
        +0     check  ca_state == "recovery" and TcpExtTCPTSReorder == 1 and TcpExtTCPPartialUndo == 0
        +1ms   in     .   1:1 ack 2965 <TS val ? ecr 10,sack 3953:9881>
        +0     check  TcpExtTCPPartialUndo == 0 and TcpExtTCPTSReorder == 2
        +1ms   in     .   1:1 ack 9881 <TS val ? ecr 10>
        +0     check  ca_state == "open" and TcpExtTCPFullUndo == 1 and snd_cwnd >= 10 and TcpRetransSegs <= 4
    """,
        loose=True,
    )


@pytest.mark.rfc("3708", "4")
def test_a_duplicate_of_what_was_never_sent_again_undoes_nothing(wire):
    """The network duplicated 4001:5001; what we sent again was needed."""
    wire.established(sack=True)
    wire.play(
        TEN
        + """
        +10ms  in     .   1:1 ack 1 <sack 1001:10001>
        +0     out    .   1:1001
        +1ms   in     .   1:1 ack 1 <sack 4001:5001 1001:10001>
        +0     check  TcpExtTCPDSACKOfoRecv == 1 and ca_state == "recovery"
        +9ms   in     .   1:1 ack 10001
        +0     check  TcpExtTCPDSACKUndo == 0 and TcpExtTCPFullUndo == 0 and snd_cwnd == 7
    """,
        loose=True,
    )


@pytest.mark.rfc("2883", "5")
def test_more_duplicates_than_retransmissions_are_the_networks(wire):
    wire.established(sack=True)
    wire.play(
        TEN
        + """
        +10ms  in     .   1:1 ack 1 <sack 1001:4001>
        +0     out    .   1:1001
        +1ms   in     .   1:1 ack 4001 <sack 2001:4001>                  # two at once: never sent twice
        +0     check  TcpExtTCPDSACKRecv == 1 and dsack_dups == 2
        +0     check  TcpExtTCPDSACKIgnoredDubious == 1 and TcpExtTCPDSACKRecvSegs == 0
    """,
        loose=True,
    )


@pytest.mark.rfc("3708", "4")
def test_dsacks_of_all_that_was_sent_again_undo(wire):
    wire.established(sack=True)
    wire.play(
        TEN
        + """
        +10ms  in     .   1:1 ack 1 <sack 2001:10001>
        +0     out    .   1:2001/1000
        +0     check  snd_ssthresh == 7
        +10ms  in     .   1:1 ack 10001 <sack 1:1001>
        +0     check  ca_state != "recovery" and TcpExtTCPDSACKUndo == 0
        +1ms   in     .   1:1 ack 10001 <sack 1001:2001>
        +0     check  TcpExtTCPDSACKUndo == 1 and snd_cwnd >= 10
    """,
        loose=True,
    )


@pytest.mark.rfc("3168", "6.1.2")
def test_after_a_mark_recovery_may_end_early_but_the_window_stays_down(wire):
    wire.established(sack=True, ts=True)
    wire.conn.ecn = Ecn()
    wire.play(
        """
        +0     app    send 39520
        +0     out    .   1:9881/988
        +10ms  in     .   1:1 ack 1 <TS val ? ecr 10,sack 989:3953>
        +0     out    .   1:989
        +0     check  snd_ssthresh == 7 and ca_state == "recovery"
        +1ms   in     E.  1:1 ack 3953 <TS val ? ecr 10>
        +0     check  TcpExtTCPPartialUndo == 1 and ca_state != "recovery"
        +0     check  snd_ssthresh == 7 and snd_cwnd <= 10
    """,
        loose=True,
    )


@pytest.mark.rfc("8985", "6.2")
def test_losses_beyond_the_end_of_an_episode_begin_the_next_with_the_same_ack(wire):
    wire.established(sack=True)
    wire.play(
        TEN
        + """
        +10ms  in     .   1:1 ack 1 <sack 1001:4001>
        +1ms   in     .   1:1 ack 1 <sack 1001:8001>
        +1ms   in     .   1:1 ack 1 <sack 1001:10001>                 # by now new text has left
        +10ms  in     .   1:1 ack 10001 <sack 11001:14001>
        +0     check  ca_state == "recovery" and TcpExtTCPSackRecovery == 2 and snd_ssthresh == 4
    """,
        loose=True,
    )
    assert wire.conn.tcb.snd_una - wire.conn.tcb.iss == 10001


def test_without_sack_a_spurious_timeout_shown_by_timestamps_keeps_the_state_until_its_end(wire):
    """tcp_try_undo_loss(): a peer without SACK may still send duplicates of what was sent twice."""
    wire.established(ts=True)
    wire.play(
        """
        +0     app    send 9880
        +0     out    .   1:9881/988
        +210ms out    .   1:989
        +1ms   in     .   1:1 ack 1977 <TS val ? ecr 10>
        +0     check  TcpExtTCPLossUndo == 1 and ca_state == "loss" and snd_cwnd >= 10
        +1ms   in     .   1:1 ack 9881 <TS val ? ecr 10>
        +0     check  ca_state != "recovery"
    """,
        loose=True,
    )
