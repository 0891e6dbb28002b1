"""What an endpoint tells its owner: bits in `endpoint.events`, handed out by `Stack.poll_event`.

Bits, not objects: an endpoint is in the ready queue at most once and its bits coalesce, so a burst of segments costs
one wake-up and no queue of events can grow. Each bit is a hint to look at the endpoint, never the only copy of a fact.
"""

CONNECTED = 1  # the handshake completed (client side)
READABLE = 2  # in-order data, a datagram or an end of stream is there to take
WRITABLE = 4  # a send queue that was full has room again
ACCEPTABLE = 8  # a listener has a connection to accept
PEER_CLOSED = 16  # the peer's FIN arrived; what came before it is still readable
FAILED = 32  # the endpoint died or has a pending error: see `endpoint.error` (an errno)
URGENT = 128  # the peer marked a byte as urgent: see `conn.recv_urgent`
CLOSED = 64  # the endpoint left the stack's tables; nothing more will come
