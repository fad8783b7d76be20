"""Tables of attention calls: decode with one query token a request, or causal prefill; grouped-query heads or MLA."""

from __future__ import annotations

import numpy as np

from wss.hardware.kernels import Device
from wss.hardware.kernels.attention import Heads, equal
from wss.hardware.kernels.decode_attention import DECODE_ATTENTION, decode_attention_s
from wss.hardware.kernels.prefill_attention import PREFILL_ATTENTION, prefill_attention_s
from wss.records import FloatArray
from wss.report.kernels.kinds import FLAGS, TIME_US, Kind, Rule
from wss.traces.columns import Columns, Layout, Number, Text

_SIZES = ("batch", "tokens", "query_heads", "kv_heads", "dim_k", "dim_v")
_SOFTWARE = ("framework", "version", "kernel")
GQA, ABSORBED, EXPANDED = "gqa", "mla", "mla_expanded"


def _derived(columns: Columns) -> Columns:
    """Add columns of text: the heads ("gqa", "mla" absorbed), their form ("gqa128"), bytes of a cached element."""
    dim_k, dim_v, kv_bytes = (columns.numbers[name] for name in ("dim_k", "dim_v", "kv_bytes"))
    heads = np.where(dim_k == dim_v, GQA, np.where(columns.numbers["kv_heads"] == 1, ABSORBED, EXPANDED))
    form = np.where(heads == GQA, np.char.add(GQA, dim_k.astype(np.int64).astype(str)), heads)
    element = [f"{x:g}" for x in kv_bytes.tolist()]
    return columns.with_texts(heads=Text.of(heads), form=Text.of(form), kv_bytes=Text.of(element))


def _seconds(columns: Columns, device: Device, parameters: str) -> FloatArray:
    """Return the times of rows; NaN where KV heads do not divide query heads, or are too few for the kernel."""
    result = np.full(columns.count, np.nan)
    sound = columns.numbers["query_heads"] % columns.numbers["kv_heads"] == 0
    for (phase, form), rows in columns.groups(["phase", "heads"]):
        mine = rows[sound[rows]]
        if phase.lower() == "decode":
            result[mine] = _decode_s(columns.where(mine), form, device, parameters)
        else:
            own = columns.where(mine)
            sequences = equal(own.numbers["batch"], own.numbers["tokens"])
            result[mine] = prefill_attention_s(PREFILL_ATTENTION[parameters], device, sequences, _heads(own, form))
    return result


def _decode_s(columns: Columns, form: str, device: Device, parameters: str) -> FloatArray:
    """Return the times of decode as it was measured: the same call again and again."""
    params = DECODE_ATTENTION[parameters]
    fits = columns.numbers["query_heads"] / columns.numbers["kv_heads"] <= params.largest_group
    own = columns.where(fits)
    result = np.full(columns.count, np.nan)
    sequences = equal(own.numbers["batch"], 1, own.numbers["tokens"] - 1)
    result[fits] = decode_attention_s(params, device, sequences, _heads(own, form), replayed=True)
    return result


def _heads(columns: Columns, form: str) -> Heads:
    query, kv, dim_k, dim_v = (columns.numbers[name] for name in _SIZES[2:])
    return Heads(query, kv, dim_k, dim_v, shared=form == ABSORBED)


def _rule(parameters: str, phase: str, heads: str, element: str, *frameworks: str) -> Rule:
    """Return the rule for these *frameworks*, or a stand-in for all others."""
    words = {"phase": (phase,), "heads": (heads,), "kv_bytes": (element,)}
    return Rule(parameters, words | ({"framework": frameworks} if frameworks else {}), stand_in=not frameworks)


ATTENTION = Kind(
    name="attention",
    layout=Layout(
        numbers={
            **dict.fromkeys(_SIZES, Number()),
            "kv_bytes": Number(0.25, 8, whole=False),
            "time_us": TIME_US,
        },
        texts=("gpu", "phase", *_SOFTWARE),
        optional=("gpu", *_SOFTWARE),
        flags=FLAGS,
    ),
    family=("gpu", "phase", "form", "kv_bytes", *_SOFTWARE),
    chosen_by=("phase", "heads", "kv_bytes", "framework"),
    rules=(
        _rule("fa3", "decode", GQA, "2", "vllm"),
        _rule("fa3_fp8", "decode", GQA, "1", "vllm"),
        _rule("fa3_sglang", "decode", GQA, "2", "sglang"),
        _rule("fa3_sglang_fp8", "decode", GQA, "1", "sglang"),
        _rule("trtllm_gqa", "decode", GQA, "2", "trtllm"),
        _rule("trtllm_gqa_fp8", "decode", GQA, "1", "trtllm"),
        _rule("sglang_mla", "decode", ABSORBED, "2", "sglang"),
        _rule("trtllm_mla", "decode", ABSORBED, "2", "trtllm"),
        _rule("trtllm_mla_fp8", "decode", ABSORBED, "1", "trtllm"),
        _rule("fa3", "prefill", GQA, "2", "vllm"),
        _rule("fa3_fp8", "prefill", GQA, "1", "vllm"),
        _rule("fa3_sglang", "prefill", GQA, "2", "sglang"),
        _rule("fa3", "decode", GQA, "2"),
        _rule("fa3_fp8", "decode", GQA, "1"),
        _rule("sglang_mla", "decode", ABSORBED, "2"),
        _rule("trtllm_mla_fp8", "decode", ABSORBED, "1"),
        _rule("fa3", "prefill", GQA, "2"),
        _rule("fa3_fp8", "prefill", GQA, "1"),
        _rule("fa3_sglang", "prefill", EXPANDED, "2"),
        _rule("fa3_fp8", "prefill", EXPANDED, "1"),
    ),
    seconds=_seconds,
    derived=_derived,
)
