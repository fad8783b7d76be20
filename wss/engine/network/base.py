"""The network interface: three calls, which the SimPy engine, the compiled engine and all-to-all share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from wss.engine.network.resources import Accounts, TransferTable
from wss.records import FloatArray


class Network(Protocol):
    """A network at work. It has no clock of its own; times never decrease from call to call."""

    def issue(self, now: float, transfer: int, row: int) -> float:
        """Start *transfer* at *now*, s, over the resources of *row* in the table.

        Returns
        -------
        float
            Its end, s, if nothing that is issued later can change it; else infinite.
        """
        ...

    def next_time(self, horizon: float) -> float:
        """Return when to call `advance` next, s; infinite if nothing is in flight. Nothing is issued before *horizon*.

        The network may thus work up to *horizon*, or up to the next end of a transfer.
        """
        ...

    def advance(self, now: float) -> Sequence[tuple[int, float]]:
        """Advance to *now*; return the transfers that ended whose end `issue` did not return, and when, s."""
        ...

    def accounts(self) -> Accounts:
        """Return what each resource has carried so far."""
        ...


class NetworkModel(Protocol):
    """The part of a network that depends only on its resources; built once.

    Attributes
    ----------
    in_turns
        Whether dies that act at one instant issue reads in the order of their indices. If not, they do so in the order
        of the events by which they act, except where the contents of an LLC depend on it.
    """

    in_turns: bool

    def start(self, table: TransferTable, nbytes: FloatArray, idle: float) -> Network:
        """Return an idle network at time 0 for transfers of *nbytes*, [transfers], each issued at most once.

        *idle* is an upper bound of the seconds in which nothing is in flight before the last transfer is issued.
        """
        ...
