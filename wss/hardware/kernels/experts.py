"""Times of grouped products: each expert's tokens [m, k] by its own weights [k, n], in one kernel.

A kernel computes the product in tiles (`tiling`). A tile belongs to one expert; the tiles of all experts fill waves
together. A set has a menu of tiles (bm, bn), and a call has the one with the least compute term:

    tiles   = sum over experts of ceil(m / bm) · ceil(n / bn)
    compute = term of these tiles (`tiling`) + experts · expert_s
    memory  = (bytes · (M·k + active·k·n) + 2·M·n) / (h · HBM)
    time    = (compute^p + memory^p)^(1/p)

M is the sum of all m. *experts* are all that the device holds, and *active* are those with a token. A launch is not
included: what starts kernels is a part of the layer (`moe_layer`).

A distribution of tokens over experts is an array, [calls, experts]; experts without tokens are in it as 0. Where many
experts have the same tokens, one column may stand for all of them: *count*, of the same shape, is their number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wss.errors import ConfigError
from wss.hardware.kernels.device import Device
from wss.hardware.kernels.sizes import sizes
from wss.hardware.kernels.tiling import Tiling, compute_s, overlapped_s
from wss.records import FloatArray

RESULT_BYTES = 2.0
TILES = tuple((rows, columns) for rows in (16, 32, 64, 128) for columns in (64, 256))


@dataclass(frozen=True, kw_only=True)
class ExpertGemm:
    """Parameters of grouped products.

    Attributes
    ----------
    tiling
        Shares of the peaks, waves and overlap.
    tiles
        Rows and columns of each tile in the menu.
    expert_s
        Seconds of computing for each expert that the device holds, whether or not it has a token: the kernel finds the
        tiles of each.
    """

    tiling: Tiling
    tiles: Sequence[tuple[float, float]] = TILES
    expert_s: float = 0.0


def expert_gemm_s(
    params: ExpertGemm,
    device: Device,
    tokens: npt.ArrayLike,
    n: npt.ArrayLike,
    k: npt.ArrayLike,
    count: npt.ArrayLike = 1,
) -> FloatArray:
    """Return the seconds of grouped products, in the shape of *n* and *k*; 0 for a call without tokens.

    Parameters
    ----------
    params, device
        A set of parameters, and the GPU or die.
    tokens
        Tokens of each expert, [calls, experts].
    n, k
        Columns and depth of each expert's weights, [calls] or one number; [products, calls] for several products of the
        same tokens.
    count
        Number of experts that each column of *tokens* stands for.

    Raises
    ------
    ConfigError
        A size is negative, or not a number; shapes differ; or the device has no peak for the set's precision.
    """
    tokens, count, n, k = _arguments(tokens, count, n, k)
    compute = _computing(params, device, tokens, count, n, k)
    time = overlapped_s(params.tiling, compute, _memory_s(params.tiling, device, tokens, count, n, k))
    return np.where(tokens.sum(axis=1) > 0, time, 0.0)


def _arguments(
    tokens: npt.ArrayLike, count: npt.ArrayLike, n: npt.ArrayLike, k: npt.ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return *tokens* and *count*, [calls, experts], and *n* and *k*, [calls] or [products, calls]; checked."""
    tokens, count = sizes(tokens=tokens, count=count)
    if tokens.ndim != 2:
        raise ConfigError(f"tokens: {tokens.ndim} dimensions are not right; give an array [calls, experts]")
    calls = len(tokens)
    n, k, _ = sizes(n=n, k=k, calls=np.zeros(calls))
    if n.shape[-1] != calls:
        raise ConfigError(f"n, k: {n.shape[-1]} are not right for {calls} calls; give one number, or one for each call")
    return tokens, count, n, k


def _computing(
    params: ExpertGemm, device: Device, tokens: FloatArray, count: FloatArray, n: FloatArray, k: FloatArray
) -> FloatArray:
    """Return the compute term with the fastest tile, in the shape of *n*."""
    best = np.full(n.shape, np.inf)
    blocks = {rows: np.einsum("ij,ij->i", np.ceil(tokens * (1 / rows)), count) for rows, _ in params.tiles}
    for rows, columns in params.tiles:
        tiles = blocks[rows] * np.ceil(n / columns)
        np.minimum(best, compute_s(params.tiling, device, tiles, (rows, columns), k), out=best)
    result: FloatArray = best + params.expert_s * count.sum(axis=1)
    return result


def _memory_s(
    tiling: Tiling, device: Device, tokens: FloatArray, count: FloatArray, n: FloatArray, k: FloatArray
) -> FloatArray:
    """Return the seconds of reading operands and writing results, in the shape of *n*."""
    total, active = np.einsum("ij,ij->i", tokens, count), np.einsum("ij,ij->i", tokens > 0, count)
    moved = tiling.element_bytes * k * (total + active * n) + RESULT_BYTES * total * n
    result: FloatArray = moved / (tiling.hbm_share * device.hbm)
    return result
