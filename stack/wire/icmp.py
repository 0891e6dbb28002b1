"""ICMP message types, RFC 792 and RFC 4443, and the one message that is warm: echo."""

from struct import Struct

ECHO_REPLY, UNREACHABLE, QUENCH, REDIRECT, ECHO, TIME_EXCEEDED, PARAM_PROBLEM = 0, 3, 4, 5, 8, 11, 12
TIMESTAMP, TIMESTAMP_REPLY = 13, 14
NET, HOST, PROTOCOL, PORT, FRAG_NEEDED = 0, 1, 2, 3, 4  # codes of UNREACHABLE
ERRORS4 = frozenset((UNREACHABLE, QUENCH, REDIRECT, TIME_EXCEEDED, PARAM_PROBLEM))

UNREACHABLE6, TOO_BIG6, TIME_EXCEEDED6, PARAM_PROBLEM6, ECHO6, ECHO_REPLY6 = 1, 2, 3, 4, 128, 129
MLD_QUERY, MLD_REPORT, MLD_DONE, MLD2_REPORT = 130, 131, 132, 143
ROUTER_SOLICIT, ROUTER_ADVERT, NEIGHBOR_SOLICIT, NEIGHBOR_ADVERT, REDIRECT6 = 133, 134, 135, 136, 137
ADDR6, PORT6 = 3, 4  # codes of UNREACHABLE6
ERROR6_MAX = 127  # types up to here are errors

REASSEMBLY = 1  # code of TIME_EXCEEDED, both families

ICMP_HDR = Struct("!BBHHH")  # type, code, checksum, identifier, sequence number (the last two differ by type)
ICMP_LEN = 8
STAMPS_LEN = 20  # a timestamp message: the header and three times
