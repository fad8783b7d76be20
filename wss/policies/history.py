"""What a placement may know: the model's layers, the routing seen so far, room, and what things cost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from wss.errors import CHECKED
from wss.policies.view import Costs
from wss.records import FloatArray, IntArray

NEEDS = ("nothing", "prefill", "pairs", "decode")


@dataclass(frozen=True, kw_only=True)
class LoadHistorySpec:
    """Requests served before, by whose loads experts are placed instead of by the prefill of the batch.

    Attributes
    ----------
    path
        A trace, or a table of expert loads, in which each dump is a workload.
    only
        Names of the subjects, benchmarks or dumps that count; all if empty.
    by
        ``all``: all of them together. ``subject`` or ``benchmark``: for each request of the batch those of its own, so
        that a mixed batch is placed by the loads of its workloads, in its proportions.
    """

    __pydantic_config__ = CHECKED

    path: str
    only: tuple[str, ...] = ()
    by: Literal["all", "subject", "benchmark"] = "all"


@dataclass(frozen=True, eq=False, kw_only=True)
class PlacementView:
    """What is known when experts are placed, before decode.

    Attributes
    ----------
    layers
        The absolute number of each MoE layer of the model.
    load
        Tokens that each expert has had in the prefill of the batch, [layers, experts]; zero where nothing is known, as
        in layers that are not run. Of the decode to come, if the placement is an oracle (``needs = "decode"``).
    pairs
        How often two experts had the same token in the prefill, [layers, experts, experts], symmetric, zero on the
        diagonal; None unless the placement asks for it (``needs = "pairs"``).
    tokens
        Tokens of all experts together in one kernel of a full batch.
    room
        How many experts, of all layers together, a die has room for, with the buffers of a whole kernel beside them.
    coordinates
        x and y of each die, [dies, 2].
    costs
        What a placement may weigh with.
    num_model_layers
        How many layers the model has, dense ones too; 0 if unknown.
    groups
        Groups of neighbouring experts between which the model's router chooses first; 1 for none.
    """

    layers: tuple[int, ...]
    load: IntArray
    pairs: IntArray | None = None
    tokens: int
    room: int
    coordinates: IntArray
    costs: Costs
    num_model_layers: int = 0
    groups: int = 1

    @property
    def num_layers(self) -> int:
        """How many MoE layers the model has."""
        return len(self.layers)

    @property
    def num_experts(self) -> int:
        """How many experts a layer has."""
        return int(self.load.shape[1])

    @property
    def num_dies(self) -> int:
        """How many dies there are."""
        return len(self.coordinates)

    @property
    def share(self) -> int:
        """How many experts of a layer a die holds, if each is placed once and evenly: E/D, rounded up."""
        return -(-self.num_experts // self.num_dies)

    @cached_property
    def expected(self) -> FloatArray:
        """Tokens that each expert will have in a kernel if routing stays as seen; all alike in a layer not seen."""
        seen = self.load.sum(axis=1, keepdims=True)
        known = np.where(seen > 0, self.load, 1.0)
        expected: FloatArray = known * (self.tokens / known.sum(axis=1, keepdims=True))
        expected.flags.writeable = False
        return expected

    def seconds(self, tokens: FloatArray) -> FloatArray:
        """Return what experts with *tokens* take a die: reading or computing, whichever is longer (a roofline).

        Less than one token a kernel is a read every so many kernels.
        """
        seconds: FloatArray = np.maximum(np.minimum(tokens, 1.0) * self.costs.hbm_read, tokens * self.costs.token)
        return seconds

    def slots(self, extra: int) -> int:
        """Return how many experts of a layer a die may hold: its share and *extra*, as far as there is room."""
        return self.share + max(0, min(extra, self.room // self.num_layers - self.share))
