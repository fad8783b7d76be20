"""The network interface: issue a transfer, say when to advance next, advance, account for the bytes.

A network of your own: a `NetworkSpec` (`wss.engine.specs`), whose `model` returns a `NetworkModel`, under the entry
point ``wss.networks``. It runs on SimPy, and carries weight reads, dispatch and combine, and migrations. The networks
of wss have the same calls in compiled code too (`wss.engine.network.compiled`).
"""

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
        """Return when to call `advance` next, s; infinite if there is no need to.

        The caller promises to issue nothing before *horizon*, so the network may simulate ahead, to *horizon* or to the
        next end of a transfer.
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
        True: dies that act at one instant issue reads by index. False: in the order of events, unless LLCs can hold
        experts; then by index too.
    """

    in_turns: bool

    def start(self, table: TransferTable, nbytes: FloatArray, longest: float) -> Network:
        """Return an idle network at time 0 for transfers of *nbytes*, [transfers], each issued at most once.

        *longest* is an upper bound of the seconds until the last one ends.
        """
        ...
