"""Every state against every kind of segment: what is said, where it leads (RFC 9293 §3.10.7 with RFC 5961, as Linux).

A row is: kind of segment, answer, state afterwards, errno if the connection died, `readable` if text was taken. An
answer `R` takes its number from the segment's ACK. Numbers are relative; `nxt` is what the peer sends next.
"""

import errno
import re

import pytest

from kit.trace import Trace

pytestmark = [pytest.mark.wire(only="v4 v6"), pytest.mark.rfc("9293", "3.10.7")]

# State: (how to get there, the peer's next number, what it has acknowledged of ours)
OPENINGS = {
    "CLOSED": ("", 1, 1),
    "LISTEN": ("+0 app listen", 0, 0),
    "SYN_SENT": ("+0 app connect\n+0 out S 0:0", 0, 1),
    "SYN_RECEIVED": ("+0 app listen\n+0 in S 0:0 <mss 1000>\n+0 out S. 0:0 ack 1", 1, 1),
    "SYN_RECEIVED crossing": ("+0 app connect\n+0 out S 0:0\n+5ms in S 0:0 <mss 1000>\n+0 out S. 0:0 ack 1", 1, 1),
    "ESTABLISHED": ("", 1, 1),
    "FIN_WAIT_1": ("+0 app shutdown\n+0 out F. 1:1", 1, 1),
    "FIN_WAIT_2": ("+0 app shutdown\n+0 out F. 1:1\n+10ms in . 1:1 ack 2", 1, 2),
    "CLOSE_WAIT": ("+0 in F. 1:1 ack 1\n+0 out . 1:1 ack 2", 2, 1),
    "CLOSING": ("+0 app shutdown\n+0 out F. 1:1\n+10ms in F. 1:1 ack 1\n+0 out . 2:2 ack 2", 2, 1),
    "LAST_ACK": ("+0 in F. 1:1 ack 1\n+0 out . 1:1 ack 2\n+0 app shutdown\n+0 out F. 1:1 ack 2", 2, 1),
    "TIME_WAIT": (
        "+0 app shutdown\n+0 out F. 1:1\n+10ms in . 1:1 ack 2\n+10ms in F. 1:1 ack 2\n+0 out . 2:2 ack 2",
        2,
        2,
    ),
}
UNSYNCHRONIZED = ("CLOSED", "LISTEN", "SYN_SENT", "SYN_RECEIVED", "SYN_RECEIVED crossing")


def segment(kind: str, nxt: int, ack: int) -> str:
    """The segment of that kind, as a script writes it; the window is 64 KB, so 200,000 ahead is outside."""
    isn = max(nxt - 1, 0)
    return {
        "SYN": f"S {nxt}:{nxt}",
        "SYN new": f"S {nxt + 50000}:{nxt + 50000}",
        "SYN-ACK": f"S. {isn}:{isn} ack {ack}",
        "RST exact": f"R {nxt}:{nxt}",
        "RST window": f"R {nxt + 100}:{nxt + 100}",
        "RST outside": f"R {nxt + 200000}:{nxt + 200000}",
        "RST-ACK": f"R. {nxt}:{nxt} ack {ack}",
        "ACK": f". {nxt}:{nxt} ack {ack}",
        "ACK old": f". {nxt}:{nxt} ack {ack - 70000}",
        "ACK future": f". {nxt}:{nxt} ack {ack + 5000}",
        "ACK outside": f". {nxt + 200000}:{nxt + 200000} ack {ack}",
        "no ACK": f"P {nxt}:{nxt + 100}",
        "text": f"P. {nxt}:{nxt + 100} ack {ack}",
        "text ahead": f". {nxt + 1000}:{nxt + 1100} ack {ack}",
        "text outside": f". {nxt + 200000}:{nxt + 200100} ack {ack}",
        "text old": f". {nxt - 500}:{nxt - 400} ack {ack}",
        "FIN": f"F. {nxt}:{nxt} ack {ack}",
        "FIN of our FIN": f". {nxt}:{nxt} ack {ack + 1}",
    }[kind]


