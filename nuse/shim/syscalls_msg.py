"""Messages with an address: sendto, recvfrom, sendmsg, recvmsg, sendmmsg, recvmmsg.

Streams go on into the kernel as soon as it is clear that the carrier does there what TCP would do: an AF_UNIX stream
reports no peer name, as Linux's TCP does not. Datagrams are received and sent here.
"""

import contextlib
import errno
import socket
from typing import Any

from nuse.shim.abi import MSG_DONTWAIT, MSG_ERRQUEUE, MSG_FASTOPEN, MSG_OOB, MSG_PEEK, MSG_WAITFORONE
from nuse.shim.carrier import is_nonblocking
from nuse.shim.control import send_control
from nuse.shim.datagram import DatagramSocket
from nuse.shim.kernelside import goes_to, hand_over
from nuse.shim.message import (
    MMSG_LEN_AT,
    MMSGHDR_LEN,
    Message,
    fill,
    fill_error,
    fill_nothing,
    gather,
    read_header,
    read_message,
)
from nuse.shim.notif import Notification
from nuse.shim.options import TFO_CLIENT, timeout
from nuse.shim.session import CONTINUE, LATER, Interrupted, Session, signed
from nuse.shim.sock import Pending, SockAddr
from nuse.shim.sockaddr import decode, decode_datagram, reachable
from nuse.shim.stream import CONNECTING, DEAD, FRESH, LISTENING, StreamSocket
from nuse.shim.syscalls_opt import carrier_error
from nuse.shim.urgent import send_urgent
from stack.errors import StackError

VLEN_MAX = 1024
TURN = 16  # messages of one sendmmsg or recvmmsg that are served at a stretch: under a millisecond
CONTROL_MAX = 131072  # net.core.optmem_max


