"""Computing time of a die by rooflines: the plain one, and a smooth one.

A GEMM multiplies [m, k] by [k, n] in each of some groups. ``ideal`` is the compute side of the plain roofline: FLOP
over peak FLOP/s. ``h800`` is a model fitted to published measurements on an H800 (`H800`, by experiments/gemm/fit.py):

    tiles   t = groups · ceil(m / 64) · ceil(n / 128)      output tiles, a whole number
    waves   q = t / SMs                                    the last one may be part full
    compute c = (q + w · (ceil(q) - q)) · SMs · 64 · 128 · 2 · (k + k0) / (share of peak · peak FLOP/s)
    memory  b = groups · (m·k + k·n + 2·m·n) bytes / (share of bandwidth · HBM bandwidth)
    time      = launch + (c^3 + b^3)^(1/3)

k0 is the cost of a tile before and after its main loop, as a length of k. w is the share of a part-full wave's idle
time that is lost. The exponent 3 rounds the roofline's corner. Other dies are scaled by their peaks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wss.hardware.specs import DieSpec, Precision
from wss.records import FloatArray, IntArray

TILE_M, TILE_N = 64, 128
CORNER = 3.0


def _ends(dies: IntArray) -> tuple[IntArray, IntArray]:
    """Return the first and the last task of each die that has any."""
    first, last = np.full((2, int(dies.max(initial=-1)) + 1), -1)
    task = np.arange(len(dies))
    first[dies[::-1]], last[dies] = task[::-1], task  # for a die with several tasks, the last assignment wins
    return first[first >= 0], last[last >= 0]


def _tiles(m: FloatArray, n: float) -> IntArray:
    """Return the number of output tiles of GEMMs of *m* rows [gemms] and *n* columns."""
    return np.ceil(m / TILE_M).astype(np.int64) * int(np.ceil(n / TILE_N))


@dataclass(frozen=True)
class Ideal:
    """FLOP over peak FLOP/s: no launch cost, no tiles, no waves. The network models reading the weights."""

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
        """Return the computing time of each task of a layer run, [tasks]: its FLOP over the peak.

        A task is one expert with *tokens* [tasks] on one of the *dies* [tasks]; a die runs its tasks in this order. An
        expert has 3 *matrices*, or 2 without a gate. *held* is the number of experts that each die holds, [dies]: those
        without tokens cost time with measured kernels alone.
        """
        return tokens * self.token_s(hidden, intermediate, die, precision, matrices)

    def least_seconds(
        self, tokens: float, hidden: int, intermediate: int, die: DieSpec, precision: Precision, matrices: int = 3
    ) -> float:
        """Return the minimum time of *tokens* token-experts on one die, over all distributions among experts."""
        return tokens * self.token_s(hidden, intermediate, die, precision, matrices)

    def token_s(self, hidden: int, intermediate: int, die: DieSpec, precision: Precision, matrices: int = 3) -> float:
        """Return the least cost of one more token of an expert, for use by policies."""
        return 2.0 * matrices * hidden * intermediate / die.flops[precision]

    def tile(self) -> int:
        """Return the tokens per tile of one expert; a part-full tile costs as much as a full one."""
        return 1

    def hbm_share(self, precision: Precision) -> float:
        """Return the share of peak HBM bandwidth that streaming weights achieves."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class SmoothRoofline:
    """The smooth roofline of this module.

    Attributes
    ----------
    launch_s
        Seconds to launch a GEMM.
    compute_share, bandwidth_share
        Achieved shares of peak FLOP/s and of HBM bandwidth.
    tile_overhead
        k0, in elements of k.
    part_wave
        w, 0 to 1.
    """

    launch_s: float
    compute_share: float
    bandwidth_share: float
    tile_overhead: float
    part_wave: float

    def compute_s(
        self, m: FloatArray, n: float, k: float, die: DieSpec, precision: Precision, groups: float = 1
    ) -> FloatArray:
        """Return the compute term c of GEMMs of *m* rows, [gemms]."""
        tiles = np.rint(groups * _tiles(m, n)).astype(np.int64)
        result: FloatArray = (tiles / die.sms + self._lost(tiles, die)) * self._wave_s(k, die, precision)
        return result

    def _lost(self, tiles: IntArray, die: DieSpec) -> FloatArray:
        """Return the waves that *tiles* lose in a part-full last wave: idle SMs are counted, then divided."""
        return self.part_wave * (-tiles % die.sms / die.sms)

    def _wave_s(self, k: float, die: DieSpec, precision: Precision) -> float:
        """Return the seconds of one wave: a tile on each SM."""
        flop = die.sms * TILE_M * TILE_N * 2.0 * (k + self.tile_overhead)
        return flop / (self.compute_share * die.flops[precision])

    def gemm_s(
        self, m: FloatArray, n: float, k: float, die: DieSpec, precision: Precision, bytes_in: float, groups: float = 1
    ) -> FloatArray:
        """Return the whole time of GEMMs that read their operands from HBM at *bytes_in* per element, [gemms].

        Results are written at 2 bytes per element.
        """
        moved = groups * (bytes_in * (m * k + k * n) + 2.0 * m * n)
        memory = moved / (self.bandwidth_share * die.hbm.bandwidth)
        compute = self.compute_s(m, n, k, die, precision, groups)
        return self.launch_s + (compute**CORNER + memory**CORNER) ** (1 / CORNER)

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

        All tasks of a die form one grouped GEMM for gate and up and one for down, whose tiles fill waves together. The
        die's first task includes both launches; its last one includes the loss of the part-full waves at the end.
        """
        result = np.zeros(len(tokens))
        first, last = _ends(dies)
        for n, k in (((matrices - 1) * intermediate, hidden), (hidden, intermediate)):
            tiles = _tiles(tokens, n)
            waves = tiles / die.sms
            a_die = np.bincount(dies, tiles)[dies[last]].astype(np.int64)
            waves[last] += self._lost(a_die, die)
            result += waves * self._wave_s(k, die, precision)
        result[first] += 2 * self.launch_s
        return result

    def least_seconds(
        self, tokens: float, hidden: int, intermediate: int, die: DieSpec, precision: Precision, matrices: int = 3
    ) -> float:
        """Return the launches, and the compute terms as if all tiles and waves were full."""
        return 2 * self.launch_s + tokens * self.token_s(hidden, intermediate, die, precision, matrices)

    def token_s(self, hidden: int, intermediate: int, die: DieSpec, precision: Precision, matrices: int = 3) -> float:
        """Return the cost of a token in full tiles and waves."""
        gate_up = 2.0 * (matrices - 1) * intermediate * (hidden + self.tile_overhead)
        down = 2.0 * hidden * (intermediate + self.tile_overhead)
        return (gate_up + down) / (self.compute_share * die.flops[precision])

    def tile(self) -> int:
        """Return the rows of an output tile."""
        return TILE_M

    def hbm_share(self, precision: Precision) -> float:
        """Return the fitted share of bandwidth, the same for every precision."""
        return self.bandwidth_share


# Fitted to 20 FP8 GEMMs on an H800, dense and grouped (DeepGEMM README, first release, 2025-02); experiments/gemm.
H800 = SmoothRoofline(
    launch_s=2.16e-6, compute_share=0.707, bandwidth_share=0.861, tile_overhead=626.0, part_wave=0.475
)
