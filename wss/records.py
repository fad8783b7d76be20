"""Records passed between packages: the plan of a layer run, the result of running it, and the recorder of both."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class Routed(NamedTuple):
    """The tokens of one MoE layer run: the experts of each, [tokens, top_k], and how often it counts, [tokens]."""

    experts: npt.NDArray[Any]
    multiplicity: IntArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Batch:
    """One step of a model: which tokens of which requests it computes; all arrays are [slots], one slot a request.

    Attributes
    ----------
    step
        Its index. Step 0 is the prefill of the requests that are there at the start.
    request
        The number of each request, each once.
    context, new_tokens
        Tokens of the request that were computed before, and those that this step computes.
    is_prefill
        Whether the new tokens belong to the prompt.
    multiplicity
        How many equal requests the slot stands for.
    """

    step: int
    request: IntArray
    context: IntArray
    new_tokens: IntArray
    is_prefill: BoolArray
    multiplicity: IntArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """The tasks of one MoE layer run, [tasks]; a die runs its tasks in this order.

    A task computes *tokens* tokens of one *expert* on one *die*. The die reads the expert's weights from the HBM of
    *source* and, if *copy* is set, writes them to its own HBM as they arrive. No (expert, die) occurs twice.
    """

    expert: IntArray
    die: IntArray
    tokens: IntArray
    source: IntArray
    copy: BoolArray

    @property
    def remote(self) -> BoolArray:
        """Tasks that read over D2D links, bool [tasks]."""
        remote: BoolArray = self.source != self.die
        return remote


@dataclass(frozen=True, eq=False, kw_only=True)
class Traffic:
    """Bytes over memories and links in one layer run, as counted by the network.

    Attributes
    ----------
    hbm_read, hbm_written
        Bytes out of and into each HBM, [dies].
    llc_read
        Bytes out of each LLC, [dies].
    link_data, link_request
        Bytes of weights and of read requests over each link, [links].
    link_busy
        Seconds during which each link carried anything, [links].
    """

    hbm_read: FloatArray
    hbm_written: FloatArray
    llc_read: FloatArray
    link_data: FloatArray
    link_request: FloatArray
    link_busy: FloatArray


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerRun:
    """The result of one layer run; times in seconds from its start.

    Attributes
    ----------
    issue, read_end, end
        When each task issued its read, had its weights, and ended, [tasks].
    hit
        Tasks whose weights were in the LLC of the die they read from, [tasks].
    prefetched
        Experts that each die read from its own HBM for the next layer, [dies].
    die_end
        When each die's tasks ended, [dies].
    traffic
        Bytes over memories and links.
    """

    issue: FloatArray
    read_end: FloatArray
    end: FloatArray
    hit: BoolArray
    prefetched: IntArray
    die_end: FloatArray
    traffic: Traffic

    @property
    def time(self) -> float:
        """The time of the layer run: that of its last die."""
        return float(self.die_end.max())


@dataclass(frozen=True, eq=False, kw_only=True)
class AllToAllResult:
    """The all-to-all of one layer run's token activations: its time and bytes.

    Attributes
    ----------
    tokens
        Unique tokens of the layer run.
    received
        Unique tokens of each die, including its own; equally many come from every die, [dies].
    node_tokens
        Unique tokens of each node, including its own, [nodes]: each was sent to one die of the node, which forwarded
        it. Empty if every token was sent to each die directly.
    dispatch_bytes, combine_bytes
        Bytes of one token in dispatch and in combine.
    dispatch, combine
        Seconds before the experts and after them.
    link_bytes, link_busy
        Bytes over each link in both, and seconds during which it carried anything, [links].
    """

    tokens: float
    received: FloatArray
    node_tokens: FloatArray
    dispatch_bytes: float
    combine_bytes: float
    dispatch: float
    combine: float
    link_bytes: FloatArray
    link_busy: FloatArray

    @property
    def activation_bytes(self) -> float:
        """Bytes sent in dispatch and combine, each counted once, however many links it crossed."""
        dies, nodes = len(self.received), len(self.node_tokens)
        if nodes == 0:
            sent = float(self.received.sum()) * (dies - 1) / dies
        else:
            gpus = dies // nodes
            sent = float(self.node_tokens.sum()) * (nodes - 1) / nodes + float(self.received.sum()) * (gpus - 1) / gpus
        return sent * (self.dispatch_bytes + self.combine_bytes)


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One row of layers.parquet: time and traffic of a layer run. Step 0 is prefill; *layer* is absolute."""

    policy: str
    phase: str
    step: int
    layer: int
    tokens: int = 0
    active_experts: int = 0
    max_expert_tokens: int = 0
    tasks: int
    time_s: float
    lower_bound_s: float = 0.0
    mean_die_time_s: float
    compute_time_s: float = 0.0
    remote_reads: int
    hops: int
    byte_hops: float
    remote_read_bytes: float
    local_read_bytes: float
    local_write_bytes: float
    request_bytes: float
    max_link_bytes: float
    llc_hits: int
    llc_hit_bytes: float
    prefetched_bytes: float
    evictions: int
    hbm_used_bytes: float
    dispatch_s: float = 0.0
    combine_s: float = 0.0
    activation_bytes: float = 0.0
    planning_s: float = 0.0
    overhead_s: float = 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class WeightLocations:
    """Locations of a layer's weights when its layer run begins.

    Attributes
    ----------
    holders
        Which dies hold each expert in their HBM, as a replica or a copy, [experts, dies].
    cached
        Which experts are in any LLC, [experts].
    """

    holders: BoolArray
    cached: BoolArray


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerRecord:
    """One layer run: its plan and its result.

    Attributes
    ----------
    step, layer
        The step, 0 for prefill, and the absolute layer.
    counts
        Tokens per expert, [experts].
    plan, compute
        Its tasks, and the seconds that each computes, [tasks].
    run, all_to_all
        The result of running it, and of its all-to-all, if this is modelled.
    where
        Locations of the experts' weights when it began.
    planned
        Seconds that it waited for its plan.
    overhead
        Seconds of each die beside its experts: routing, permutation, quantisation, weighted sum, [dies].
    evictions, hbm_used
        Copies evicted, and bytes in the fullest HBM: experts, copies and activation buffers.
    """

    step: int
    layer: int
    counts: IntArray
    plan: Plan
    compute: FloatArray
    run: LayerRun
    where: WeightLocations
    all_to_all: AllToAllResult | None = None
    planned: float = 0.0
    overhead: FloatArray | float = 0.0
    evictions: int = 0
    hbm_used: float