def _send_stream(s: Session, n: Notification, sock: StreamSocket, flags: int, message: Message | None) -> int | None:
    """A stream's send: the kernel's, unless it has an address, which TCP ignores and AF_UNIX would refuse."""
    if flags & MSG_FASTOPEN and sock.phase != LISTENING:
        return _send_fast(s, n, sock, flags, message)
    if sock.phase in (FRESH, LISTENING):
        return -errno.EPIPE
    if error := _refusal(s, n, sock):
        return -error
    if message is None:
        return CONTINUE
    if flags & MSG_OOB:
        return send_urgent(s, n, sock, flags, message)
    theirs = s.hub.tasks.copy_socket(n.tid, signed(n.args[0]), sock.name, socket.SOCK_STREAM)
    if theirs is None:
        return -errno.EBADF
    with theirs:
        data = gather(s, n, message)
        try:
            return theirs.send(data, MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            if flags & MSG_DONTWAIT or is_nonblocking(theirs):
                raise
    s.hub.loop.call_later(0.005, s.again, n)  # rare enough for a little patience instead of a watcher
    return LATER


def _send_fast(s: Session, n: Notification, sock: StreamSocket, flags: int, message: Message | None) -> int | None:
    """MSG_FASTOPEN: connect, with the text in the SYN if the peer gave a cookie; a blocking call waits as connect does.

    A call that may not wait says that the text was taken, also without a cookie, where Linux says EINPROGRESS.
    """
    if not s.hub.stack.sysctl.tcp_fastopen & TFO_CLIENT:
        return -errno.EOPNOTSUPP
    if sock.phase != FRESH:
        return -errno.EALREADY if sock.phase == CONNECTING else -errno.EISCONN
    if message is None or not message.name:
        return -errno.EINVAL
    remote = reachable(decode(s.read_sockaddr(n, message.name, message.name_room), sock.v6), sock.local_address())
    if goes_to(s, n, sock, remote):
        return hand_over(s, n, sock)
    data = gather(s, n, message)
    theirs = s.hub.tasks.copy_socket(n.tid, signed(n.args[0]), sock.name, socket.SOCK_STREAM)
    if theirs is None:
        return -errno.EBADF
    with theirs:
        sock.connect(remote, theirs, data)
        if flags & MSG_DONTWAIT or is_nonblocking(theirs):
            return len(data)
    waiting = Pending(s, n, sock.waiting, timeout(sock, socket.SO_SNDTIMEO), -errno.EINPROGRESS)
    waiting.success = len(data)
    return LATER


def _refusal(s: Session, n: Notification, sock: StreamSocket) -> int:
    """Why a connect failed that nobody waited for, if it has not been told; the carrier knows ECONNRESET only."""
    failed = sock.phase == DEAD and sock.conn is None and sock.error
    return sock.take_error() if failed and carrier_error(s, n, sock) else 0


def _receive_stream(s: Session, n: Notification, sock: StreamSocket, flags: int) -> int:
    if flags & MSG_ERRQUEUE:
        return -errno.EAGAIN
    if not flags & MSG_OOB and (error := _refusal(s, n, sock)):
        return -error
    if flags & MSG_OOB and sock.phase == FRESH:
        return -errno.EINVAL
    return -errno.ENOTCONN if sock.phase in (FRESH, LISTENING) else CONTINUE


def _destination(s: Session, n: Notification, sock: DatagramSocket, at: int, length: int) -> SockAddr | None:
    if not at:
        return None
    return reachable(decode_datagram(s.read_sockaddr(n, at, length), sock.v6), sock.local_address())


def _knows_urgent(sock: DatagramSocket, dest: SockAddr | None) -> bool:
    """It refuses MSG_OOB; where UDP sends over IPv6, Linux does not look at it."""
    to = dest or sock.remote_address()
    return not (sock.is_udp and sock.v6 and (to is None or len(to[0]) == 16))


def _first_goes_to(s: Session, n: Notification, sock: DatagramSocket, dest: SockAddr | None) -> bool:
    """True if rules give the socket to the kernel; the first datagram that it sends itself settles it."""
    if not sock.unsettled or dest is None:
        return False
    sock.unsettled = goes_to(s, n, sock, dest)
    return sock.unsettled


# ---------------------------------------------------------------------- sending


def sys_sendto(s: Session, n: Notification) -> int | None:
    """sendto(fd, data, size, flags, sockaddr, length)."""
    sock = s.socket_of(n)
    if sock is None:
        return CONTINUE
    flags, message = signed(n.args[3]), Message([(n.args[1], n.args[2])], n.args[4], n.args[5])
    if isinstance(sock, StreamSocket):
        return _send_stream(s, n, sock, flags, message if n.args[4] or flags & MSG_OOB else None)
    assert isinstance(sock, DatagramSocket)
    dest = _destination(s, n, sock, n.args[4], n.args[5])
    if flags & MSG_OOB and _knows_urgent(sock, dest):
        return -errno.EOPNOTSUPP
    if _first_goes_to(s, n, sock, dest):
        return hand_over(s, n, sock)
    return sock.send(gather(s, n, message), dest)


def sys_sendmsg(s: Session, n: Notification) -> int | None:
    """sendmsg(fd, msghdr, flags)."""
    sock = s.socket_of(n)
    if sock is None:
        return CONTINUE
    flags = signed(n.args[2])
    if isinstance(sock, StreamSocket):
        name = read_header(s, n, n.args[1])[0]
        return _send_stream(s, n, sock, flags, read_message(s, n, n.args[1]) if name or flags & MSG_OOB else None)
    assert isinstance(sock, DatagramSocket)
    return _send_message(s, n, sock, n.args[1], flags)


def _send_message(s: Session, n: Notification, sock: DatagramSocket, at: int, flags: int) -> int | None:
    message = read_message(s, n, at)
    dest = _destination(s, n, sock, message.name, message.name_room)
    if flags & MSG_OOB and _knows_urgent(sock, dest):
        return -errno.EOPNOTSUPP
    if _first_goes_to(s, n, sock, dest):
        return hand_over(s, n, sock)
    control = None
    if message.control_room:
        if message.control_room > CONTROL_MAX:
            return -errno.ENOBUFS
        control = send_control(sock, s.read(n, message.control, message.control_room))
    return sock.send(gather(s, n, message), dest, control)


def sys_sendmmsg(s: Session, n: Notification) -> int | None:
    """sendmmsg(fd, mmsghdrs, count, flags): an error counts only if it meets the first."""
    sock = s.socket_of(n)
    if sock is None:
        return CONTINUE
    flags = signed(n.args[3])
    if isinstance(sock, StreamSocket):
        return -errno.EPIPE if sock.phase in (FRESH, LISTENING) else CONTINUE
    assert isinstance(sock, DatagramSocket)
    done, more = _send_some(s, n, sock, flags, 0)
    if more and done is not None:
        _SendRest(s, n, sock, flags, done)
        return LATER
    return done


def _send_some(s: Session, n: Notification, sock: DatagramSocket, flags: int, sent: int) -> tuple[int | None, bool]:
    """A turn's worth of sendmmsg's messages, after those `sent`: (how many are sent now, whether more are to come)."""
    count = min(n.args[2] & 0xFFFFFFFF, VLEN_MAX)
    end = min(count, sent + TURN)
    while sent < end:
        at = n.args[1] + sent * MMSGHDR_LEN
        try:
            result = _send_message(s, n, sock, at, flags)
            if result is LATER or result == CONTINUE:  # only the first can be: the kernel sends all
                return result, False
            s.write_int(n, at + MMSG_LEN_AT, result)
        except (OSError, Interrupted):
            if not sent:
                raise
            return sent, False
        sent += 1
    return sent, sent < count


class _SendRest(Pending):
    """The rest of a long sendmmsg. Between two turns of it everybody else has one.

    An interruption ends it with what was sent, which Linux does not have to do as it sends at a stretch.
    """

    __slots__ = ("_flags", "_sent", "_sock")

    def __init__(self, s: Session, n: Notification, sock: DatagramSocket, flags: int, sent: int) -> None:
        super().__init__(s, n, [], None, 0)
        self._sock = sock
        self._flags = flags
        self._sent = sent
        s.hub.in_turn(self._go_on)

    def drop(self) -> None:
        """The call was interrupted; its restart gets this result."""
        super().drop()
        self.session.unanswered(self.n, self._sent)

    def _go_on(self) -> None:
        if self.session.pending.get(self.n.tid) is not self:
            return
        sent, more = _send_some(self.session, self.n, self._sock, self._flags, self._sent)
        self._sent = sent or self._sent
        if more:
            self.session.hub.in_turn(self._go_on)
        else:
            super().drop()
            self.session.answer(self.n, self._sent)


# ---------------------------------------------------------------------- receiving


class _Receive(Pending):
    """A blocked receive. `vector` says that it is a recvmmsg, which then returns with one message."""

    __slots__ = ("_flags", "_message", "_sock", "_vector")

    def __init__(
        self, s: Session, n: Notification, sock: DatagramSocket, message: Message, flags: int, vector: bool
    ) -> None:
        super().__init__(s, n, sock.waiting, timeout(sock, socket.SO_RCVTIMEO), -errno.EAGAIN)
        self._sock = sock
        self._message = message
        self._flags = flags
        self._vector = vector

    def serve(self, *what: Any) -> None:
        """An entry and its datagram came: write it into the program and answer; the next one's if that is not there."""
        self.drop()
        entry, data = what
        whole = bytes(data)
        try:
            result = fill(self.session, self.n, self._sock, self._message, entry, whole, self._flags)
            if self._vector:
                self.session.write_int(self.n, self._message.header + MMSG_LEN_AT, result)
                result = 1
        except OSError as error:
            result = -(error.errno or errno.EIO)
        except Interrupted:
            self._sock.give_back(entry, whole)
            return
        if not self.session.reply(self.n, result) or self._flags & MSG_PEEK:
            self._sock.give_back(entry, whole)

    def stop(self) -> None:
        """SHUT_RD."""
        with contextlib.suppress(OSError, Interrupted):
            fill_nothing(self.session, self.n, self._message)
        self.finish(0)


def _receive(s: Session, n: Notification, sock: DatagramSocket, message: Message, flags: int) -> int | None:
    """One datagram now: the call's result, or LATER if none is there. EAGAIN is raised if the call may not wait."""
    if flags & MSG_OOB and not sock.is_udp:
        raise StackError(errno.EOPNOTSUPP, "no urgent datagrams")
    if flags & MSG_ERRQUEUE:
        return _receive_error(s, n, sock, message)
    if sock.error:
        raise StackError(sock.take_error(), "an earlier datagram was answered with an error")
    theirs = s.hub.tasks.copy_socket(n.tid, signed(n.args[0]), sock.name, sock.carrier_kind)
    if theirs is None:
        raise StackError(errno.EBADF, "the descriptor changed under the call")
    with theirs:
        found = sock.take(theirs, bool(flags & MSG_PEEK))
        if found is not None:
            try:
                return fill(s, n, sock, message, *found, flags)
            except Interrupted:
                if not flags & MSG_PEEK:
                    sock.give_back(*found)
                raise
        if flags & MSG_DONTWAIT or is_nonblocking(theirs):
            raise StackError(errno.EAGAIN, "no datagram")
    return fill_nothing(s, n, message) if sock.shut_read else LATER


def _receive_error(s: Session, n: Notification, sock: DatagramSocket, message: Message) -> int:
    """MSG_ERRQUEUE: the oldest error, or EAGAIN; it never waits."""
    theirs = s.hub.tasks.copy_socket(n.tid, signed(n.args[0]), sock.name, sock.carrier_kind)
    if theirs is None:
        raise StackError(errno.EBADF, "the descriptor changed under the call")
    with theirs:
        report = sock.take_report(theirs)
    if report is None:
        raise StackError(errno.EAGAIN, "no error")
    return fill_error(s, n, sock, message, report)


def sys_recvfrom(s: Session, n: Notification) -> int | None:
    """recvfrom(fd, buffer, size, flags, sockaddr, length pointer)."""
    sock = s.socket_of(n)
    if sock is None:
        return CONTINUE
    flags = signed(n.args[3])
    if isinstance(sock, StreamSocket):
        return _receive_stream(s, n, sock, flags)
    assert isinstance(sock, DatagramSocket)
    message = Message([(n.args[1], n.args[2])], n.args[4])
    if n.args[4]:
        message.name_length_at = n.args[5]
        message.name_room = s.read_int(n, n.args[5])
        if message.name_room < 0:
            return -errno.EINVAL
    result = _receive(s, n, sock, message, flags)
    if result is LATER:
        _Receive(s, n, sock, message, flags, vector=False)
    return result


def sys_recvmsg(s: Session, n: Notification) -> int | None:
    """recvmsg(fd, msghdr, flags)."""
    sock = s.socket_of(n)
    if sock is None:
        return CONTINUE
    flags = signed(n.args[2])
    if isinstance(sock, StreamSocket):
        return _receive_stream(s, n, sock, flags)
    assert isinstance(sock, DatagramSocket)
    message = read_message(s, n, n.args[1])
    result = _receive(s, n, sock, message, flags)
    if result is LATER:
        _Receive(s, n, sock, message, flags, vector=False)
    return result


def sys_recvmmsg(s: Session, n: Notification) -> int | None:
    """recvmmsg(fd, mmsghdrs, count, flags, timeout): a turn's worth of what is there; waits for the first only."""
    sock = s.socket_of(n)
    if sock is None:
        return CONTINUE
    flags = signed(n.args[3])
    if isinstance(sock, StreamSocket):
        return _receive_stream(s, n, sock, flags)
    assert isinstance(sock, DatagramSocket)
    received = 0
    for at in range(n.args[1], n.args[1] + min(n.args[2] & 0xFFFFFFFF, TURN) * MMSGHDR_LEN, MMSGHDR_LEN):
        wait = 0 if not received else MSG_DONTWAIT
        try:
            message = read_message(s, n, at)
            result = _receive(s, n, sock, message, flags & ~MSG_WAITFORONE | wait)
        except OSError:
            if not received:
                raise
            break
        if result is LATER:
            _Receive(s, n, sock, message, flags, vector=True)
            return LATER
        s.write_int(n, at + MMSG_LEN_AT, result)
        received += 1
    return received
