"""The UDP header, RFC 768."""

from struct import Struct

UDP_HDR = Struct("!HHHH")  # source port, destination port, length, checksum
UDP_LEN = 8
CSUM_OFFSET = 6
UDP_MAX4 = 65535 - 20 - UDP_LEN  # largest payload of one datagram
UDP_MAX6 = 65535 - UDP_LEN
GSO_SEGMENTS = 128  # most datagrams in one super-datagram, Linux's UDP_MAX_SEGMENTS
