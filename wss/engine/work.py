"""What both engines run: the tasks of a layer run, and the network of a wafer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from wss.engine.llc import Llcs, keys_of
from wss.engine.network.base import NetworkModel
from wss.engine.network.resources import ReadTable
from wss.engine.specs import NetworkSpec
from wss.hardware.wafer import Wafer
from wss.records import FloatArray, IntArray, Plan


class WaferNetwork:
    """A network over the resources of *wafer*, and the table of the reads on it."""

    def __init__(self, wafer: Wafer, spec: NetworkSpec) -> None:
        self.reads = ReadTable(wafer)
        self.model: NetworkModel = spec.model(self.reads.resources)


@dataclass(frozen=True, kw_only=True)
class PrefetchPlan:
    """What to prefetch: experts of *layer*, the next to run, for each die, highest priority first, [dies] lists."""

    layer: int
    experts: Sequence[Sequence[int]]


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerWork:
    """The tasks of a layer run.

    Attributes
    ----------
    layer
        The layer of the plan's experts.
    plan
        The tasks.
    nbytes
        Bytes of one expert.
    compute
        Computing time of each task, s, [tasks].
    window
        Maximum reads in flight per die.
    prefetch
        What dies without remaining tasks prefetch; None if nothing.
    """

    layer: int
    plan: Plan
    nbytes: float
    compute: FloatArray
    window: int
    prefetch: PrefetchPlan | None = None

    @property
    def prefetches(self) -> bool:
        """Whether anything may be prefetched."""
        return self.prefetch is not None

    @property
    def transfer_bytes(self) -> FloatArray:
        """Bytes of each transfer: one per task, then one per expert to prefetch, die by die, [transfers]."""
        number = len(self.plan.expert) + sum(map(len, self.prefetch.experts if self.prefetch else ()))
        return np.full(number, float(self.nbytes))

    def longest(self, network: WaferNetwork) -> float:
        """Return an upper bound of the seconds that the layer run takes."""
        return float(self.compute.sum()) + network.reads.longest(self.transfer_bytes)

    def rows(self, network: WaferNetwork, llcs: Llcs) -> IntArray:
        """Return the rows of the reads from HBM and from LLC in the table of *network*, [2, tasks]."""
        return np.stack([network.reads.rows(self.plan, hit) for hit in (False, llcs.slots > 0)])

    def prefetch_rows(self, network: WaferNetwork) -> IntArray:
        """Return the row of each die's prefetches, which read its own HBM, [dies]; none if nothing is prefetched."""
        dies = range(len(self.prefetch.experts)) if self.prefetch else ()
        return np.array([network.reads.row(die, die, copy=False, hit=False) for die in dies], np.int64)

    def prefetch_transfers(self, die: int) -> range:
        """Return the numbers of the transfers of the prefetches of *die*."""
        assert self.prefetch is not None
        first = len(self.plan.expert) + sum(map(len, self.prefetch.experts[:die]))
        return range(first, first + len(self.prefetch.experts[die]))

    def prefetch_keys(self, die: int) -> list[int]:
        """Return the keys of what *die* prefetches, in order."""
        assert self.prefetch is not None
        keys: list[int] = keys_of(self.prefetch.layer, np.array(self.prefetch.experts[die], np.int64)).tolist()
        return keys
