"""Where the stack may answer a random program otherwise than the kernel: docs/shim.md, made into rules.

A rule looks at the steps so far, the kernel's lines and the stack's last; each line is (step, result, polls). Where it
says END, what follows is another story: the two are in different states.
"""

from .random_programs import FIONREAD, SIOCOUTQ

SAME, END = "same", "end"
SHUT = {"IN", "OUT", "HUP", "RDHUP"}


def _masks(text):
    """ "t0=IN|OUT u1=-" as {"t0": {"IN", "OUT"}, …}."""
    return {socket: set(bits.split("|")) for socket, bits in (word.split("=") for word in text.split())}


def _only_polls(kernel, stack, allowed):
    """The results agree, or are masks, and each mask that differs is as `allowed(socket, kernel's, stack's)` says."""
    pairs = [(kernel[2], stack[2])]
    if kernel[1] != stack[1]:
        if kernel[0] != "wait":
            return False
        pairs.append((kernel[1], stack[1]))
    for theirs, ours in pairs:
        theirs, ours = _masks(theirs), _masks(ours)
        if theirs.keys() != ours.keys():
            return False
        if any(theirs[each] != ours[each] and not allowed(each, theirs[each], ours[each]) for each in theirs):
            return False
    return True


# ---------------------------------------------------------------------- what AF_UNIX cannot show


def masks(steps, kernel, stack):
    """Poll masks."""
    low_water = any(step[0] == "set" and step[2:4] == [1, 18] for step in steps)  # it polls IN below SO_RCVLOWAT too

    def allowed(socket, theirs, ours):
        if socket[0] == "f":  # a stream has HUP only without a peer
            return "HUP" in theirs and ours == {"OUT"}
        if socket[0] == "u":  # it cannot be given an error
            return "ERR" in theirs and theirs - {"ERR"} <= ours <= theirs - {"ERR"} | {"IN"}
        if low_water and ours - theirs == {"IN"}:
            return True
        before = [bits for line in kernel for name, bits in _masks(line[2]).items() if name[0] == "t"]
        ended = any("RDHUP" in each and "ERR" not in each for each in before)
        return ended and theirs - ours == {"ERR"}  # reset after the end of the stream: nothing shows ERR and reads 0

    return (END if low_water else SAME) if _only_polls(kernel[-1], stack, allowed) else None


def write_after_reset(steps, kernel, stack):
    """The first write after a reset that nobody has read of: it looks at the shutdown first."""
    if steps[-1][0] in ("send", "sendto", "splice") and (kernel[-1][1], stack[1]) == ("ECONNRESET", "EPIPE"):
        return END
    return None


def data_after_shutdown(steps, _kernel, _stack):
    """Text that comes after SHUT_RD is thrown away; Linux keeps it for who reads all the same."""
    shut = [step[1] for step in steps if step[0] == "shutdown" and step[2] in (0, 2)]
    return END if shut and steps[-1][0] in ("recv", "splice") else None


def fresh_shutdown(_steps, kernel, _stack):
    """shutdown() of a TCP socket never connected says ENOTCONN and shuts it on Linux; here it does nothing."""
    told = any(line[0].startswith("shutdown") and line[1] == "ENOTCONN" for line in kernel)
    shut = any(bits == SHUT for line in kernel for name, bits in _masks(line[2]).items() if name[0] == "f")
    return END if told and shut else None


def renewed(steps, kernel, _stack):
    """Connecting again after a failure that nobody waited for: duplicates and epoll keep the old carrier."""
    failed = any(line[0].startswith("connect") and line[1] == "EINPROGRESS" for line in kernel[:-1])
    copied = any(step[0] in ("dup", "pass", "ctl") for step in steps)
    return END if steps[-1][0] == "connect" and failed and copied else None


# ---------------------------------------------------------------------- calls that are not stopped


def late_refusal(steps, kernel, stack):
    """A plain send is native, so it tells of no error that an earlier datagram met."""
    if steps[-1][0] == "send" and kernel[-1][1] == "ECONNREFUSED" and stack[1].isdigit():
        return END
    return None


def listener_fionread(steps, kernel, stack):
    """The kernel answers FIONREAD, of the carrier."""
    if steps[-1][0] == "ioctl" and steps[-1][2] == FIONREAD and kernel[-1][1] == "EINVAL" and stack[1].isdigit():
        return END
    return None


# ---------------------------------------------------------------------- not worth the trouble


def port_zero(steps, kernel, stack):
    """A connection to port 0 is refused at once, without a SYN."""
    return END if steps[-1][0] == "connect" and (kernel[-1][1], stack[1]) == ("EINPROGRESS", "ECONNREFUSED") else None


def stale_name(steps, kernel, stack):
    """After a refusal Linux tells the port that the connection had; to port 0 there was none here."""
    names = kernel[-1][1].rsplit(" ", 1), stack[1].rsplit(" ", 1)
    return SAME if steps[-1][0] == "sockname" and names[0][0] == names[1][0] and names[1][-1] == "0" else None


def other_family(steps, kernel, stack):
    """An unbound AF_INET6 UDP socket, connected to ::1 and then to a mapped address: Linux shows the old name."""
    mapped = "::ffff:" in kernel[-1][1].partition("→")[2] and "::ffff:" in stack[1].partition("→")[0]
    return END if steps[-1][0] == "connect" and mapped else None


def dead_outq(steps, kernel, stack):
    """Linux counts the SYN of a connection that was refused."""
    asked = steps[-1][0] == "ioctl" and steps[-1][2] == SIOCOUTQ
    return SAME if asked and (kernel[-1][1], stack[1]) == ("1", "0") else None


def order_of_errors(steps, kernel, stack):
    """A datagram that cannot be sent, from a socket that is shut, too."""
    wrong = ("EINVAL", "EDESTADDRREQ", "EMSGSIZE", "ENETUNREACH")
    return SAME if steps[-1][0] in ("sendto", "send") and stack[1] == "EPIPE" and kernel[-1][1] in wrong else None


RULES = (
    masks,
    write_after_reset,
    data_after_shutdown,
    fresh_shutdown,
    renewed,
    late_refusal,
    listener_fionread,
    port_zero,
    stale_name,
    other_family,
    dead_outq,
    order_of_errors,
)


def deviates(steps, kernel, stack):
    """SAME or END if the last lines may differ, else None."""
    return next((verdict for rule in RULES if (verdict := rule(steps, kernel, stack))), None)