REACTIONS = {
    "CLOSED": """
        SYN             R. ack 2            CLOSED
        SYN new         R. ack 50002        CLOSED
        SYN-ACK         R                   CLOSED
        RST exact       nothing             CLOSED
        RST window      nothing             CLOSED
        RST outside     nothing             CLOSED
        RST-ACK         nothing             CLOSED
        ACK             R                   CLOSED
        ACK old         R                   CLOSED
        ACK future      R                   CLOSED
        ACK outside     R                   CLOSED
        no ACK          R. ack 101          CLOSED
        text            R                   CLOSED
        text ahead      R                   CLOSED
        text outside    R                   CLOSED
        text old        R                   CLOSED
        FIN             R                   CLOSED
        FIN of our FIN  R                   CLOSED
    """,
    "LISTEN": """
        SYN             S. 0:0 ack 1        SYN_RECEIVED
        SYN new         S. 0:0 ack 50001    SYN_RECEIVED
        SYN-ACK         R                   LISTEN
        RST exact       nothing             LISTEN
        RST window      nothing             LISTEN
        RST outside     nothing             LISTEN
        RST-ACK         nothing             LISTEN
        ACK             R                   LISTEN
        ACK old         R                   LISTEN
        ACK future      R                   LISTEN
        ACK outside     R                   LISTEN
        no ACK          nothing             LISTEN
        text            R                   LISTEN
        text ahead      R                   LISTEN
        text outside    R                   LISTEN
        text old        R                   LISTEN
        FIN             R                   LISTEN
        FIN of our FIN  R                   LISTEN
    """,
    "SYN_SENT": """
        SYN             S. 0:0 ack 1        SYN_RECEIVED
        SYN new         S. 0:0 ack 50001    SYN_RECEIVED
        SYN-ACK         . 1:1 ack 1         ESTABLISHED
        RST exact       nothing             SYN_SENT
        RST window      nothing             SYN_SENT
        RST outside     nothing             SYN_SENT
        RST-ACK         nothing             CLOSED ECONNREFUSED
        ACK             nothing             SYN_SENT
        ACK old         R                   SYN_SENT
        ACK future      R                   SYN_SENT
        ACK outside     nothing             SYN_SENT
        no ACK          nothing             SYN_SENT
        text            nothing             SYN_SENT
        text ahead      nothing             SYN_SENT
        text outside    nothing             SYN_SENT
        text old        nothing             SYN_SENT
        FIN             nothing             SYN_SENT
        FIN of our FIN  R                   SYN_SENT
    """,
    "SYN_RECEIVED": """
        SYN             R. ack 2            LISTEN
        SYN new         R. ack 50002        LISTEN
        SYN-ACK         . 1:1 ack 1         SYN_RECEIVED
        RST exact       nothing             LISTEN
        RST window      . 1:1 ack 1         SYN_RECEIVED
        RST outside     nothing             SYN_RECEIVED
        RST-ACK         nothing             LISTEN
        ACK             nothing             ESTABLISHED
        ACK old         R                   SYN_RECEIVED
        ACK future      R                   SYN_RECEIVED
        ACK outside     . 1:1 ack 1         SYN_RECEIVED
        no ACK          nothing             SYN_RECEIVED
        text            . 1:1 ack 101       ESTABLISHED
        text ahead      . 1:1 ack 1         ESTABLISHED
        text outside    . 1:1 ack 1         SYN_RECEIVED
        text old        . 1:1 ack 1         SYN_RECEIVED
        FIN             . 1:1 ack 2         CLOSE_WAIT
        FIN of our FIN  R                   SYN_RECEIVED
    """,
    "SYN_RECEIVED crossing": """
        SYN             . 1:1 ack 1         SYN_RECEIVED
        SYN new         . 1:1 ack 1         SYN_RECEIVED
        SYN-ACK         nothing             ESTABLISHED
        RST exact       nothing             CLOSED ECONNREFUSED
        RST window      . 1:1 ack 1         SYN_RECEIVED
        RST outside     nothing             SYN_RECEIVED
        RST-ACK         nothing             CLOSED ECONNREFUSED
        ACK             nothing             ESTABLISHED
        ACK old         R                   SYN_RECEIVED
        ACK future      R                   SYN_RECEIVED
        ACK outside     . 1:1 ack 1         SYN_RECEIVED
        no ACK          nothing             SYN_RECEIVED
        text            . 1:1 ack 101       ESTABLISHED readable
        text ahead      . 1:1 ack 1         ESTABLISHED
        text outside    . 1:1 ack 1         SYN_RECEIVED
        text old        . 1:1 ack 1         SYN_RECEIVED
        FIN             . 1:1 ack 2         CLOSE_WAIT
        FIN of our FIN  R                   SYN_RECEIVED
    """,
    "ESTABLISHED": """
        SYN             . 1:1 ack 1         ESTABLISHED
        SYN new         . 1:1 ack 1         ESTABLISHED
        SYN-ACK         . 1:1 ack 1         ESTABLISHED
        RST exact       nothing             CLOSED ECONNRESET
        RST window      . 1:1 ack 1         ESTABLISHED
        RST outside     nothing             ESTABLISHED
        RST-ACK         nothing             CLOSED ECONNRESET
        ACK             nothing             ESTABLISHED
        ACK old         . 1:1 ack 1         ESTABLISHED
        ACK future      . 1:1 ack 1         ESTABLISHED
        ACK outside     . 1:1 ack 1         ESTABLISHED
        no ACK          nothing             ESTABLISHED
        text            . 1:1 ack 101       ESTABLISHED readable
        text ahead      . 1:1 ack 1         ESTABLISHED
        text outside    . 1:1 ack 1         ESTABLISHED
        text old        . 1:1 ack 1         ESTABLISHED
        FIN             . 1:1 ack 2         CLOSE_WAIT
        FIN of our FIN  . 1:1 ack 1         ESTABLISHED
    """,
    "FIN_WAIT_1": """
        SYN             . 2:2 ack 1         FIN_WAIT_1
        SYN new         . 2:2 ack 1         FIN_WAIT_1
        SYN-ACK         . 2:2 ack 1         FIN_WAIT_1
        RST exact       nothing             CLOSED ECONNRESET
        RST window      . 2:2 ack 1         FIN_WAIT_1
        RST outside     nothing             FIN_WAIT_1
        RST-ACK         nothing             CLOSED ECONNRESET
        ACK             nothing             FIN_WAIT_1
        ACK old         . 2:2 ack 1         FIN_WAIT_1
        ACK future      . 2:2 ack 1         FIN_WAIT_1
        ACK outside     . 2:2 ack 1         FIN_WAIT_1
        no ACK          nothing             FIN_WAIT_1
        text            . 2:2 ack 101       FIN_WAIT_1 readable
        text ahead      . 2:2 ack 1         FIN_WAIT_1
        text outside    . 2:2 ack 1         FIN_WAIT_1
        text old        . 2:2 ack 1         FIN_WAIT_1
        FIN             . 2:2 ack 2         CLOSING
        FIN of our FIN  nothing             FIN_WAIT_2
    """,
    "FIN_WAIT_2": """
        SYN             . 2:2 ack 1         FIN_WAIT_2
        SYN new         . 2:2 ack 1         FIN_WAIT_2
        SYN-ACK         . 2:2 ack 1         FIN_WAIT_2
        RST exact       nothing             CLOSED ECONNRESET
        RST window      . 2:2 ack 1         FIN_WAIT_2
        RST outside     nothing             FIN_WAIT_2
        RST-ACK         nothing             CLOSED ECONNRESET
        ACK             nothing             FIN_WAIT_2
        ACK old         . 2:2 ack 1         FIN_WAIT_2
        ACK future      . 2:2 ack 1         FIN_WAIT_2
        ACK outside     . 2:2 ack 1         FIN_WAIT_2
        no ACK          nothing             FIN_WAIT_2
        text            . 2:2 ack 101       FIN_WAIT_2 readable
        text ahead      . 2:2 ack 1         FIN_WAIT_2
        text outside    . 2:2 ack 1         FIN_WAIT_2
        text old        . 2:2 ack 1         FIN_WAIT_2
        FIN             . 2:2 ack 2         TIME_WAIT
        FIN of our FIN  . 2:2 ack 1         FIN_WAIT_2
    """,
    "CLOSE_WAIT": """
        SYN             . 1:1 ack 2         CLOSE_WAIT
        SYN new         . 1:1 ack 2         CLOSE_WAIT
        SYN-ACK         . 1:1 ack 2         CLOSE_WAIT
        RST exact       nothing             CLOSED EPIPE
        RST window      . 1:1 ack 2         CLOSE_WAIT
        RST outside     nothing             CLOSE_WAIT
        RST-ACK         nothing             CLOSED EPIPE
        ACK             nothing             CLOSE_WAIT
        ACK old         . 1:1 ack 2         CLOSE_WAIT
        ACK future      . 1:1 ack 2         CLOSE_WAIT
        ACK outside     . 1:1 ack 2         CLOSE_WAIT
        no ACK          nothing             CLOSE_WAIT
        text            nothing             CLOSE_WAIT
        text ahead      nothing             CLOSE_WAIT
        text outside    . 1:1 ack 2         CLOSE_WAIT
        text old        . 1:1 ack 2         CLOSE_WAIT
        FIN             nothing             CLOSE_WAIT
        FIN of our FIN  . 1:1 ack 2         CLOSE_WAIT
    """,
    "CLOSING": """
        SYN             . 2:2 ack 2         CLOSING
        SYN new         . 2:2 ack 2         CLOSING
        SYN-ACK         . 2:2 ack 2         CLOSING
        RST exact       nothing             CLOSED ECONNRESET
        RST window      . 2:2 ack 2         CLOSING
        RST outside     nothing             CLOSING
        RST-ACK         nothing             CLOSED ECONNRESET
        ACK             nothing             CLOSING
        ACK old         . 2:2 ack 2         CLOSING
        ACK future      . 2:2 ack 2         CLOSING
        ACK outside     . 2:2 ack 2         CLOSING
        no ACK          nothing             CLOSING
        text            nothing             CLOSING
        text ahead      nothing             CLOSING
        text outside    . 2:2 ack 2         CLOSING
        text old        . 2:2 ack 2         CLOSING
        FIN             nothing             CLOSING
        FIN of our FIN  nothing             TIME_WAIT
    """,
    "LAST_ACK": """
        SYN             . 2:2 ack 2         LAST_ACK
        SYN new         . 2:2 ack 2         LAST_ACK
        SYN-ACK         . 2:2 ack 2         LAST_ACK
        RST exact       nothing             CLOSED ECONNRESET
        RST window      . 2:2 ack 2         LAST_ACK
        RST outside     nothing             LAST_ACK
        RST-ACK         nothing             CLOSED ECONNRESET
        ACK             nothing             LAST_ACK
        ACK old         . 2:2 ack 2         LAST_ACK
        ACK future      . 2:2 ack 2         LAST_ACK
        ACK outside     . 2:2 ack 2         LAST_ACK
        no ACK          nothing             LAST_ACK
        text            nothing             LAST_ACK
        text ahead      nothing             LAST_ACK
        text outside    . 2:2 ack 2         LAST_ACK
        text old        . 2:2 ack 2         LAST_ACK
        FIN             nothing             LAST_ACK
        FIN of our FIN  nothing             CLOSED
    """,
    "TIME_WAIT": """
        SYN             . 2:2 ack 2         TIME_WAIT
        SYN new         . 2:2 ack 2         TIME_WAIT
        SYN-ACK         . 2:2 ack 2         TIME_WAIT
        RST exact       nothing             CLOSED
        RST window      nothing             TIME_WAIT
        RST outside     nothing             TIME_WAIT
        RST-ACK         nothing             CLOSED
        ACK             nothing             TIME_WAIT
        ACK old         nothing             TIME_WAIT
        ACK future      nothing             TIME_WAIT
        ACK outside     . 2:2 ack 2         TIME_WAIT
        no ACK          . 2:2 ack 2         TIME_WAIT
        text            . 2:2 ack 2         TIME_WAIT
        text ahead      . 2:2 ack 2         TIME_WAIT
        text outside    . 2:2 ack 2         TIME_WAIT
        text old        . 2:2 ack 2         TIME_WAIT
        FIN             . 2:2 ack 2         TIME_WAIT
        FIN of our FIN  nothing             TIME_WAIT
    """,
}


