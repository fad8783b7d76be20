"""Background transfers: weights move with the HBM and link bandwidth that layer runs leave, so they slow none.

A resource leaves capacity x time of the layer run, minus the bytes it carried. A move of n bytes uses the same
resources as a read with a copy (`fluid`): n of the source's HBM, of each link on the route and of the die's own HBM,
and request/granule of n of each link on the way back. Moves are served in order, each until one of its resources is
exhausted. The model ignores when in the layer run a resource is idle, and latencies are hidden. So it is optimistic: no
scheduler moves more, and a real one may move less.
"""

from __future__ import annotations

import numpy as np

from wss.compiling import compiled
from wss.engine.network.resources import ReadTable
from wss.hardware.wafer import Wafer
from wss.records import FloatArray, Plan, Traffic


class BackgroundTransfers:
    """The bandwidth that the reads of layer runs leave on a wafer's resources."""

    def __init__(self, wafer: Wafer) -> None:
        self._reads = ReadTable(wafer)

    def move(self, moves: Plan, left: FloatArray, traffic: Traffic, seconds: float) -> FloatArray:
        """Move weights during a layer run of *seconds* with *traffic*; return the bytes of each move, [moves].

        Parameters
        ----------
        moves
            Reads that are kept as copies, the most urgent first.
        left
            Remaining bytes of each move, [moves].
        """
        used = np.concatenate([traffic.hbm_read + traffic.hbm_written, traffic.link_data + traffic.link_request])
        spare = np.maximum(0.0, self._reads.resources.capacity[: used.size] * seconds - used)
        row = self._reads.rows(moves, hit=False)
        moved = np.zeros(len(left))
        _serve(row, left, spare, *self._reads.table, moved)
        return moved


@compiled
def _serve(row, left, spare, stages, rows, moved):  # type: ignore[no-untyped-def]
    """Write the bytes of each move to *moved* [moves], and subtract them from *spare* [resources]."""
    for i in range(row.size):
        r, amount = row[i], left[i]
        for k in range(rows[r].length):
            amount = min(amount, spare[stages[r, k].resource] / stages[r, k].share)
        if amount <= 0.0:
            continue
        moved[i] = amount
        for k in range(rows[r].length):
            at = stages[r, k].resource
            spare[at] = max(0.0, spare[at] - amount * stages[r, k].share)
