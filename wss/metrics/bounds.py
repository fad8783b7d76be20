"""Lower bound on the time of one MoE layer run, given where the experts' weights are.

The bound is the largest of four terms: the tiles of tokens spread over D dies, the HBM reads of all dies together, the
HBM reads of each single die, and for each expert the best split over any number of dies. docs/model/bounds.md proves
each term for every plan, network and order of tasks.
"""

from __future__ import annotations

import numpy as np

from wss.compiling import borrowing
from wss.hardware.gemm import GEMMS, GemmModel
from wss.hardware.wafer import Wafer
from wss.models import AnyPrecision, ModelShape
from wss.models.precision import peak_of
from wss.records import AllToAllResult, IntArray, WeightLocations


class Bounds:
    """Lower bounds on the layer runs of one model on one wafer, with one GEMM model."""

    def __init__(
        self, model: ModelShape, wafer: Wafer, precision: AnyPrecision, gemm: GemmModel = GEMMS["ideal"]
    ) -> None:
        die = wafer.spec.die
        self._dies = wafer.num_dies
        self._llc_experts = int(die.llc.size // model.expert_bytes(precision))
        self._start = die.llc.miss + die.hbm.latency
        self._read = model.expert_bytes(precision) / die.hbm.bandwidth
        self._link = model.expert_bytes(precision) / wafer.link_bandwidth.max(initial=0.0) if wafer.num_links else 0.0
        self._gemm, self._tile = gemm, gemm.tile()
        self._shape = (model.hidden_size, model.moe_intermediate_size, die, peak_of(precision), model.matrices)
        nothing, tile = self._compute(0), self._compute(1) - self._compute(0)
        reading = (0.0, 0.0) if self._llc_experts else (self._start, self._read)
        self._costs = (nothing, tile, self._link, *reading)

    def of(self, counts: IntArray, where: WeightLocations | None = None) -> float:
        """Return the lower bound in seconds; *counts* is tokens per expert, [experts].

        Without *where*, weights may be on any die, and the LLCs are full of experts that the layer run needs.
        """
        tiles = -(-counts // self._tile)
        bound = self._compute(-(-int(tiles.sum()) // self._dies))
        if where is None:
            reads = int((counts > 0).sum()) - self._dies * self._llc_experts
            return max(bound, self._reading(-(-reads // self._dies)))
        must = (counts > 0) & ~where.cached
        alone = where.holders[must & (where.holders.sum(axis=1) == 1)].sum(axis=0)  # reads that no other die can serve
        bound = max(bound, self._reading(max(-(-int(must.sum()) // self._dies), int(alone.max(initial=0)))))
        return max(bound, float(_one_expert(tiles, alone, where.holders, self._costs)))

    def _compute(self, tiles: int) -> float:
        """Return the least time of one die for *tiles* tiles of any experts, s."""
        return self._gemm.least_seconds(tiles * self._tile, *self._shape)

    def _reading(self, reads: int) -> float:
        """Return the least time of one HBM for *reads* reads, s."""
        return self._start + reads * self._read if reads > 0 else 0.0


@borrowing
def _one_expert(tiles, alone, holders, costs):  # type: ignore[no-untyped-def]
    """Return the largest bound of any single expert: its least time over all numbers of dies it may be split over.

    *tiles* counts tiles of tokens, [experts]. *alone* counts reads that no other die can serve, [dies]. *holders* is
    [experts, dies]. *costs* are seconds: of an empty computation, of one tile, of one read over a link, before an HBM
    read, and of an HBM read. The last two are zero where an LLC may hold the expert.
    """
    nothing, tile, link, start, read = costs
    num_experts, num_dies = holders.shape
    bound = 0.0
    for expert in range(num_experts):
        if tiles[expert] == 0:
            continue
        held, others = 0, 0
        for die in range(num_dies):
            if holders[expert, die]:
                held += 1
                others = alone[die] - 1
        if held > 1:
            others = 0
        least = np.inf
        for split in range(1, num_dies + 1):
            seconds = nothing + -(-tiles[expert] // split) * tile
            if split > held:
                seconds = max(seconds, link)
            seconds = max(seconds, start + (others + -(-split // held)) * read)
            least = min(least, seconds)
        bound = max(bound, least)
    return bound


def least_all_to_all(all_to_all: AllToAllResult, wafer: Wafer) -> float:
    """Return the least time of dispatch plus combine, s, whichever dies compute the tokens.

    Every token is computed on some die, unless all its experts are zero-computation experts. Its bytes cross at least
    as many links as lie between the most central die and the average die.
    """
    if wafer.num_links == 0:
        return 0.0
    there, back = float(wafer.hops.mean(axis=0).min()), float(wafer.hops.mean(axis=1).min())
    sent = float(all_to_all.received.sum())
    tokens = all_to_all.tokens if sent >= all_to_all.tokens * (1 - 1e-9) else sent
    byte_hops = tokens * (there * all_to_all.dispatch_bytes + back * all_to_all.combine_bytes)
    return byte_hops / float(wafer.link_bandwidth.sum())
