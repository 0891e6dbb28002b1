"""What an ICMP error means to a program: Linux's icmp_err_convert and icmpv6_err_convert, as (errno, hard).

A hard error may end a connection attempt and is reported to connected sockets; a soft one is only remembered.
"""

import errno

from stack.wire import icmp as wire

_UNREACHABLE4 = (
    (errno.ENETUNREACH, False),  # network
    (errno.EHOSTUNREACH, False),  # host
    (errno.ENOPROTOOPT, True),  # protocol
    (errno.ECONNREFUSED, True),  # port
    (errno.EMSGSIZE, False),  # fragmentation needed
    (errno.EOPNOTSUPP, False),  # source route failed
    (errno.ENETUNREACH, True),  # network unknown
    (errno.EHOSTDOWN, True),  # host unknown
    (errno.ENONET, True),  # host isolated
    (errno.ENETUNREACH, True),  # network prohibited
    (errno.EHOSTUNREACH, True),  # host prohibited
    (errno.ENETUNREACH, False),  # network, for this TOS
    (errno.EHOSTUNREACH, False),  # host, for this TOS
    (errno.EHOSTUNREACH, True),  # packet filtered
    (errno.EHOSTUNREACH, True),  # precedence violation
    (errno.EHOSTUNREACH, True),  # precedence cut-off
)
_UNREACHABLE6 = (
    (errno.ENETUNREACH, False),  # no route
    (errno.EACCES, True),  # prohibited
    (errno.EHOSTUNREACH, False),  # beyond scope
    (errno.EHOSTUNREACH, False),  # address
    (errno.ECONNREFUSED, True),  # port
    (errno.EACCES, True),  # source address failed policy
    (errno.EACCES, True),  # reject route
)


def errno4(kind: int, code: int) -> tuple[int, bool] | None:
    """(errno, hard) of an ICMPv4 error; None for a code that does not exist."""
    if kind == wire.UNREACHABLE:
        return _UNREACHABLE4[code] if code < len(_UNREACHABLE4) else None
    if kind == wire.TIME_EXCEEDED:
        return errno.EHOSTUNREACH, False
    return errno.EPROTO, True


def errno6(kind: int, code: int) -> tuple[int, bool]:
    """(errno, hard) of an ICMPv6 error."""
    if kind == wire.UNREACHABLE6:
        return _UNREACHABLE6[code] if code < len(_UNREACHABLE6) else (errno.EPROTO, True)
    if kind == wire.TOO_BIG6:
        return errno.EMSGSIZE, False
    if kind == wire.TIME_EXCEEDED6:
        return errno.EHOSTUNREACH, False
    return errno.EPROTO, True
