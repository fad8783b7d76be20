"""A kernel that computes matrix products in output tiles, one tile at a time on each SM.

An output tile has bm rows and bn columns and sums over k. With q = tiles / SMs:

    tile    = (k + k0) · max(2 · max(bm, 64) · bn / (e · peak / SMs), (bm + bn) · bytes / (a · L2 / SMs))
    waves   = max(1, q + w · (ceil(q) - q))
    compute = waves · tile
    memory  = moved / (h · HBM)
    time    = (compute^p + memory^p)^(1/p)

A tensor core's instruction has 64 rows, so a tile with fewer rows costs as much as one with 64. With w = 1, the last
wave takes as long as a full one; with w = 0, SMs share the work evenly, but none takes less than one tile. The exponent
p rounds the roofline's corner. No time is below the roofline, since no share of a peak is above 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wss.errors import ConfigError
from wss.hardware.kernels.device import Device
from wss.records import FloatArray

INSTRUCTION_ROWS = 64  # wgmma m64 on Hopper
CORNER = 3.0


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """Parameters of kernels that compute in tiles; the modules of the kinds say to what they were fitted.

    Attributes
    ----------
    peak
        Precision whose peak FLOP/s applies: "bf16", "fp8" or "fp4".
    element_bytes
        Bytes per element of both operands.
    peak_share
        e: share of the peak FLOP/s in a tile's main loop, above 0, at most 1.
    hbm_share
        h: share of the HBM bandwidth, above 0, at most 1.
    load_share
        a: rate at which all SMs together read tiles of the operands, as a share of the device's L2 bandwidth. It may be
        above 1, as the SMs of a cluster share reads. Infinite: reading tiles costs nothing.
    fill
        k0: cost of a tile before and after its main loop, in elements of k.
    part_wave
        w: share of a part-full wave's idle time that is lost, 0 to 1.
    corner
        p: 1 is memory after compute, infinity is full overlap.
    """

    peak: str
    element_bytes: float
    peak_share: float
    hbm_share: float
    load_share: float = math.inf
    fill: float = 0.0
    part_wave: float = 1.0
    corner: float = CORNER

    def __post_init__(self) -> None:
        within = {"peak_share": (0, 1), "hbm_share": (0, 1), "part_wave": (0, 1), "corner": (1, math.inf)}
        within |= {"element_bytes": (0, math.inf), "load_share": (0, math.inf), "fill": (0, math.inf)}
        may_be_zero = ("part_wave", "fill")
        faults = []
        for name, (low, high) in within.items():
            value = getattr(self, name)
            if not low <= value <= high or (value == 0 and name not in may_be_zero):
                above = "from" if name in may_be_zero or low else "above"
                faults.append(f"{name}: {value} is not right; give a number {above} {low}, up to {high}")
        if faults:
            raise ConfigError(*faults)


def tiled_s(
    tiling: Tiling, device: Device, tiles: FloatArray, shape: tuple[float, float], k: FloatArray, moved: FloatArray
) -> FloatArray:
    """Return the seconds of kernels, [kernels], without their launch.

    Parameters
    ----------
    tiles
        Output tiles of each kernel, a whole number, [kernels].
    shape
        Rows and columns of a tile.
    k
        Elements that each tile sums over, [kernels].
    moved
        Bytes that each kernel reads from and writes to HBM, [kernels].
    """
    return overlapped_s(tiling, compute_s(tiling, device, tiles, shape, k), moved / (tiling.hbm_share * device.hbm))


def compute_s(
    tiling: Tiling, device: Device, tiles: FloatArray, shape: tuple[float, float], k: FloatArray
) -> FloatArray:
    """Return the compute term of `tiled_s`, [kernels]."""
    rows, columns = np.array(shape[0]), np.array(shape[1])
    result: FloatArray = waves_of(tiling, device, tiles) * wave_s(tiling, device, rows, columns, k)
    return result


def waves_of(tiling: Tiling, device: Device, tiles: FloatArray) -> FloatArray:
    """Return the waves of kernels with *tiles*, in the same shape; part-full ones count by what they lose."""
    whole = tiles / device.sms
    result: FloatArray = np.maximum(1.0, whole + tiling.part_wave * (np.ceil(whole) - whole))
    return result


def wave_s(tiling: Tiling, device: Device, rows: FloatArray, columns: FloatArray, k: FloatArray | float) -> FloatArray:
    """Return the seconds of a wave, a tile of *rows* x *columns* over *k* on each SM, in their common shape."""
    flop = 2.0 * np.maximum(rows, INSTRUCTION_ROWS) * columns
    flop_s = flop * (device.sms / (tiling.peak_share * device.peak(tiling.peak)))
    load_s = (rows + columns) * (tiling.element_bytes * device.sms / (tiling.load_share * device.l2))
    result: FloatArray = (k + tiling.fill) * np.maximum(flop_s, load_s)
    return result


def overlapped_s(tiling: Tiling, compute: FloatArray, memory: FloatArray) -> FloatArray:
    """Return the seconds of kernels whose *compute* and *memory* terms, in seconds, overlap, [kernels]."""
    p = tiling.corner
    if p == CORNER:  # a third of the time of powers of any exponent
        result: FloatArray = np.cbrt(compute * compute * compute + memory * memory * memory)
        return result
    longer = np.maximum(compute, memory)
    return longer * ((compute / longer) ** p + (memory / longer) ** p) ** (1 / p)
