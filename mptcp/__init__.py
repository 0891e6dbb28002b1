"""Multipath TCP version 1, RFC 8684, over the extension points of `stack` alone. No I/O, no clock, as `stack`."""
