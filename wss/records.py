"""What the parts hand one another: the plan of a layer run, and what happened when it ran."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


class Routed(NamedTuple):
    """The tokens of one MoE layer run: the experts of each, [tokens, top_k], and how often it is there, [tokens]."""

    experts: npt.NDArray[Any]
    times: IntArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """The tasks of one MoE layer run, [tasks]; a die runs its own in the order in which they stand here.

    A task computes *tokens* tokens of one *expert* on one *die*, which reads the expert's weights from the HBM of
    *source*, and where *copy* is set writes them to its own HBM as they arrive. No (expert, die) comes twice.
    """

    expert: IntArray
    die: IntArray
    tokens: IntArray
    source: IntArray
    copy: BoolArray

    @property
    def remote(self) -> BoolArray:
        """Which tasks read over D2D links, [tasks]."""
        remote: BoolArray = self.source != self.die
        return remote


@dataclass(frozen=True, eq=False, kw_only=True)
class Traffic:
    """What the memories and links carried in one layer run, as the network counted it.

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
    """What happened in one layer run; times in seconds from its start.

    Attributes
    ----------
    issue, read_end, end
        When each task issued its read, had its weights, and was done, [tasks].
    hit
        Which tasks found their weights in the LLC of the die they read from, [tasks].
    prefetched
        How many experts each die read from its own HBM for the layer to come, [dies].
    die_end
        When each die was done, [dies].
    carried
        What memories and links carried.
    """

    issue: FloatArray
    read_end: FloatArray
    end: FloatArray
    hit: BoolArray
    prefetched: IntArray
    die_end: FloatArray
    carried: Traffic

    @property
    def time(self) -> float:
        """The layer run's time: the last die's."""
        return float(self.die_end.max())


@dataclass(frozen=True, eq=False, kw_only=True)
class Exchanged:
    """What the all-to-all of token activations of one layer run took.

    Attributes
    ----------
    tokens
        Different tokens of the layer run.
    received
        How many tokens each die was sent, those that it had itself included: as many from every die, [dies].
    met
        How many each node was sent, its own included, [nodes]: once to one of its dies, which handed them on. Of no
        nodes where every token went to each die by itself.
    there_bytes, back_bytes
        Bytes of one token on its way to a die and back.
    dispatch, combine
        Seconds before the experts and after them.
    link_bytes, link_busy
        Bytes over each link in both, and seconds during which it carried anything, [links].
    """

    tokens: float
    received: FloatArray
    met: FloatArray
    there_bytes: float
    back_bytes: float
    dispatch: float
    combine: float
    link_bytes: FloatArray
    link_busy: FloatArray

    @property
    def activation_bytes(self) -> float:
        """Bytes that left a die, there and back, each once however many links it crossed to the next die."""
        dies, nodes = len(self.received), len(self.met)
        if nodes == 0:
            sent = float(self.received.sum()) * (dies - 1) / dies
        else:
            gpus = dies // nodes
            sent = float(self.met.sum()) * (nodes - 1) / nodes + float(self.received.sum()) * (gpus - 1) / gpus
        return sent * (self.there_bytes + self.back_bytes)


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One row of layers.parquet: a layer run's time and traffic. Step 0 is prefill; *layer* is absolute."""

    policy: str
    phase: str
    step: int
    layer: int
    tokens: int
    active_experts: int
    max_expert_tokens: int
    tasks: int
    time_s: float
    lower_bound_s: float
    mean_die_time_s: float
    compute_time_s: float
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