def enter(wire: Trace, state: str) -> None:
    """Bring the connection into `state`."""
    if state not in UNSYNCHRONIZED:
        wire.established()
    if state == "CLOSED":
        wire.peer(1).iss = 0
    else:
        wire.play(OPENINGS[state][0])


def reaction(wire: Trace) -> str:
    """What the stack just said, without its window, and what became of the connection."""
    said = []
    for emitted in wire.sent:
        packet = emitted.packet
        text = wire.show(packet).split(" win")[0]
        flags, _, *rest = text.split(" ")
        if flags == "R":
            text = "R"
        elif flags == "R.":
            assert packet.seq == 0, "RFC 9293 §3.10.7.1: an answer to what has no ACK starts at zero"
            text = " ".join([flags, *rest])
        said.append(text)
    conns = list(wire.stack.tcp.conns())
    state = "LISTEN" if wire.listener is not None else "CLOSED"
    if conns:
        state = conns[0].state.name
    words = [state]
    if wire.conn is not None and wire.conn.error:
        words.append(errno.errorcode[wire.conn.error])
    if wire.conn is not None and wire.conn.readable:
        words.append("readable")
    return f"{'; '.join(said) or 'nothing'} → {' '.join(words)}"


@pytest.mark.parametrize("state", REACTIONS)
def test_every_segment_in_every_state(wire, state):
    _script, nxt, ack = OPENINGS[state]
    wrong = []
    for row in REACTIONS[state].strip().splitlines():
        kind, said, after = re.split(r" {2,}", row.strip())
        fresh = Trace(v6=wire.v6)
        enter(fresh, state)
        fresh.sent.clear()
        fresh.play(f"+1ms in {segment(kind, nxt, ack)} win 65535", loose=True)
        got = reaction(fresh)
        if got != f"{said} → {after}":
            wrong.append(f"{kind}: {got}, not {said} → {after}")
    assert not wrong, "\n" + "\n".join(wrong)
