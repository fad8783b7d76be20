"""A kernel that computes a matrix product in output tiles, one tile at a time on each SM.

An output tile has bm rows and bn columns and sums over k. With q = tiles / SMs (waves):

    tile    = (k + k0) · max(2 · max(bm, 64) · bn / (e · peak / SMs), (bm + bn) · bytes / (a · L2 / SMs))
    compute = tile · (q + w · (ceil(q) - q))
    memory  = moved / (h · HBM · min(1, q / f))
    time    = (compute^p + memory^p)^(1/p)

An SM's tensor core works on 64 rows at least, so a tile with fewer rows costs as much as one with 64. An SM's reads
have a limited rate, so that fewer than f · SMs tiles do not reach the HBM's bandwidth. No time is below the roofline:
every share of a peak is at most 1, and p rounds the corner outwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wss.hardware.kernels.device import Device
from wss.records import FloatArray

LEAST_ROWS = 64  # rows of a tensor core's instruction on Hopper (wgmma m64)


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """Parameters of kernels that compute in tiles; fitted, for each set, as its module says.

    Attributes
    ----------
    peak
        Precision whose peak FLOP/s applies: "bf16", "fp8", "fp4".
    element_bytes
        Bytes an element of both operands.
    peak_share
        e: share of the peak FLOP/s in a tile's main loop, 0 to 1.
    load_share
        a: rate at which tiles of the operands arrive at all SMs, as a share of the device's L2 bandwidth. May be above
        1: SMs of a cluster share reads.
    fill
        k0: cost of a tile before and after its main loop, in elements of k.
    part_wave
        w: share of a part-full wave's idle time that is lost, 0 to 1.
    hbm_share
        h: share of the HBM bandwidth, 0 to 1.
    filled
        f: tiles per SM from which the HBM's bandwidth is reached, above 0.
    corner
        p: 1 is memory after compute, large is full overlap.
    """

    peak: str
    element_bytes: float
    peak_share: float
    load_share: float
    fill: float
    part_wave: float
    hbm_share: float
    filled: float
    corner: float


def tiled_s(
    tiling: Tiling, device: Device, tiles: FloatArray, bm: FloatArray, bn: FloatArray, k: FloatArray, moved: FloatArray
) -> FloatArray:
    """Return the seconds of kernels, in the common shape of the arguments, without a launch.

    *tiles* is the whole number of output tiles of *bm* x *bn*, each of which sums over *k*; *moved* is the bytes that
    the kernel reads from and writes to HBM.
    """
    waves = tiles / device.sms
    flop_s = 2.0 * np.maximum(bm, LEAST_ROWS) * bn * device.sms / (tiling.peak_share * device.peak(tiling.peak))
    load_s = (bm + bn) * tiling.element_bytes * device.sms / (tiling.load_share * device.l2)
    tile_s = (k + tiling.fill) * np.maximum(flop_s, load_s)
    compute = tile_s * (waves + tiling.part_wave * (np.ceil(waves) - waves))
    memory = moved / (tiling.hbm_share * device.hbm * np.minimum(1.0, waves / tiling.filled))
    result: FloatArray = (compute**tiling.corner + memory**tiling.corner) ** (1 / tiling.corner)
    return result
