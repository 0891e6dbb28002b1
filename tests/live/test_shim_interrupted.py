"""The listener's system calls are interrupted: by signals here, by the kernel's own task work anywhere."""

import signal

from live.shim_lab import run_lab

SOCKETS = """
import os, socket
kept = os.open("/dev/null", os.O_RDONLY)
for round in range(300):
    with socket.socket() as one, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as two:
        assert one.fileno() == kept + 1 and two.fileno() == kept + 2, (one.fileno(), two.fileno())
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
            assert accepted.fileno() > kept, accepted.fileno()
print("all there")
"""


def test_a_storm_of_signals_in_the_stack_costs_no_descriptor_and_no_call():
    async def scenario(lab):
        signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
        try:
            program = lab.python(SOCKETS)
            assert await program.wait() == 0, program.output
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)

    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        run_lab(scenario)
    finally:
        signal.signal(signal.SIGALRM, before)
