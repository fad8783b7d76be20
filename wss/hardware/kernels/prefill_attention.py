"""Times of prefill attention: new tokens of a sequence attend to its computed tokens and, causally, to each other.

A tile has 128 rows, and each new token and query head of one KV head is a row. An SM computes one tile at a time:

    work   = query heads · (2 · (dim_k + dim_v) + x) FLOP a pair of tokens      (x: softmax, in FLOP of the peak)
    tiles  = KV heads · max(new · group / 128, sequences)                       (group: query heads per KV head)
    longest tile = 128 · longest · (2 · (dim_k + dim_v) + x) / (peak / SMs)
    compute = ((pairs · work / peak)² + (0.62 · longest tile)²)^½
    moved  = 2 · new · query heads · (dim_k + dim_v) + KV bytes of the context
    write  = min(new · w, new KV bytes / (v · HBM))                (where the set stores keys and values in the cache)
    time   = launch + compute + start · max(1, tiles / SMs) + moved / (h · HBM) + write

The terms add up: a tile's loads, products and stores overlap little with those of other tiles. Of few tiles, the one
with the longest context takes longest; of its time, 0.62 is the best value for all sets.

experiments/kernels/fit_attention.py fits the sets to H100 measurements; experiments/kernels/attention.md has the
errors, and what they are without each parameter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from wss.errors import ConfigError
from wss.hardware.kernels.attention import ACTIVATION_BYTES, Heads, Sequences
from wss.hardware.kernels.device import Device
from wss.presets import Presets
from wss.records import FloatArray

TILE_ROWS = 128.0  # FlashAttention-3, heads of up to 128 elements
LONGEST_SHARE = 0.62  # of the longest tile's time; a kernel splits it, or computes other tiles beside it


@dataclass(frozen=True, kw_only=True)
class PrefillAttention:
    """A set of parameters of prefill attention.

    Attributes
    ----------
    kv_bytes
        Bytes an element of the KV cache.
    launch_s
        Seconds to start the kernels.
    softmax_flop
        x: what the softmax of one pair of tokens costs, in FLOP at the peak of the matrix products.
    start_s
        Seconds that an SM takes to begin and end one tile.
    hbm_share
        h: share of the HBM bandwidth at which queries, keys and values are read and results written.
    write_token_s, write_share
        w, v: seconds a new token to store its keys and values in the cache, and share of the HBM bandwidth; the cheaper
        one counts. A share of infinity: the set has no such kernel.
    source
        Software and GPU of the measurements that the set was fitted to.
    """

    kv_bytes: float
    launch_s: float
    softmax_flop: float
    hbm_share: float
    start_s: float = 0.0
    write_token_s: float = 0.0
    write_share: float = math.inf
    source: str = ""


def prefill_attention_s(params: PrefillAttention, device: Device, sequences: Sequences, heads: Heads) -> FloatArray:
    """Return the seconds of prefill attention, [calls]; 0 for a call of no new tokens.

    Parameters
    ----------
    params, device
        A set of `PREFILL_ATTENTION`, and the GPU or die.
    sequences
        Sums over the sequences of each call (`attention.equal`, `attention.of_lengths`).
    heads
        Heads on the die; MLA in its expanded form.

    Raises
    ------
    ConfigError
        The heads are MLA's absorbed form, or the device has no BF16 peak.
    """
    if heads.shared:
        raise ConfigError("prefill attention: the heads are MLA's absorbed form; give mla_expanded(...)")
    peak = device.peak("bf16")
    work = heads.query * (2 * heads.dims + params.softmax_flop)
    tiles = heads.kv * np.maximum(sequences.new * heads.group / TILE_ROWS, sequences.count)
    moved = ACTIVATION_BYTES * sequences.new * heads.query * heads.dims
    moved = moved + params.kv_bytes * sequences.context * heads.cached
    stored = ACTIVATION_BYTES * sequences.new * heads.cached
    write = np.minimum(sequences.new * params.write_token_s, stored / (params.write_share * device.hbm))
    steady = sequences.pairs * work / peak
    longest_tile = TILE_ROWS * sequences.longest * (work / heads.query) * device.sms / peak
    compute = np.hypot(steady, LONGEST_SHARE * longest_tile)
    start = params.start_s * np.maximum(1.0, tiles / device.sms)
    time = params.launch_s + compute + start + moved / (params.hbm_share * device.hbm) + write
    return np.where(sequences.new > 0, time, 0.0)


PREFILL_ATTENTION: Presets[PrefillAttention] = Presets(
    "PREFILL_ATTENTION",
    {
        "fa3": PrefillAttention(
            kv_bytes=2,
            launch_s=10.7e-6,
            start_s=1.97e-6,
            hbm_share=0.864,
            softmax_flop=221,
            write_token_s=5.84e-9,
            write_share=0.146,
            source="FlashAttention-3 in vLLM 0.24.0 with the write of the cache, BF16 cache; H100-SXM",
        ),
        "fa3_fp8": PrefillAttention(
            kv_bytes=1,
            launch_s=13.4e-6,
            hbm_share=0.382,
            softmax_flop=200,
            write_token_s=9.64e-9,
            write_share=0.0845,
            source="FlashAttention-3 in vLLM 0.24.0 with the write of the cache, FP8 cache; H100-SXM",
        ),
        "fa3_sglang": PrefillAttention(
            kv_bytes=2,
            launch_s=10.5e-6,
            hbm_share=0.536,
            softmax_flop=274,
            source="FlashAttention-3 in sglang 0.5.14, BF16 cache; H100-SXM",
        ),
    },
)
"""Sets of parameters by name."""
