"""Everything on every path: the stream is as fast as the fastest path of the moment, and a dead one costs no time.

The connection gives each new piece to the path named here, and a copy to each other path as that has room; what is
acknowledged meanwhile is not copied any more, so a slow path skips ahead instead of holding the others up.
"""

from mptcp.sched.minrtt import MinRtt


class Redundant(MinRtt):
    """The fastest with room carries new text first."""

    name = "redundant"
    duplicates = True
