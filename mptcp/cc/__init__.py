"""Coupled congestion controls. Importing this registers them with the stack, which does not know them by itself."""

from mptcp.cc.balia import Balia
from mptcp.cc.base import Coupled, Group
from mptcp.cc.lia import Lia
from mptcp.cc.olia import Olia
from mptcp.cc.wvegas import WVegas
from stack.tcp.cc import register

COUPLED: tuple[type[Coupled], ...] = (Lia, Olia, Balia, WVegas)

for _kind in COUPLED:
    register(_kind)

__all__ = ["COUPLED", "Balia", "Coupled", "Group", "Lia", "Olia", "WVegas"]
