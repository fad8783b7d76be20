"""What a policy may see: of a layer run, and when experts are placed; read-only arrays, no clock, no future."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from wss.records import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What things cost on an idle wafer, in seconds; policies weigh with these, the engine does not use them.

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
        Tokens of one expert are computed in whole tiles of so many.
    request
        Bytes of requests, against the stream, for each byte that is read over links.
    window
        Reads that a die has in flight.
    link_reads
        Moving one expert over each link, [links]; None where all links are alike (`link_read`).
    transfers
        Moving one expert from one die to another over idle links, requests and latency there and back included,
        [dies, dies]; None where it is `link_read` and a `hop` for each hop.
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
    """One MoE layer run as it is launched.

    Attributes
    ----------
    layer
        Index among the MoE layers that are run, from 0.
    counts
        Tokens routed to each expert, [experts].
    order
        The experts with tokens, first seen first, [active experts].
    home
        The die that each expert was placed on (the first of them, where there are several), [experts].
    replicas
        How many replicas of each expert each die holds in its HBM, [experts, dies]: the slots that the placement gave
        it there; a copy that a prediction keeps counts as one.
    sources
        The dies whose HBM other dies may read each expert from, [experts, dies]: where it was placed, and where a copy
        lies that serves all dies. A die that holds an expert reads its own.
    hops
        Links on the way from one die to another, [dies, dies].
    routes
        Numbers of these links, first link first, -1 after the last, [dies, dies, longest route].
    costs
        What a policy may weigh with.
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
        """How many dies there are."""
        return len(self.hops)

    @cached_property
    def holders(self) -> BoolArray:
        """Which dies hold each expert in their HBM, placed or copied, [experts, dies]; read-only."""
        holders: BoolArray = self.replicas > 0
        holders.flags.writeable = False
        return holders

    @property
    def nearest(self) -> int:
        """How many links the nearest other die is away: one on a mesh, two through a switch."""
        return int(self.hops.min(where=self.hops > 0, initial=np.iinfo(np.int64).max)) if self.num_dies > 1 else 1

    @property
    def link_reads(self) -> FloatArray:
        """Seconds that one expert takes each link, [links]; read-only, as `transfers` is."""
        if self.costs.link_reads is not None:
            return self.costs.link_reads
        return _read_only(np.full(int(self.routes.max(initial=-1)) + 1, self.costs.link_read))

    @property
    def transfers(self) -> FloatArray:
        """Seconds of moving one expert from one die to another over idle links, [dies, dies]."""
        if self.costs.transfers is not None:
            return self.costs.transfers
        return _read_only(self.costs.link_read + self.costs.hop * self.hops.astype(np.float64))


def _read_only(array: FloatArray) -> FloatArray:
    """Return *array*, sealed as all that a view shows: compiled policies are compiled once for both kinds of costs."""
    array.flags.writeable = False
    return array


NEEDS = ("nothing", "prefill", "pairs", "decode")  # of a placement


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
        Tokens of all experts together in one layer run of a full batch.
    room
        How many experts, of all layers together, a die has room for, with the buffers of a whole layer run beside them.
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
        """Tokens that each expert will have in a layer run if routing stays as seen; all alike in a layer not seen."""
        seen = self.load.sum(axis=1, keepdims=True)
        known = np.where(seen > 0, self.load, 1.0)
        expected: FloatArray = known * (self.tokens / known.sum(axis=1, keepdims=True))
        expected.flags.writeable = False
        return expected

    def seconds(self, tokens: FloatArray) -> FloatArray:
        """Return what experts with *tokens* take a die: reading or computing, whichever is longer (a roofline).

        Less than one token a layer run is a read every so many layer runs.
        """
        seconds: FloatArray = np.maximum(np.minimum(tokens, 1.0) * self.costs.hbm_read, tokens * self.costs.token)
        return seconds

    def slots(self, extra: int) -> int:
        """Return how many experts of a layer a die may hold: its share and *extra*, as far as there is room."""
        return self.share + max(0, min(extra, self.room // self.num_layers - self.share))
