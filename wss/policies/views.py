"""Views: the arguments of the parts of a policy. Read-only arrays, without times or, except for oracles, the future."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from wss.policies.signals import Signal, SignalField, SignalView
from wss.records import BoolArray, FloatArray, IntArray, Plan


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Costs on an idle wafer, in seconds (under the paper's physics in ns); for policies only, no engine uses them.

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
        From the issue of a read from the die's own HBM to its first byte.
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
    """One MoE layer run at its start, for an allocation.

    Attributes
    ----------
    layer
        Index among the MoE layers that are run, from 0.
    counts
        Tokens routed to each expert, [experts].
    order
        The experts with tokens, in order of first occurrence, [active experts].
    primary_die
        The die of each expert's first replica, its home, [experts].
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
    primary_die: IntArray
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
        """Hops to the nearest other die (one on a mesh, two through a switch)."""
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


@dataclass(frozen=True, eq=False, kw_only=True)
class PlacementView(SignalView):
    """What a placement is given, before decode.

    Attributes
    ----------
    layers
        The absolute index of each MoE layer of the model.
    num_experts
        Experts per layer.
    tokens
        Tokens of all experts together in one layer run of a full batch.
    capacity
        How many experts, of all layers together, fit in a die's HBM beside the buffers of a whole layer run.
    coordinates
        x and y of each die, [dies, 2].
    hops, costs
        As in `LayerView`.
    num_model_layers
        Layers of the model, including dense ones; 0 if unknown.
    groups
        Groups of neighbouring experts from which the model's router selects first; 1 for none.
    prefill_load
        Tokens of each expert in the prefill of the batch, [layers, experts]; zero in layers that are not run. If the
        policy has a load history: its loads. If it rebalances: the load that the rebalancing returned.
    decode_load
        For oracles: tokens of each expert in the decode to come, [layers, experts].
    coactivation
        How often two experts were selected for one prefill token, [layers, experts, experts], zero on the diagonal.
    """

    layers: tuple[int, ...]
    num_experts: int
    tokens: int
    capacity: int
    coordinates: IntArray
    hops: IntArray
    costs: Costs
    num_model_layers: int = 0
    groups: int = 1
    prefill_load = SignalField[IntArray](Signal.PREFILL_LOAD)
    decode_load = SignalField[IntArray](Signal.DECODE_LOAD)
    coactivation = SignalField[IntArray](Signal.COACTIVATION)

    @property
    def load(self) -> IntArray:
        """The load that the placement declared (of the decode to come, or else of the prefill), [layers, experts]."""
        return self.decode_load if Signal.DECODE_LOAD in self.signals else self.prefill_load

    @property
    def num_layers(self) -> int:
        """Number of MoE layers of the model."""
        return len(self.layers)

    @property
    def num_dies(self) -> int:
        """Number of dies."""
        return len(self.coordinates)

    @property
    def share(self) -> int:
        """Experts of a layer per die, if each is placed once and evenly (E/D, rounded up)."""
        return -(-self.num_experts // self.num_dies)

    @cached_property
    def expected(self) -> FloatArray:
        """Expected tokens of each expert in a layer run if routing does not change; equal in layers without load."""
        total = self.load.sum(axis=1, keepdims=True)
        shares = np.where(total > 0, self.load, 1.0)
        expected: FloatArray = shares * (self.tokens / shares.sum(axis=1, keepdims=True))
        expected.flags.writeable = False
        return expected

    def seconds(self, tokens: FloatArray) -> FloatArray:
        """Return the time of each expert with *tokens* on a die: reading or computing, the longer one (a roofline).

        An expert with less than one token per layer run is read only in that share of layer runs.
        """
        return np.maximum(np.minimum(tokens, 1.0) * self.costs.hbm_read, tokens * self.costs.token)

    def slots(self, extra: int) -> int:
        """Return how many experts of a layer a die may hold: its share and up to *extra*, limited by its HBM."""
        return self.share + max(0, min(extra, self.capacity // self.num_layers - self.share))


@dataclass(frozen=True, eq=False, kw_only=True)
class PredictionView(SignalView):
    """The plan of a layer run, for a prediction.

    A transition from i to j is a token sent to expert i of this layer whose request's next token was sent to expert j
    of it.

    Attributes
    ----------
    plan
        The tasks of the layer run, and which dies fetch their expert (`Plan.remote`).
    num_experts, num_dies
        Experts of the layer, and dies.
    transitions
        Transitions up to this layer run, prefill and decode, [experts, experts].
    prefill_transitions
        Transitions of the prefill alone, [experts, experts].
    decayed_transitions
        Transitions, of which one n steps ago counts 2^(-n / half_life), [experts, experts].
    next_step
        For oracles: which experts each die computes in the layer's next layer run, [dies, experts], 0 or 1.
    """

    plan: Plan
    num_experts: int
    num_dies: int
    transitions = SignalField[IntArray](Signal.TRANSITIONS)
    prefill_transitions = SignalField[IntArray](Signal.PREFILL_TRANSITIONS)
    decayed_transitions = SignalField[FloatArray](Signal.DECAYED_TRANSITIONS)
    next_step = SignalField[IntArray](Signal.NEXT_STEP)


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool(SignalView):
    """The copies that one die can keep or evict, [copies] each.

    Held copies come first, by layer, then expert; then those about to be written, the die's last task first.

    Attributes
    ----------
    new
        Whether the copy is about to be written.
    last_use
        Index of the layer run that last used it; for new copies, that of the current layer run.
    uses
        How many layer runs have used the expert on this die, fetched or held, since the run began.
    expected_tokens
        What the prediction expected of the layer's next layer run when the layer last ran, [copies].
    next_use
        For oracles: index of the layer run in which the die computes the expert next, or infinite, [copies].
    """

    new: BoolArray
    last_use: IntArray
    uses: IntArray
    expected_tokens = SignalField[FloatArray](Signal.EXPECTED_TOKENS)
    next_use = SignalField[FloatArray](Signal.NEXT_USE)


@dataclass(frozen=True, eq=False, kw_only=True)
class PrefetchView(SignalView):
    """The layer run about to start and the layer that follows, for a prefetching.

    Attributes
    ----------
    counts
        Tokens of each expert in this layer run, [experts].
    holders
        The dies that hold each expert of the next layer in their HBM, [experts, dies]; a die can only prefetch these.
    slots
        Number of experts that fit in an LLC.
    popularity
        Tokens of each expert of the next layer so far, [experts].
    layer_transitions
        How often a token of expert i of this layer was sent to expert j of the next one, [experts, experts].
    """

    counts: IntArray
    holders: BoolArray
    slots: int
    popularity = SignalField[IntArray](Signal.POPULARITY)
    layer_transitions = SignalField[IntArray](Signal.LAYER_TRANSITIONS)


@dataclass(frozen=True, eq=False, kw_only=True)
class LoadView:
    """The loads of the decode steps so far, for a rebalancing.

    Attributes
    ----------
    counts
        Tokens of each expert in each step, in order, [steps, layers, experts]; layers are those that are run.
    history
        The loads of the load history of the class, [layers, experts]; None without one.
    """

    counts: IntArray
    history: IntArray | None = None
