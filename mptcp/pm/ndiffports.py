"""Several subflows over the same two addresses, from different ports: for networks that spread load by the ports."""

from collections.abc import Iterator

from mptcp.pm.base import Candidate, Paths


class NDiffPorts(Paths):
    """nuse.mptcp_ndiffports subflows a connection, as far as the limits go."""

    name = "ndiffports"

    def wanted(self) -> Iterator[Candidate]:
        """The first path so many times."""
        for _ in range(self.meta.host.sysctl.mptcp_ndiffports):
            yield from self.first_path()
