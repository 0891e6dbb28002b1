"""What is in the flow table without being a connection is a row of `nuse ss` like any other."""

from nuse.show_ss import SsOptions, ss_lines
from nuse.snapshot import conn_row


def shown(wire):
    rows = [conn_row(each, wire.clock.now) for each in wire.stack.tcp.conns()]
    options = SsOptions(all=True, info=True, options=True, extended=True, no_header=True, oneline=True)
    return ss_lines(rows, options)


def test_time_wait(wire):
    wire.established()
    wire.play("""
        +0     app    close
        +0     out    F.  1:1 ack 1
        +10ms  in     F.  1:1 ack 2
        +0     out    .   2:2 ack 2
    """)
    (line,) = shown(wire)
    assert line.startswith("tcp TIME-WAIT ")
    assert "timer:(timewait,1min,0)" in line


def test_a_half_open_connection(wire):
    wire.play("""
        +0     app    listen
        +0     in     S  0:0 <mss 1000>
        +0     out    S. 0:0 ack 1
    """)
    (line,) = shown(wire)
    assert line.startswith("tcp SYN-RECV ")
    assert "timer:(on,1sec,0)" in line
