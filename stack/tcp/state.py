"""Connection states, RFC 9293 §3.3.2, and the sets of them that the rules speak of.

Module aliases (`ESTABLISHED`) because `conn.state is ESTABLISHED` costs a fifth of an enum attribute look-up.
"""

from enum import Enum


class State(Enum):
    """RFC 9293 §3.3.2; values are those of Linux's `tcp_info.tcpi_state`."""

    ESTABLISHED = 1
    SYN_SENT = 2
    SYN_RECEIVED = 3
    FIN_WAIT_1 = 4
    FIN_WAIT_2 = 5
    TIME_WAIT = 6
    CLOSED = 7
    CLOSE_WAIT = 8
    LAST_ACK = 9
    LISTEN = 10
    CLOSING = 11

    __hash__ = object.__hash__  # Enum's own is Python code, and states are looked up in sets for each packet


ESTABLISHED = State.ESTABLISHED
SYN_SENT = State.SYN_SENT
SYN_RECEIVED = State.SYN_RECEIVED
FIN_WAIT_1 = State.FIN_WAIT_1
FIN_WAIT_2 = State.FIN_WAIT_2
TIME_WAIT = State.TIME_WAIT
CLOSED = State.CLOSED
CLOSE_WAIT = State.CLOSE_WAIT
LAST_ACK = State.LAST_ACK
LISTEN = State.LISTEN
CLOSING = State.CLOSING

RECEIVING = frozenset((ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2))  # the peer may still send text
SENDING = frozenset((ESTABLISHED, CLOSE_WAIT))  # we may still queue text
DRAINING = frozenset((ESTABLISHED, CLOSE_WAIT, FIN_WAIT_1, CLOSING, LAST_ACK))  # queued text and our FIN may go out
