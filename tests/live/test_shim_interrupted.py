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


# The program's own storm. A signal that comes in the 5 µs before an answer swallows it, and the call is made again. Of
# 6000 connects some 20 were answered with EISCONN, and as many connections were lost.
UNDER_SIGNALS = """
import os, signal, socket
COUNT = 600
listener = socket.create_server(("127.0.0.1", 0), backlog=16)
child = os.fork()
signal.signal(signal.SIGALRM, lambda *_: None)
signal.siginterrupt(signal.SIGALRM, False)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
numbers = set()
if not child:
    for _ in range(COUNT):
        accepted, _ = listener.accept()
        numbers.add(accepted.fileno())
        accepted.sendall(b"x")
        accepted.close()
    assert len(numbers) == 1, numbers
    os._exit(0)
for _ in range(COUNT):
    with socket.socket() as sock:
        numbers.add(sock.fileno())
        sock.connect(listener.getsockname())
        sock.settimeout(10)
        assert sock.recv(1) == b"x"
signal.setitimer(signal.ITIMER_REAL, 0)
assert len(numbers) == 1, numbers
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_storm_of_signals_in_a_program_costs_it_no_descriptor_and_no_connection():
    async def scenario(lab):
        program = lab.python(UNDER_SIGNALS)
        assert await program.wait() == 0, program.output

    run_lab(scenario)
