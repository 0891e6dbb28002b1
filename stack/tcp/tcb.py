"""The sequence variables of a connection, RFC 9293 §3.3.1, and what the handshake agreed on."""

from dataclasses import dataclass

from stack.errors import InvariantBroken


@dataclass(slots=True, eq=False)
class Tcb:
    """Plain unwrapped ints; windows are already scaled to bytes."""

    #      acked         in flight          may send        not yet
    #  ────────────┬──────────────────┬────────────────┬──────────────
    #           snd_una            snd_nxt     snd_una + snd_wnd
    iss: int = 0
    snd_una: int = 0
    snd_nxt: int = 0
    snd_wnd: int = 0
    snd_wl1: int = 0
    snd_wl2: int = 0
    max_window: int = 0  # largest window the peer ever offered
    #     in order         window           not yet
    #  ────────────┬──────────────────┬──────────────
    #           rcv_nxt       rcv_wup + rcv_wnd
    irs: int = 0
    rcv_nxt: int = 0
    rcv_wnd: int = 0  # as last advertised, counted from rcv_wup
    rcv_wup: int = 0  # rcv_nxt when rcv_wnd was advertised
    # negotiated
    mss_cache: int = 536  # payload bytes per wire segment, options already taken off
    peer_mss: int = 536
    advmss: int = 1460
    snd_wscale: int = 0
    rcv_wscale: int = 0
    wscale_ok: bool = False
    sack_ok: bool = False
    ts_ok: bool = False
    # RFC 7323
    ts_recent: int = 0
    ts_recent_at: int = 0  # ns
    ts_offset: int = 0
    last_ack_sent: int = 0

    def rcv_right_edge(self) -> int:
        """First sequence number beyond the window we advertised."""
        return self.rcv_wup + self.rcv_wnd

    def check(self) -> None:
        """Raise InvariantBroken if the variables contradict RFC 9293 §3.4."""
        if not self.snd_una <= self.snd_nxt:
            raise InvariantBroken(f"snd_una {self.snd_una} > snd_nxt {self.snd_nxt}")
        if self.rcv_wup > self.rcv_nxt:
            raise InvariantBroken(f"rcv_wup {self.rcv_wup} > rcv_nxt {self.rcv_nxt}")
        if self.mss_cache < 1:
            raise InvariantBroken(f"mss_cache {self.mss_cache}")