@dataclass(frozen=True, eq=False, kw_only=True)
class MoveRecord:
    """Migrations of one layer.

    Attributes
    ----------
    step, layer
        The step that waited for them or during which they went on, and the absolute layer.
    plan
        The moves, as reads that are kept.
    run
        The result of running them while nothing else ran; None if they went on in the background.
    moved, complete
        In the background: bytes moved, and which moves ended, [moves].
    evictions, hbm_used
        As in `LayerRecord`.
    """

    step: int
    layer: int
    plan: Plan
    run: LayerRun | None = None
    moved: FloatArray = field(default_factory=lambda: np.zeros(0))
    complete: BoolArray = field(default_factory=lambda: np.zeros(0, np.bool_))
    evictions: int = 0
    hbm_used: float


@dataclass(frozen=True, eq=False, kw_only=True)
class LinkLoad:
    """Bytes of weights, read requests and activations over each link, and seconds in which it was busy, [links]."""

    data: FloatArray
    request: FloatArray
    busy: FloatArray
    activation: FloatArray | float = 0.0

    @property
    def total(self) -> FloatArray:
        """All bytes over each link, [links]."""
        return self.data + self.request + self.activation


class Recorder(Protocol):
    """Receives all layer runs and migrations of one policy, in order.

    Attributes
    ----------
    policy
        Name of the policy.
    rebalances
        Number of rebalances so far; None if the policy does not rebalance.
    """

    policy: str
    rebalances: int | None

    def layer_run(self, record: LayerRecord) -> None:
        """Take a layer run: its tasks, dies and links."""

    def migration(self, record: MoveRecord) -> None:
        """Take migrations of one layer."""

    def row(self, row: LayerRow, links: LinkLoad, compute: FloatArray) -> None:
        """Take a finished row, its bytes over links, and the seconds that each die computed, [dies]."""
