#!/usr/bin/env python3
# ruff: noqa: T201 - an example talks
"""A TCP option of one's own, from an ordinary socket. Run it under nuse; on a kernel socket it says that it cannot.

    python3 -m http.server 8000 &
    tcpdump -ni tun0 'tcp[tcpflags] & tcp-syn != 0' &
    nuse run -- python3 docs/examples/tcp_option.py 10.64.0.1 8000

The option is an experiment (kind 253, RFC 6994) with ExID 0x4e55 and a word of ours; it goes on the SYN and on text.
docs/extensions.md says what the two socket options take.
"""

import socket
import sys

TCP_NUSE_OPTIONS, TCP_NUSE_SAVED = 20001, 20002
ON_SYN, ON_SYN_ACK, ON_DATA, ON_ACK = 1, 2, 4, 8
EXPERIMENT, EXID = 253, b"\x4e\x55"


def record(where: int, kind: int, data: bytes) -> bytes:
    return bytes((where, kind, len(data))) + data


def main(host: str, port: int) -> None:
    with socket.socket() as sock:
        try:
            option = record(ON_SYN | ON_DATA, EXPERIMENT, EXID + b"hello")
            sock.setsockopt(socket.IPPROTO_TCP, TCP_NUSE_OPTIONS, option)
            sock.setsockopt(socket.IPPROTO_TCP, TCP_NUSE_SAVED, 1)
        except OSError as error:
            sys.exit(f"not on nuse: {error}")
        sock.connect((host, port))
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        print(sock.recv(100).split(b"\r\n")[0].decode())
        print("the peer's options:", sock.getsockopt(socket.IPPROTO_TCP, TCP_NUSE_SAVED, 1024) or "none")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
