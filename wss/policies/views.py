"""Views: what a policy is given for a layer run and for a placement; read-only arrays, no clock, no future."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from wss.records import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Costs on an idle wafer, in seconds; for policies only, the engine does not use them.

    Attributes
    ----------
    hbm_read
        Reading one expert from an HBM.
    link_read
        Moving one expert over a D2D link, or through a node's switch.
    hop
        Latency of one hop, there and back.
    token
        Computing one token of one expert.
    latency
        From the issue of a read from the own HBM to its first byte.
    tile
        Tokens per tile; tokens of one expert are computed in whole tiles.
    request
        Bytes of requests, in the opposite direction, for each byte that is read over links.
    window
        Reads in flight per die.
    link_reads
        Moving one expert over each link, [links]; None if all links are equal (`link_read`).
    transfers
        Moving one expert from one die to another over idle links, including requests and latency there and back,
        [dies, dies]; None if it is `link_read` and a `hop` for each hop.
    """

    hbm_read: float
    link_read: float
    hop: float
    token: float
    latency: float = 0.0
    tile: int = 1
    request: float = 0.0
    window: int = 2
    link_reads: FloatArray | None = None
    transfers: FloatArray | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerView:
    """One MoE layer run at its start.

    Attributes
    ----------
    layer
        Index among the MoE layers that are run, from 0.
    counts
        Tokens routed to each expert, [experts].
    order
        The experts with tokens, first seen first, [active experts].
    home
        The home of each expert: the die of its first replica, [experts].
    replicas
        Replicas of each expert in the HBM of each die, [experts, dies]: the slots of the placement, and one for a copy
        that a prediction keeps.
    sources
        The dies whose HBM other dies may read each expert from, [experts, dies]: those with a replica, and those with a
        copy that serves all dies. A die that holds an expert reads its own.
    hops
        Links on the route from one die to another, [dies, dies].
    routes
        Indices of these links, first link first, padded with -1, [dies, dies, longest route].
    costs
        Costs of reads and of computing.
    """

    layer: int
    counts: IntArray
    order: IntArray
    home: IntArray
    replicas: IntArray
    sources: BoolArray
    hops: IntArray
    routes: IntArray
    costs: Costs

    @property
    def num_dies(self) -> int:
        """Number of dies."""
        return len(self.hops)

    @cached_property
    def holders(self) -> BoolArray:
        """Which dies hold each expert in their HBM, as a replica or a copy, [experts, dies]; read-only."""
        holders: BoolArray = self.replicas > 0
        holders.flags.writeable = False
        return holders

    @property
    def nearest(self) -> int:
        """Hops to the nearest other die: one on a mesh, two through a switch."""
        return int(self.hops.min(where=self.hops > 0, initial=np.iinfo(np.int64).max)) if self.num_dies > 1 else 1

    @property
    def link_reads(self) -> FloatArray:
        """Seconds to move one expert over each link, [links]; read-only, as `transfers` is."""
        if self.costs.link_reads is not None:
            return self.costs.link_reads
        return _read_only(np.full(int(self.routes.max(initial=-1)) + 1, self.costs.link_read))

    @property
    def transfers(self) -> FloatArray:
        """Seconds to move one expert from one die to another over idle links, [dies, dies]."""
        if self.costs.transfers is not None:
            return self.costs.transfers
        return _read_only(self.costs.link_read + self.costs.hop * self.hops.astype(np.float64))


def _read_only(array: FloatArray) -> FloatArray:
    """Make *array* read-only, like all arrays of a view, so numba compiles policies once for both kinds of costs."""
    array.flags.writeable = False
    return array


NEEDS = ("nothing", "prefill", "pairs", "decode")  # of a placement


@dataclass(frozen=True, eq=False, kw_only=True)
class PlacementView:
    """What a placement is given, before decode.

    Attributes
    ----------
    layers
        The absolute index of each MoE layer of the model.
    load
        Tokens of each expert in the prefill of the batch, [layers, experts]; zero if unknown, as in layers that are not
        run. If the placement is an oracle (``needs = "decode"``): those of the decode to come.
    pairs
        How often two experts had the same token in the prefill, [layers, experts, experts], symmetric, zero on the
        diagonal; None unless the placement has ``needs = "pairs"``.
    tokens
        Tokens of all experts together in one layer run of a full batch.
    room
        How many experts, of all layers together, fit in a die's HBM beside the buffers of a whole layer run.
    coordinates
        x and y of each die, [dies, 2].
    costs
        Costs of reads and of computing.
    num_model_layers
        Layers of the model, including dense ones; 0 if unknown.
    groups
        Groups of neighbouring experts from which the model's router selects first; 1 for none.
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
        """Number of MoE layers of the model."""
        return len(self.layers)

    @property
    def num_experts(self) -> int:
        """Number of experts per layer."""
        return int(self.load.shape[1])

    @property
    def num_dies(self) -> int:
        """Number of dies."""
        return len(self.coordinates)

    @property
    def share(self) -> int:
        """Experts of a layer per die, if each is placed once and evenly: E/D, rounded up."""
        return -(-self.num_experts // self.num_dies)

    @cached_property
    def expected(self) -> FloatArray:
        """Expected tokens of each expert in a layer run if routing does not change; equal in layers without load."""
        seen = self.load.sum(axis=1, keepdims=True)
        known = np.where(seen > 0, self.load, 1.0)
        expected: FloatArray = known * (self.tokens / known.sum(axis=1, keepdims=True))
        expected.flags.writeable = False
        return expected

    def seconds(self, tokens: FloatArray) -> FloatArray:
        """Return the time of each expert with *tokens* on a die: reading or computing, the longer one (a roofline).

        An expert with less than one token per layer run is read only in that share of layer runs.
        """
        seconds: FloatArray = np.maximum(np.minimum(tokens, 1.0) * self.costs.hbm_read, tokens * self.costs.token)
        return seconds

    def slots(self, extra: int) -> int:
        """Return how many experts of a layer a die may hold: its share and up to *extra*, limited by its room."""
        return self.share + max(0, min(extra, self.room // self.num_layers - self.share))
