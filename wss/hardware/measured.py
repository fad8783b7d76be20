"""Computing time of a die by kernels that were measured on H100s (`wss.hardware.kernels`).

Only the compute side of the grouped products is used here: the engine simulates the reading of weights. What a layer
does around its experts is `wss.hardware.layer_overhead`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from wss.hardware.kernels import Device, of_die
from wss.hardware.kernels.experts import ExpertGemm
from wss.hardware.kernels.moe_layer import MOE_LAYERS
from wss.hardware.kernels.tiling import INSTRUCTION_ROWS, wave_s, waves_of
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
        held: IntArray | None = None,
    ) -> FloatArray:
        """Return the compute terms of gate (if any) and up together and of down, [tasks]; as in `Ideal`.

        All tasks of a die form one grouped product for gate and up and one for down, each with its fastest tile. The
        die's last task includes what their part-full waves add, and finding the tiles of all experts that it holds.
        """
        products, result = self.products[precision], np.zeros(len(tokens))
        for n, k in _shapes(hidden, intermediate, matrices):
            result += _computing(products, of_die(die), tokens, dies, n, k)
        number = int(dies.max(initial=-1)) + 1
        experts = np.bincount(dies, minlength=number)
        if held is not None:
            experts = np.maximum(experts, held[:number])
        last = _last(dies, number)
        result[last] += 2 * products.expert_s * experts[dies[last]]
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
        params, device, total = self.products[precision], of_die(die), 0.0
        rows, columns = np.array(params.tiles).T
        for n, k in _shapes(hidden, intermediate, matrices):
            tiles = np.ceil(n / columns) / rows  # of a token
            total += float((tiles * wave_s(params.tiling, device, rows, columns, k)).min()) / die.sms
        return total

    def tile(self) -> int:
        """Return the rows of a tensor core's instruction: a tile with fewer rows costs as much."""
        return INSTRUCTION_ROWS

    def hbm_share(self, precision: Precision) -> float:
        """Return the share of peak HBM bandwidth that streaming weights achieves."""
        return self.products[precision].tiling.hbm_share


def _computing(
    params: ExpertGemm, device: Device, tokens: FloatArray, dies: IntArray, n: float, k: float
) -> FloatArray:
    """Return the compute terms of one grouped product for each die, [tasks]; *tokens* and *dies* are [tasks].

    Each die's product has the tile that is fastest for it. What a die computes beyond its tasks' shares of full waves
    goes to its last task.
    """
    rows, columns = np.array(params.tiles).T[:, :, None]
    tiles = np.ceil(tokens / rows) * np.ceil(n / columns)  # [menu, tasks]
    menu, tasks, number = np.arange(len(rows)), np.arange(len(tokens)), int(dies.max(initial=-1)) + 1
    cells = dies + number * menu[:, None]
    by_die = np.bincount(cells.ravel(), tiles.ravel(), number * len(menu)).reshape(-1, number).astype(np.float64)
    wave = wave_s(params.tiling, device, rows, columns, k)
    compute = waves_of(params.tiling, device, by_die) * wave
    best = compute.argmin(axis=0)  # place in the menu, [dies]
    result: FloatArray = tiles[best[dies], tasks] * (wave[:, 0] / device.sms)[best[dies]]
    last = _last(dies, number)
    chosen = best[dies[last]], dies[last]
    full = by_die[chosen] * wave[best[dies[last]], 0] / device.sms
    result[last] += np.maximum(0.0, compute[chosen] - full)
    return result


def _last(dies: IntArray, number: int) -> IntArray:
    """Return the last task of each of the *number* dies that has any."""
    last = np.full(number, -1)
    last[dies] = np.arange(len(dies))  # for a die with several tasks, the last assignment wins
    return last[last >= 0]


def _shapes(hidden: int, intermediate: int, matrices: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return columns and depth of the product of gate (if any) and up, and of that of down."""
    return ((matrices - 1) * intermediate, hidden), (hidden, intermediate)


MEASURED = Measured(products={"fp16": MOE_LAYERS["moe_bf16"].gemm, "fp8": MOE_LAYERS["moe_fp8_block"].gemm})
