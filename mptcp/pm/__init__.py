"""Path management: which addresses the peer is told of, and which subflows are opened; RFC 8684 §3.4."""

from mptcp.pm.base import Candidate, Paths
from mptcp.pm.endpoint import BACKUP, FULLMESH, SIGNAL, SUBFLOW, Endpoint, EndpointTable, Limits
from mptcp.pm.manager import DEFAULT, PATH_MANAGERS, PathManager, register
from mptcp.pm.signals import NEVER

__all__ = [
    "BACKUP",
    "DEFAULT",
    "FULLMESH",
    "NEVER",
    "PATH_MANAGERS",
    "SIGNAL",
    "SUBFLOW",
    "Candidate",
    "Endpoint",
    "EndpointTable",
    "Limits",
    "PathManager",
    "Paths",
    "register",
]
