"""Tables of MoE layers, the time of one rank: routing, permutation, quantisation, expert GEMMs and weighted sum."""

from __future__ import annotations

import numpy as np

from wss.hardware.kernels import Device
from wss.hardware.kernels.loads import loads
from wss.hardware.kernels.moe_layer import MOE_LAYERS, moe_layer_s
from wss.records import BoolArray, FloatArray
from wss.report.kernels.kinds import FLAGS, TIME_US, Kind, Rule
from wss.traces.columns import Columns, Layout, Number

_SHAPE = ("hidden", "intermediate", "experts", "top_k", "ep", "tokens")
_DERIVED = dict.fromkeys(("active_experts", "token_experts", "max_tokens"), Number(0, whole=False))
LAYOUT = Layout(
    numbers={**dict.fromkeys(_SHAPE, Number()), **_DERIVED, "time_us": TIME_US},
    texts=("gpu", "precision", "framework", "version", "kernel", "model", "routing"),
    optional=("gpu", "framework", "version", "model"),
    flags=FLAGS,
)
ROUNDED = 1.01  # loads are rounded
SPREAD = 1.5  # the product of two means of draws may be below the mean of products
_KNOWN = ("trtllm", "sglang", "vllm")
FAMILY = ("gpu", "precision", "framework", "version", "kernel")


def seconds_of(columns: Columns, device: Device, parameters: str) -> FloatArray:
    """Return the times of the rows, [rows], with that set of `MOE_LAYERS`; NaN where loads contradict one another."""
    result, sound = np.full(columns.count, np.nan), _is_sound(columns)
    own = columns.where(sound).numbers
    tokens, count = loads(own["experts"] / own["ep"], own["active_experts"], own["token_experts"], own["max_tokens"])
    hidden, intermediate, layer = (own[name] for name in ("hidden", "intermediate", "tokens"))
    result[sound] = moe_layer_s(MOE_LAYERS[parameters], device, tokens, hidden, intermediate, layer, count)
    return result


def _is_sound(columns: Columns) -> BoolArray:
    """Return which rows, [rows], have loads that can be: those of skewed rows are means of several draws."""
    own = columns.numbers
    active, routed, most = (own[name] for name in ("active_experts", "token_experts", "max_tokens"))
    sound: BoolArray = (routed <= own["tokens"] * own["top_k"] * ROUNDED) & (most <= routed * ROUNDED)
    return sound & (active <= own["experts"] / own["ep"] + 1) & (routed <= active * most * SPREAD)


MOE_LAYER = Kind(
    name="moe_layer",
    layout=LAYOUT,
    family=FAMILY,
    chosen_by=("precision", "framework", "kernel"),
    rules=(
        Rule("moe_fp8_block_b200", {"precision": ("fp8_block",)}, generation="blackwell"),
        Rule("moe_fp8_block_triton", {"precision": ("fp8_block",), "kernel": ("*triton*",)}),
        Rule("moe_fp8_block", {"precision": ("fp8_block",), "kernel": ("*cutlass*",)}),
        Rule("moe_fp8", {"precision": ("fp8",), "framework": _KNOWN}),
        Rule("moe_bf16", {"precision": ("bfloat16",), "framework": _KNOWN}),
        Rule("moe_fp8_block", {"precision": ("*fp8_block*",)}, stand_in=True),
        Rule("moe_fp8", {"precision": ("*fp8*",)}, stand_in=True),
        Rule("moe_bf16", {"precision": ("*bf16*", "*bfloat16*", "fp16", "float16")}, stand_in=True),
    ),
    seconds=seconds_of,
    shape=("gpu", "precision", *_SHAPE, "routing"),
)
