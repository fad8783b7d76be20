"""Computing time of a die by kernels that were measured on H100s (`wss.hardware.kernels`).

Only the compute side of the grouped products is used here: the engine simulates the reading of weights. What a layer
does around its experts is `wss.hardware.layer_overhead`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from wss.hardware.kernels import of_die
from wss.hardware.kernels.experts import ExpertGemm, expert_terms
from wss.hardware.kernels.moe_layer import MOE_LAYERS
from wss.hardware.kernels.tiling import INSTRUCTION_ROWS, compute_s
from wss.hardware.specs import DieSpec, Precision
from wss.records import FloatArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The compute side of grouped products of experts; *products* has a set for each peak that was measured."""

    products: Mapping[Precision, ExpertGemm]

    def seconds(
        self,
        tokens: FloatArray,
        dies: IntArray,
        hidden: int,
        intermediate: int,
        die: DieSpec,
        precision: Precision,
        matrices: int = 3,
    ) -> FloatArray:
        """Return the compute terms of gate (if any) and up together and of down, [tasks]; as in `Ideal`.

        All tasks of a die form one grouped product for gate and up and one for down, each with its fastest tile. The
        die's last task includes what their part-full waves add.
        """
        order = np.argsort(dies, kind="stable")
        number = np.bincount(dies)
        start = np.cumsum(number) - number
        place = np.empty(len(dies), np.int64)  # of a task among those of its die
        place[order] = np.arange(len(dies)) - start[dies[order]]
        busy = np.flatnonzero(number)
        by_die = np.zeros((len(number), int(number.max(initial=0))))
        by_die[dies, place] = tokens
        result, last = np.zeros(len(tokens)), order[(start + number - 1)[busy]]
        for n, k in _shapes(hidden, intermediate, matrices):
            terms = expert_terms(self.products[precision], of_die(die), by_die, n, k)
            result += terms.experts[dies, place]
            result[last] += terms.rest[busy]
        return result

    def least_seconds(
        self, tokens: float, hidden: int, intermediate: int, die: DieSpec, precision: Precision, matrices: int = 3
    ) -> float:
        """Return the compute terms as if tiles were full, loaded for free, and evenly shared by the SMs."""
        tiling = self.products[precision].tiling
        flop = sum(2.0 * n * (k + tiling.fill) for n, k in _shapes(hidden, intermediate, matrices))
        return tokens * flop / (tiling.peak_share * die.flops[precision])

    def token_s(self, hidden: int, intermediate: int, die: DieSpec, precision: Precision, matrices: int = 3) -> float:
        """Return the cost of a token in full tiles and waves."""
        params, device, wave = self.products[precision], of_die(die), np.array([float(die.sms)])
        total = 0.0
        for n, k in _shapes(hidden, intermediate, matrices):
            per_tile = [compute_s(params.tiling, device, wave, each, np.array([k])) / die.sms for each in params.tiles]
            costs = zip(params.tiles, per_tile, strict=True)
            total += min(float(cost[0]) * math.ceil(n / columns) / rows for (rows, columns), cost in costs)
        return total

    def tile(self) -> int:
        """Return the rows of a tensor core's instruction: a tile with fewer rows costs as much."""
        return INSTRUCTION_ROWS

    def hbm_share(self, precision: Precision) -> float:
        """Return the share of peak HBM bandwidth that streaming weights achieves."""
        return self.products[precision].tiling.hbm_share


def _shapes(hidden: int, intermediate: int, matrices: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return columns and depth of the product of gate (if any) and up, and of that of down."""
    return ((matrices - 1) * intermediate, hidden), (hidden, intermediate)


MEASURED = Measured(products={"fp8": MOE_LAYERS["moe_fp8_block"].gemm})
