"""Times of decode attention: one new token a sequence, which attends to all tokens of its sequence in the KV cache.

A kernel reads the cache once. Long sequences are split over SMs, and a second kernel merges the parts:

    units   = sequences · KV heads · ceil(group / rows)        (group: query heads per KV head)
    memory  = KV bytes / (h · HBM)
    compute = context · KV heads · ceil(group / rows) · rows · 2 · (dim_k + dim_v) / (e · peak)
    split   = longest · s
    time    = launch + start · max(1, units / SMs) + cold · min(1, KV bytes / L2) + q and result bytes / (io · HBM)
              + (memory^p + compute^p + split^p)^(1/p)

All is for a cache that is read from HBM, as in serving. Published tables are from repeated runs, in which a cache of
under about 0.9 of the L2 is read from the L2: ``replayed=True`` is for comparing with them.

experiments/kernels/fit_attention.py fits the sets to H100 measurements; experiments/kernels/attention.md has the
errors, and what they are without each parameter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wss.errors import ConfigError
from wss.hardware.kernels.attention import ACTIVATION_BYTES, Heads, Sequences
from wss.hardware.kernels.device import Device
from wss.presets import Presets
from wss.records import FloatArray

WARM_SHARE = 0.9  # of the L2: a replayed cache of this size is half read from the L2; a constant of the fits
WARM_STEEPNESS = 6
CORNER = 4.0  # p: memory, compute and split overlap well


@dataclass(frozen=True, kw_only=True)
class DecodeAttention:
    """A set of parameters of decode attention.

    Attributes
    ----------
    kv_bytes
        Bytes an element of the KV cache.
    launch_s
        Seconds to start the kernels.
    start_s
        Seconds that an SM takes to begin and end one unit.
    cold_s
        Seconds until reads from HBM are at their full rate.
    hbm_share
        h: share of the HBM bandwidth at which the cache is read.
    io_share
        io: share of the HBM bandwidth at which queries are read and results written.
    split_s
        s: seconds a token of the longest sequence; splitting a sequence over SMs has its limits.
    peak_share
        e: share of the peak; 1 where compute never shows.
    rows
        Query heads of one KV head are computed in tiles of so many rows.
    largest_group
        Most query heads per KV head that the kernel was made for.
    source
        Software and GPU of the measurements that the set was fitted to.
    """

    kv_bytes: float
    launch_s: float
    cold_s: float
    hbm_share: float
    split_s: float
    peak_share: float
    io_share: float = 1.0
    start_s: float = 0.0
    rows: float = 64.0
    largest_group: float = np.inf
    source: str = ""


def decode_attention_s(
    params: DecodeAttention, device: Device, sequences: Sequences, heads: Heads, *, replayed: bool = False
) -> FloatArray:
    """Return the seconds of decode attention, [calls]; 0 for a call of no sequences.

    Parameters
    ----------
    params, device
        A set of `DECODE_ATTENTION`, and the GPU or die.
    sequences
        Sums over the sequences of each call, with one new token a sequence (`attention.equal`, `attention.of_lengths`).
    heads
        Heads on the die.
    replayed
        Whether the same call ran just before, so that a small cache is read from the L2.

    Raises
    ------
    ConfigError
        A sequence has more than one new token; a group is larger than the kernel was made for; or the device has no
        BF16 peak.
    """
    _check(params, sequences, heads)
    row_tiles = heads.kv * np.ceil(heads.group / params.rows)
    units = sequences.count * row_tiles
    kv_bytes = params.kv_bytes * sequences.context * heads.cached
    warm = _warm(kv_bytes / device.l2_bytes) if replayed else 0.0
    memory = kv_bytes * ((1 - warm) / (params.hbm_share * device.hbm) + warm / device.l2)
    flop = sequences.context * row_tiles * params.rows * 2 * heads.dims
    compute = flop / (params.peak_share * device.peak("bf16"))
    split = params.split_s * sequences.longest
    io = ACTIVATION_BYTES * sequences.count * heads.query * heads.dims / (params.io_share * device.hbm)
    cold = params.cold_s * (1 - warm) * np.minimum(1.0, kv_bytes / device.l2_bytes)
    body = (memory**CORNER + compute**CORNER + split**CORNER) ** (1 / CORNER)
    time = params.launch_s + params.start_s * np.maximum(1.0, units / device.sms) + cold + io + body
    return np.where(sequences.count > 0, time, 0.0)


def _warm(share: FloatArray) -> FloatArray:
    """Return the share of reads that find a cache of *share* of the L2 there, when the call is repeated."""
    result: FloatArray = 1 / (1 + (share / WARM_SHARE) ** WARM_STEEPNESS)
    return result


def _check(params: DecodeAttention, sequences: Sequences, heads: Heads) -> None:
    faults = []
    if not (sequences.new == sequences.count).all():
        faults.append("decode attention has one new token a sequence; give prefill_attention_s what has more")
    largest = np.max(heads.group, initial=0.0)
    if largest > params.largest_group:
        most = f"at most {params.largest_group:g}"
        faults.append(f"query_heads: {largest:g} per KV head; the kernel was measured with {most}; give fewer")
    if faults:
        raise ConfigError(*faults)


DECODE_ATTENTION: Presets[DecodeAttention] = Presets(
    "DECODE_ATTENTION",
    {
        "fa3": DecodeAttention(
            kv_bytes=2,
            launch_s=10.8e-6,
            start_s=1.96e-6,
            cold_s=5.4e-6,
            hbm_share=0.983,
            split_s=0.25e-9,
            peak_share=0.39,
            source="FlashAttention-3 in vLLM 0.24.0, BF16 cache; H100-SXM",
        ),
        "fa3_fp8": DecodeAttention(
            kv_bytes=1,
            launch_s=11.6e-6,
            start_s=2.8e-6,
            cold_s=4.91e-6,
            hbm_share=1,
            split_s=0.25e-9,
            peak_share=0.39,
            source="FlashAttention-3 in vLLM 0.24.0, FP8 cache; H100-SXM",
        ),
        "fa3_sglang": DecodeAttention(
            kv_bytes=2,
            launch_s=9.58e-6,
            start_s=1.4e-6,
            cold_s=4.35e-6,
            hbm_share=0.954,
            split_s=0.25e-9,
            peak_share=0.39,
            source="FlashAttention-3 in sglang 0.5.14, BF16 cache; H100-SXM",
        ),
        "fa3_sglang_fp8": DecodeAttention(
            kv_bytes=1,
            launch_s=12.2e-6,
            start_s=2.25e-6,
            cold_s=6.91e-6,
            hbm_share=0.718,
            split_s=0.25e-9,
            peak_share=0.39,
            source="FlashAttention-3 in sglang 0.5.14, FP8 cache; H100-SXM",
        ),
        "trtllm_gqa": DecodeAttention(
            kv_bytes=2,
            launch_s=12e-6,
            cold_s=13.5e-6,
            hbm_share=0.97,
            split_s=0.25e-9,
            peak_share=0.051,
            rows=8,
            largest_group=32,
            source="TensorRT-LLM 1.3.0rc20, BF16 cache; H100-SXM",
        ),
        "trtllm_gqa_fp8": DecodeAttention(
            kv_bytes=1,
            launch_s=9.82e-6,
            cold_s=6.77e-6,
            hbm_share=0.97,
            split_s=0.25e-9,
            peak_share=0.0596,
            rows=8,
            largest_group=32,
            source="TensorRT-LLM 1.3.0rc20, FP8 cache; H100-SXM",
        ),
        "sglang_mla": DecodeAttention(
            kv_bytes=2,
            launch_s=13.5e-6,
            start_s=3.02e-6,
            cold_s=5e-6,
            hbm_share=0.941,
            split_s=0.42e-9,
            peak_share=0.63,
            source="MLA in sglang 0.5.14, BF16 cache; H100-SXM",
        ),
        "flashmla": DecodeAttention(
            kv_bytes=2,
            launch_s=13.5e-6,
            start_s=3.02e-6,
            cold_s=5e-6,
            hbm_share=0.896,
            split_s=0.42e-9,
            peak_share=0.667,
            source="shares of the peaks: FlashMLA README (9241ae3), H800-SXM; the rest as sglang_mla, BF16 cache",
        ),
        "trtllm_mla": DecodeAttention(
            kv_bytes=2,
            launch_s=14e-6,
            start_s=0.926e-6,
            cold_s=5e-6,
            hbm_share=0.957,
            io_share=0.462,
            split_s=0.42e-9,
            peak_share=0.716,
            source="MLA in TensorRT-LLM 1.3.0rc20, BF16 cache; H100-SXM",
        ),
        "trtllm_mla_fp8": DecodeAttention(
            kv_bytes=1,
            launch_s=12.5e-6,
            start_s=1.77e-6,
            cold_s=5e-6,
            hbm_share=1,
            io_share=0.376,
            split_s=0.42e-9,
            peak_share=0.822,
            source="MLA in TensorRT-LLM 1.3.0rc20, FP8 cache; H100-SXM",
        ),
    },
)
"""Sets of parameters by name."""
