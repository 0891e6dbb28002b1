"""Where the stack may answer a random program otherwise than the kernel: docs/shim.md, made into rules.

A rule looks at the steps so far, the kernel's lines and the stack's last; each line is (step, result, polls). Where it
says END, what follows is another story: the two are in different states.
"""

from .random_programs import FIONREAD, SIOCOUTQ

SAME, END = "same", "end"
SHUT = {"IN", "OUT", "HUP", "RDHUP"}


def _masks(text):
    """ "t0=IN|OUT u1=-" as {"t0": {"IN", "OUT"}, …}."""
    return {
        socket: set(bits.split("|"))
        for socket, bits in (word.split("=") for word in text.removeprefix("told ").split())
    }


def _only_polls(kernel, stack, allowed):
    """The results agree, or are masks, and each mask that differs is as `allowed(socket, kernel's, stack's)` says."""
    pairs = [(kernel[2], stack[2])]
    if kernel[1] != stack[1]:
        if kernel[0] != "wait":
            return False
        pairs.append((kernel[1], stack[1]))
    for theirs, ours in ((_masks(one), _masks(other)) for one, other in pairs):
        for each in theirs | ours:
            bits = theirs.get(each, {"-"}), ours.get(each, {"-"})
            if bits[0] != bits[1] and not allowed(each, *bits):
                return False
    return True


def _fresh(socket, theirs, ours):
    """A stream never connected: it has HUP only without a peer."""
    return socket[0] == "f" and "HUP" in theirs and ours <= {"OUT", "-"}


# ---------------------------------------------------------------------- what AF_UNIX cannot show


def masks(steps, kernel, stack):
    """Poll masks."""
    low_water = any(step[0] == "set" and step[2:4] == [1, 18] for step in steps)  # it polls IN below SO_RCVLOWAT too

    def allowed(socket, theirs, ours):
        if socket[0] == "f":
            return _fresh(socket, theirs, ours)
        if socket[0] == "u":  # it cannot be given an error
            return "ERR" in theirs and theirs - {"ERR"} <= ours <= theirs - {"ERR"} | {"IN"}
        if "PRI" in theirs and ours - theirs == {"IN"}:  # the urgent byte lies in the queue as any other
            return True
        if low_water and ours - theirs == {"IN"}:
            return True
        before = [bits for line in kernel for name, bits in _masks(line[2]).items() if name[0] == "t"]
        ended = any("RDHUP" in each and "ERR" not in each for each in before)
        return (
            ended and ours < theirs and theirs - ours <= {"ERR", "PRI"}
        )  # reset after the end of the stream: nothing shows ERR and reads 0

    return (END if low_water else SAME) if _only_polls(kernel[-1], stack, allowed) else None


def reset_after_shutdown(steps, kernel, stack):
    """A reset after the program's SHUT_WR: what shows ERR is a byte that it wrote and nobody read.

    And MSG_WAITALL, which wants more than came before a reset, takes the error with it.
    """
    shut = any(step[0] == "shutdown" and step[2] == 1 for step in steps) or "waitall" in str(steps[-1])

    def allowed(socket, theirs, ours):
        return _fresh(socket, theirs, ours) or (socket[0] == "t" and theirs - ours == {"ERR"} and ours < theirs)

    return END if shut and _only_polls(kernel[-1], stack, allowed) else None


def write_after_reset(steps, kernel, stack):
    """The first write after a reset that nobody has read of: it looks at the shutdown first."""
    told = kernel[-1][1] in ("ECONNRESET", "ECONNREFUSED", "ETIMEDOUT") and stack[1] == "EPIPE"
    if steps[-1][0] in ("send", "sendto", "splice") and told:
        return END
    return None


def errno_of_reads(steps, kernel, stack):
    """It knows only ECONNRESET."""
    told = kernel[-1][1] in ("ECONNREFUSED", "ETIMEDOUT", "EPIPE") and stack[1] == "ECONNRESET"
    return SAME if told and steps[-1][0] in ("recv", "splice") else None


def close_after_shutdown(steps, kernel, stack):
    """After SHUT_RDWR a close is not seen, and so its reset neither."""
    shut = any(step[0] == "shutdown" and step[2] == 2 for step in steps)
    closed = shut and steps[-1][0] in ("close", "dup", "pass", "socket", "accept")

    def reset(socket, theirs, ours):
        return _fresh(socket, theirs, ours) or {"ERR", "HUP"} <= theirs - ours

    return END if closed and _only_polls(kernel[-1], stack, reset) else None


