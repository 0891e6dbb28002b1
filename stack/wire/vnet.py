"""struct virtio_net_hdr as IFF_VNET_HDR puts it before each packet on a TUN device: 10 bytes, native byte order.

It carries what a network card would know: that a checksum is still to be completed, and that a packet is a
super-segment which somebody cuts later. `hdr_len` as read from the kernel is not reliable; parse the headers instead.
"""

from struct import Struct

VNET = Struct("=BBHHHH")  # flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
VNET_LEN = 10
VNET_NONE = bytes(VNET_LEN)

# flags
NEEDS_CSUM = 1  # the checksum field holds the pseudo-header sum; whoever needs the rest completes it
DATA_VALID = 2  # the checksum was verified
CSUM_VOUCHED = NEEDS_CSUM | DATA_VALID  # on receive: either bit means that no software check is owed

# gso_type
GSO_NONE = 0
GSO_TCPV4 = 1
GSO_TCPV6 = 4
GSO_UDP_L4 = 5
GSO_ECN = 0x80
