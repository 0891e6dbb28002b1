"""Parts of scripts/bench: where it measures (arena), what it measures against (embedded, peer.c), how it reports."""