def broken_off(steps, kernel, stack):
    """Shutdown of a connecting socket leaves ECONNRESET behind in Linux, AF_UNSPEC that or why connect was refused."""
    if steps[-1][0] == "shutdown":
        hup = _only_polls(kernel[-1], stack, lambda _socket, theirs, ours: "HUP" in theirs and ours == {"OUT"})
        return END if hup else None
    again = any(step[0] == "disconnect" for step in steps) and kernel[-1][1] in ("ECONNRESET", "ECONNREFUSED")
    return END if again and steps[-1][0] in ("error", "get", "send", "recv", "sendto", "connect") else None


def data_after_shutdown(steps, _kernel, _stack):
    """Text that comes after SHUT_RD is thrown away; Linux keeps it for who reads all the same."""
    shut = [step[1] for step in steps if step[0] == "shutdown" and step[2] in (0, 2)]
    return END if shut and steps[-1][0] in ("recv", "splice") else None


def fresh_shutdown(steps, kernel, _stack):
    """shutdown() of a TCP socket never connected says ENOTCONN and shuts it on Linux; here it does nothing."""
    told = any(line[0].startswith("shutdown") and line[1] == "ENOTCONN" for line in kernel)
    if told and steps[-1][0] == "connect" and kernel[-1][1] in ("ECONNABORTED", "EINVAL"):
        return END  # shut, it cannot even connect to itself, nor is told why an earlier connect failed
    shut = any(bits == SHUT for line in kernel for name, bits in _masks(line[2]).items() if name[0] == "f")
    return END if told and shut else None


def renewed(steps, kernel, _stack):
    """Connecting again after a failure that nobody waited for: duplicates keep the old carrier."""
    connects = [line for line in kernel if line[0].startswith("connect")]
    again = len(connects) > 1 and any(line[1] == "EINPROGRESS" for line in connects)
    copied = any(step[0] in ("dup", "pass") for step in steps)
    return END if copied and (again or any(step[0] == "disconnect" for step in steps)) else None


# ---------------------------------------------------------------------- calls that are not stopped


def edges(steps, kernel, stack):
    """An edge of OUT whenever the stack has taken text, where Linux has one when a full buffer empties."""

    def allowed(socket, theirs, ours):
        return _fresh(socket, theirs, ours) or (socket[0] == "t" and theirs == {"-"} and "OUT" in ours)

    return END if steps[-1][0] == "wait" and _only_polls(kernel[-1], stack, allowed) else None


def edge_of_a_buffer(steps, kernel, stack):
    """Setting SO_SNDBUF wakes writers on Linux, which is an edge of whatever the socket polls."""
    resized = any(step[0] == "set" and step[2:4] == [1, 7] for step in steps)
    fewer = set(stack[1].split()) < set(kernel[-1][1].split())
    return END if steps[-1][0] == "wait" and resized and fewer else None


def choice(steps, kernel, stack):
    """Which one of several sockets on a port gets a datagram or a connection is decided by a secret hash."""
    several = any(step[0] == "set" and step[2:4] in ([1, 2], [1, 15]) for step in steps)
    return END if several and steps[-1][0] in ("send", "sendto", "connect") and kernel[-1][1] == stack[1] else None


def late_refusal(steps, kernel, stack):
    """A plain send is native, so it tells neither of an error that an earlier datagram met nor of a port 0."""
    if steps[-1][0] == "send" and kernel[-1][1] in ("ECONNREFUSED", "EINVAL") and stack[1].isdigit():
        return END
    return None


def fionread(steps, kernel, stack):
    """The kernel answers FIONREAD, of the carrier: on a listener, for all datagrams, for urgent text as for any."""
    if steps[-1][0] != "ioctl" or steps[-1][2] != FIONREAD or not stack[1].isdigit():
        return None
    if kernel[-1][1] == "EINVAL":
        return END
    polled = _masks(stack[2])
    datagrams = f"u{steps[-1][1]}" in polled
    urgent = "PRI" in polled.get(f"t{steps[-1][1]}", ())
    return SAME if (datagrams or urgent) and int(kernel[-1][1]) < int(stack[1]) else None


