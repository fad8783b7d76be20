"""The state of a compiled network: records of transfers and resources, in as few arrays as possible.

numba counts references of every array that a call passes, 20 ns each. So what belongs to one thing is one record.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wss.arrays import records
from wss.engine.heap import Heap, build_heap
from wss.engine.network.resources import Accounts, Resources, TransferTable
from wss.records import FloatArray, IntArray

TRANSFER = np.dtype(
    [
        ("row", np.int64),  # in the table
        ("total_bytes", np.float64),
        ("finish", np.float64),  # s; of the fluid network a forecast until it has ended; infinite if there is none
        # fluid: s when it joins the sharing, bytes left, B/s
        ("joins", np.float64),
        ("left", np.float64),
        ("rate", np.float64),
        # packets: s of issue; number of chunks, of those sent and of those that have arrived; its chunk records
        ("since", np.float64),
        ("chunks", np.int64),
        ("sent", np.int64),
        ("arrived", np.int64),
        ("first_slot", np.int64),
        ("slots", np.int64),
    ]
)
RESOURCE = np.dtype(
    [
        ("capacity", np.float64),  # B/s
        ("moved", np.float64),  # bytes of the first account
        ("also_moved", np.float64),  # bytes of the second account
        ("busy", np.float64),  # s
        # fluid: whether a transfer moves over it; for `max_min`: unused B/s, the sum of the shares of the flows whose
        # rates are not fixed yet, their number, whether it is full
        ("in_use", np.bool_),
        ("unused", np.float64),
        ("weight", np.float64),
        ("users", np.int64),
        ("full", np.bool_),
        # circuits: the resource that is held for it, B/s that a transfer achieves
        ("held", np.int64),
        ("achieved", np.float64),
        # circuits and packets: s when it is free again; packets: tick and serial number of that event, queue of chunks
        ("free", np.float64),
        ("end_tick", np.float64),
        ("end_serial", np.int64),
        ("head", np.int64),
        ("tail", np.int64),
    ],
    align=True,
)
CHUNK = np.dtype(  # of a transfer in flight
    [
        ("transfer", np.int64),
        ("number", np.int64),  # in its transfer
        ("stage", np.int64),  # that it reaches next
        ("time", np.float64),  # s when it reaches it
        ("behind", np.int64),  # the chunk after it in a queue; -1 for none
    ]
)


FLUID, PACKET, CIRCUIT = 0, 1, 2


class NetworkState(NamedTuple):
    """A network of any kind at work.

    Attributes
    ----------
    events
        Of packets: keys are ticks; values are a chunk that reaches a stage, or -1 - resource where a service ends.
    kind
        Fluid, packets or circuits.
    stages, rows
        The table of what transfers use, [rows, longest] and [rows].
    transfers, resources, chunks
        `TRANSFER`, `RESOURCE` and `CHUNK` records; the last are None if the network is not of packets.
    flowing, waiting, work
        Transfers in progress; transfers issued and not started; scratch; the first are used, [transfers] each.
    used
        Scratch of the fluid network, [resources]; None for the others.
    count
        Number of transfers in *flowing*, in *waiting*, and of packets' starts so far, [3].
    clock
        Fluid: when the rates were computed, and when the next transfer ends, s, [2].
    ticks, chunk_bytes
        Packets: ticks a second; bytes of a chunk.
    """

    events: Heap
    kind: int
    stages: npt.NDArray[Any]
    rows: npt.NDArray[Any]
    transfers: npt.NDArray[Any]
    resources: npt.NDArray[Any]
    chunks: npt.NDArray[Any] | None
    flowing: IntArray
    waiting: IntArray
    work: IntArray
    used: IntArray | None
    count: IntArray  # type: ignore[assignment]
    clock: FloatArray
    ticks: float = 1.0
    chunk_bytes: float = 1.0

    @property
    def accounts(self) -> Accounts:
        """What each resource has carried so far, as copies."""
        return Accounts(*(np.array(self.resources[name]) for name in ("moved", "also_moved", "busy")))


def build_resources(resources: Resources) -> npt.NDArray[Any]:
    """Return `RESOURCE` records of idle *resources*, [resources]."""
    own = records(len(resources.capacity), RESOURCE)
    own["capacity"], own["head"], own["end_tick"] = resources.capacity, -1, -1.0
    return own


def build_state(kind: int, resources: npt.NDArray[Any], table: TransferTable, nbytes: FloatArray) -> NetworkState:
    """Return an idle network of the *kind* over records of *resources*, for transfers of *nbytes*, [transfers]."""
    transfers = records(len(nbytes), TRANSFER)
    transfers["total_bytes"], transfers["finish"] = nbytes, np.inf
    flowing, waiting, work = (np.zeros(len(nbytes), np.int64) for _ in range(3))
    return NetworkState(
        events=build_heap(0),
        kind=kind,
        stages=table.stages,
        rows=table.rows,
        transfers=transfers,
        resources=resources.copy(),
        chunks=None,
        flowing=flowing,
        waiting=waiting,
        work=work,
        used=np.zeros(len(resources), np.int64) if kind == FLUID else None,
        count=np.zeros(3, np.int64),
        clock=np.array([0.0, np.inf]),
    )
