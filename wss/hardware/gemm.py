"""How long a die computes.

A GEMM multiplies [m, k] by [k, n] in each of some groups. ``ideal`` is the plain roofline's compute side: FLOP over
peak FLOP/s. ``h800`` is what published measurements on an H800 support (`H800`, fitted by experiments/gemm/fit.py):

    tiles   q = groups · ceil(m / 64) · ceil(n / 128) / SMs      waves of output tiles; the last one may be part full
    compute c = (q + w · (ceil(q) - q)) · SMs · 64 · 128 · 2 · (k + k0) / (share of peak · peak FLOP/s)
    memory  b = groups · (m·k + k·n + 2·m·n) bytes / (share of bandwidth · HBM bandwidth)
    time      = launch + (c^3 + b^3)^(1/3)

k0 is what a tile costs before and after its main loop, as a length of k; w is how much of a part-full wave's idle time
is lost; the exponent 3 rounds the roofline's corner. Other dies are scaled by their peaks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wss.hardware.specs import DieSpec, Precision

FloatArray = npt.NDArray[np.float64]

TILE_M, TILE_N = 64, 128
CORNER = 3.0


class GemmModel(Protocol):
    """Says how long an expert's GEMMs compute; reading the weights is the network's business."""

    def seconds(
        self, tokens: FloatArray, hidden: int, intermediate: int, die: DieSpec, precision: Precision
    ) -> FloatArray:
        """Return how long *tokens* [tasks] of one expert each compute, [tasks]."""
        ...

    def launch(self) -> float:
        """Return the seconds that a die spends once a kernel on launching it."""
        ...


@dataclass(frozen=True)
class Ideal:
    """FLOP over peak FLOP/s: no launch cost, no tiles, no waves."""

    def seconds(
        self, tokens: FloatArray, hidden: int, intermediate: int, die: DieSpec, precision: Precision
    ) -> FloatArray:
        """Return 6 · hidden · intermediate FLOP a token over the peak, [tasks]."""
        return tokens * (6.0 * hidden * intermediate / die.flops[precision])

    def launch(self) -> float:
        """Return 0."""
        return 0.0


@dataclass(frozen=True, kw_only=True)
class Measured:
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
        waves = groups * np.ceil(m / TILE_M) * np.ceil(n / TILE_N) / die.sms
        waves = waves + self.part_wave * (np.ceil(waves) - waves)
        flop = waves * die.sms * TILE_M * TILE_N * 2.0 * (k + self.tile_overhead)
        result: FloatArray = flop / (self.compute_share * die.flops[precision])
        return result

    def gemm_s(
        self, m: FloatArray, n: float, k: float, die: DieSpec, precision: Precision, bytes_in: float, groups: float = 1
    ) -> FloatArray:
        """Return the whole time of GEMMs that read their operands from HBM at *bytes_in* an element, [gemms].

        Results are written at 2 bytes an element.
        """
        moved = groups * (bytes_in * (m * k + k * n) + 2.0 * m * n)
        memory = moved / (self.bandwidth_share * die.hbm.bandwidth)
        compute = self.compute_s(m, n, k, die, precision, groups)
        result: FloatArray = self.launch_s + (compute**CORNER + memory**CORNER) ** (1 / CORNER)
        return result

    def seconds(
        self, tokens: FloatArray, hidden: int, intermediate: int, die: DieSpec, precision: Precision
    ) -> FloatArray:
        """Return the compute terms of gate and up together and of down, [tasks]."""
        gate_up = self.compute_s(tokens, 2 * intermediate, hidden, die, precision)
        return gate_up + self.compute_s(tokens, hidden, intermediate, die, precision)

    def launch(self) -> float:
        """Return two launches: gate and up, and down, each one grouped GEMM over the die's experts."""
        return 2 * self.launch_s


# Fitted to 20 FP8 GEMMs on an H800, dense and grouped (DeepGEMM README, first release, 2025-02); experiments/gemm.
H800 = Measured(launch_s=2.16e-6, compute_share=0.707, bandwidth_share=0.861, tile_overhead=626.0, part_wave=0.475)

GEMMS: dict[str, GemmModel] = {"ideal": Ideal(), "h800": H800}