def urgent_alone(steps, kernel, stack):
    """An urgent byte alone polls IN here, so who asks first goes on to read, and finds nothing."""
    alone = kernel[-1][1] == "nothing" and "PRI" in _masks(kernel[-1][2]).get(f"t{steps[-1][1]}", ())
    return END if steps[-1][0] == "recv" and alone and stack[1] == "EAGAIN" else None


# ---------------------------------------------------------------------- not worth the trouble


def port_zero(steps, kernel, stack):
    """A connection to port 0 is refused at once, without a SYN."""
    return END if steps[-1][0] == "connect" and (kernel[-1][1], stack[1]) == ("EINPROGRESS", "ECONNREFUSED") else None


def stale_name(steps, kernel, stack):
    """After a refusal Linux tells the port that the connection had; to port 0 there was none here."""
    names = kernel[-1][1].rsplit(" ", 1), stack[1].rsplit(" ", 1)
    if steps[-1][0] == "disconnect" and names[1][-1] in (names[0][-1], "0"):  # an accepted one keeps its address
        return END
    return SAME if steps[-1][0] == "sockname" and names[0][0] == names[1][0] and names[1][-1] == "0" else None


def other_family(steps, kernel, stack):
    """An unbound AF_INET6 UDP socket, connected to one family and then to the other: Linux keeps the old name."""
    mapped = "::ffff:" in kernel[-1][1].partition("→")[2] and "::ffff:" in stack[1].partition("→")[0]
    if steps[-1][0] == "sockname" and "::ffff:" in stack[1] and "::ffff:" not in kernel[-1][1]:
        return END
    return END if steps[-1][0] == "connect" and mapped else None


def dead_outq(steps, kernel, stack):
    """Linux counts the SYN of a connection that was refused, and sequence numbers that a disconnect steps over."""
    asked = steps[-1][0] == "ioctl" and steps[-1][2] == SIOCOUTQ
    refused = any(line[0].startswith(("connect", "disconnect", "shutdown")) for line in kernel)
    return SAME if asked and refused and kernel[-1][1].isdigit() and stack[1] == "0" else None


def order_of_errors(steps, kernel, stack):
    """A datagram with more than one thing wrong."""
    wrong = {"EINVAL", "EDESTADDRREQ", "EMSGSIZE", "ENETUNREACH", "EAFNOSUPPORT"}
    sent = steps[-1][0] in ("sendto", "send")
    return END if sent and kernel[-1][1] in wrong and stack[1] in wrong | {"ENOTSUP"} else None


def urgent_datagram(steps, kernel, stack):
    """MSG_OOB refused before the socket has a port."""
    refused = any(
        step[0] in ("send", "sendto") and line[1] == "ENOTSUP" for step, line in zip(steps, kernel, strict=True)
    )
    return END if refused and steps[-1][0] in ("bind", "sockname", "set", "connect", "sendto") else None


def late_bind(steps, kernel, stack):
    """bind() of a socket whose connection is over, but which is not closed."""
    return END if steps[-1][0] == "bind" and f"t{steps[-1][1]}=" in stack[2] and kernel[-1][1] != "EINVAL" else None


def fast_reuse(steps, kernel, stack):
    """Linux looks at the last of several sockets on a port when the newest has SO_REUSEPORT, and forgets the others."""
    crowd = sum(step[0] == "bind" for step in steps) > 2
    reuse = any(step[0] == "set" and step[2:4] == [1, 15] for step in steps)
    return END if crowd and reuse and steps[-1][0] in ("bind", "listen") and stack[1] == "EADDRINUSE" else None


RULES = (
    masks,
    reset_after_shutdown,
    write_after_reset,
    errno_of_reads,
    close_after_shutdown,
    broken_off,
    data_after_shutdown,
    fresh_shutdown,
    renewed,
    edges,
    edge_of_a_buffer,
    choice,
    late_refusal,
    fionread,
    urgent_alone,
    port_zero,
    stale_name,
    other_family,
    dead_outq,
    order_of_errors,
    late_bind,
    urgent_datagram,
    fast_reuse,
)


def deviates(steps, kernel, stack):
    """SAME or END if the last lines may differ, else None."""
    return next((verdict for rule in RULES if (verdict := rule(steps, kernel, stack))), None)
