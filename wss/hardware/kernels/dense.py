"""Times of dense matrix products, [m, k] by [k, n], with a result of 2 bytes per element.

A kernel computes the product in tiles (`tiling`). Of a set's tiles, the fastest one is used. A tile with a split of s
sums over a part k / s; then another kernel reads the partial sums of 4 bytes and adds them up:

    tiles = ceil(m / bm) · ceil(n / bn) · s
    moved = bytes · (m·k + k·n) + 2·m·n
    time  = launch + min over tiles of (tiled_s(...) + (s > 1) · (launch + 8·s·m·n / HBM)) + quantising

Quantising, where a set has it, is a kernel before the product. It reads the [m, k] activations at 2 bytes per element
and writes them at the product's width, with the set's share of the HBM bandwidth.

experiments/kernels/fit_dense.py fits the sets to H100 measurements; experiments/kernels/dense.md has the errors, and
what they are without each parameter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from wss.hardware.kernels.device import Device
from wss.hardware.kernels.sizes import sizes
from wss.hardware.kernels.tiling import Tiling, tiled_s
from wss.presets import Presets
from wss.records import FloatArray

RESULT_BYTES = 2.0
PARTIAL_BYTES = 8.0  # FP32, written and read
LAUNCH_S = 2.14e-6  # fitted with `cublas_bf16`; a fit to DeepGEMM's published rows alone gives 2.15e-6


@dataclass(frozen=True)
class Tile:
    """A tile of *rows* x *columns* with a *split* of k, used for products of more than *above* rows, up to *up_to*."""

    rows: float
    columns: float
    split: float = 1.0
    above: float = 0.0
    up_to: float = np.inf


@dataclass(frozen=True, kw_only=True)
class DenseGemm:
    """A set of parameters of dense products.

    Attributes
    ----------
    tiling
        Shares of the peaks, waves and overlap.
    tiles
        Tiles of which a product uses the fastest.
    quantise_s
        Seconds to start quantising the activations before the product; None: they are given as the product reads them.
    launch_s
        Seconds to start any other kernel.
    source
        Library, software and GPU of the measurements that the set was fitted to.
    """

    tiling: Tiling
    tiles: Sequence[Tile]
    quantise_s: float | None = None
    launch_s: float = LAUNCH_S
    source: str = ""


def dense_gemm_s(
    params: DenseGemm,
    device: Device,
    m: npt.ArrayLike,
    n: npt.ArrayLike,
    k: npt.ArrayLike,
    groups: npt.ArrayLike = 1,
) -> FloatArray:
    """Return the seconds of dense products, in the common shape of the sizes; 0 for a product of no rows.

    Parameters
    ----------
    params, device
        A set of `DENSE`, and the GPU or die.
    m, n, k
        Whole sizes: rows (tokens), columns and depth.
    groups
        Number of equal products that one kernel computes.

    Raises
    ------
    ConfigError
        A size is negative, or not a number; or the device has no peak for the set's precision.
    """
    m, n, k, groups = sizes(m=m, n=n, k=k, groups=groups)
    width = params.tiling.element_bytes
    moved = groups * (width * (m * k + k * n) + RESULT_BYTES * m * n)
    best = np.full(m.shape, np.inf)
    for tile in params.tiles:
        tiles = groups * np.ceil(m / tile.rows) * np.ceil(n / tile.columns) * tile.split
        time = tiled_s(params.tiling, device, tiles, (tile.rows, tile.columns), k / tile.split, moved)
        if tile.split > 1:
            time += params.launch_s + PARTIAL_BYTES * tile.split * groups * m * n / device.hbm
        np.minimum(best, np.where((m > tile.above) & (m <= tile.up_to), time, np.inf), out=best)
    if params.quantise_s is not None:
        best += params.quantise_s + groups * m * k * (2.0 + width) / (params.tiling.hbm_share * device.hbm)
    return np.where(m > 0, params.launch_s + best, 0.0)


def _menu(rows: Sequence[float], columns: Sequence[float], splits: Sequence[float] = (1,)) -> tuple[Tile, ...]:
    """Return all tiles of these *rows*, *columns* and *splits*."""
    return tuple(Tile(*shape) for shape in product(rows, columns, splits))


_CUBLAS = _menu((64, 128), (64, 128, 256), (1, 2, 4, 8))
_DEEPGEMM = _menu((64, 128), (32, 64, 96, 128))
_CUTLASS = (Tile(64, 64, up_to=64), Tile(64, 128, above=64, up_to=128), Tile(128, 128, above=128))

DENSE: Presets[DenseGemm] = Presets(
    "DENSE",
    {
        "cublas_bf16": DenseGemm(
            tiling=Tiling(
                peak="bf16", element_bytes=2, peak_share=0.82, hbm_share=0.844, load_share=1.89, fill=135, part_wave=0
            ),
            tiles=_CUBLAS,
            source="cuBLAS BF16 in TensorRT-LLM 1.3.0rc20, sglang 0.5.14, vLLM 0.24.0; H100-SXM",
        ),
        "cublas_bf16_b200": DenseGemm(
            tiling=Tiling(
                peak="bf16", element_bytes=2, peak_share=0.69, hbm_share=0.715, load_share=2.7, fill=26, part_wave=0
            ),
            tiles=_CUBLAS,
            source="a model of another form that was fitted to cuBLAS BF16 on a B200-SXM; not validated here",
        ),
        "trtllm_fp8": DenseGemm(
            tiling=Tiling(peak="fp8", element_bytes=1, peak_share=0.647, hbm_share=0.784, part_wave=0),
            tiles=_CUBLAS,
            quantise_s=9.83e-6,
            source="cuBLAS FP8, one scale a tensor, in TensorRT-LLM 1.3.0rc20; H100-SXM",
        ),
        "cutlass_fp8": DenseGemm(
            tiling=Tiling(peak="fp8", element_bytes=1, peak_share=0.68, hbm_share=0.80),
            tiles=_CUTLASS,
            quantise_s=3.21e-6,
            source="CUTLASS FP8, one scale a tensor, in sglang 0.5.14 and vLLM 0.24.0; H100-SXM",
        ),
        "deepgemm": DenseGemm(
            tiling=Tiling(peak="fp8", element_bytes=1, peak_share=0.73, hbm_share=0.906, load_share=1.29, fill=166),
            tiles=_DEEPGEMM,
            quantise_s=2.96e-6,
            source="DeepGEMM FP8, scales of blocks, in sglang 0.5.14; H100-SXM",
        ),
        "trtllm_fp8_block": DenseGemm(
            tiling=Tiling(peak="fp8", element_bytes=1, peak_share=0.73, hbm_share=0.813, load_share=1.10, fill=369),
            tiles=_DEEPGEMM,
            quantise_s=2.22e-6,
            source="FP8, scales of blocks, in TensorRT-LLM 1.3.0rc20; H100-SXM",
        ),
        "deepgemm_h800": DenseGemm(
            tiling=Tiling(peak="fp8", element_bytes=1, peak_share=0.73, hbm_share=0.888, load_share=1.45, fill=660),
            tiles=_DEEPGEMM,
            source="20 rows of the README of DeepGEMM's first release (2025-02), the kernel alone; H800-SXM",
        ),
    },
)
"""Sets of parameters by name."""
