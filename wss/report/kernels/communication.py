"""Tables of exchanges between GPUs: DeepEP's dispatch and combine, and collectives."""

from __future__ import annotations

import numpy as np

from wss.hardware.kernels import Device, collectives
from wss.hardware.kernels.collectives import COLLECTIVES, MOST_GPUS
from wss.hardware.kernels.exchange import EXCHANGES, MOST_CHOICES, NODE, Call, combine_s, dispatch_s, fills_nodes
from wss.records import FloatArray
from wss.report.kernels.kinds import FLAGS, TIME_US, Kind, Rule
from wss.traces.columns import Columns, Layout, Number, Text

_SIZE = Number(-1, 2.0**40)  # -1: does not apply
_SIZES = ("hidden", "top_k", "experts", "tokens", "sms", "bytes")
_EXCHANGE = {"dispatch": dispatch_s, "combine": combine_s}
_COLLECTIVE = {
    "all_reduce": collectives.all_reduce_s,
    "all_gather": collectives.all_gather_s,
    "reduce_scatter": collectives.reduce_scatter_s,
    "alltoall": collectives.all_to_all_s,
}


def _derived(columns: Columns) -> Columns:
    """Add the number of GPUs as text."""
    return columns.with_texts(gpus=Text.of(columns.numbers["gpus"].astype(np.int64).astype(str)))


def _seconds(columns: Columns, device: Device, parameters: str) -> FloatArray:
    result = np.full(columns.count, np.nan)
    for (op,), rows in columns.groups(["op"]):
        if op in _EXCHANGE and parameters in EXCHANGES:
            result[rows] = _exchange_s(columns.where(rows), op, device, parameters)
        elif op in _COLLECTIVE and parameters in COLLECTIVES:
            result[rows] = _collective_s(columns.where(rows), op, device, parameters)
    return result


def _exchange_s(columns: Columns, op: str, device: Device, parameters: str) -> FloatArray:
    """Return the times of a dispatch or combine; NaN where its sizes do not apply or fit."""
    sizes = {name: columns.numbers[name] for name in ("tokens", "hidden", "top_k", "experts", "gpus")}
    sound = np.all([size >= 1 for size in sizes.values()], axis=0) & fills_nodes(sizes["gpus"], NODE)
    sound &= sizes["top_k"] <= np.minimum(sizes["experts"], MOST_CHOICES)
    own = columns.where(sound).numbers
    call = Call(**{name: own[name] for name in sizes}, sms=np.maximum(own["sms"], 1.0))
    result = np.full(columns.count, np.nan)
    result[sound] = _EXCHANGE[op](EXCHANGES[parameters], device, call)
    return result


def _collective_s(columns: Columns, op: str, device: Device, parameters: str) -> FloatArray:
    """Return the times of a collective; NaN where there are no bytes, or more GPUs than the models are for."""
    sound = (columns.numbers["bytes"] >= 1) & (columns.numbers["gpus"] <= MOST_GPUS)
    own = columns.where(sound).numbers
    result = np.full(columns.count, np.nan)
    result[sound] = _COLLECTIVE[op](COLLECTIVES[parameters], device, own["bytes"], own["gpus"])
    return result


COMMUNICATION = Kind(
    name="communication",
    layout=Layout(
        numbers={"gpus": Number(1, 2.0**20), **dict.fromkeys(_SIZES, _SIZE), "time_us": TIME_US},
        texts=("gpu", "library", "version", "op"),
        optional=("gpu", "version"),
        flags=FLAGS,
    ),
    family=("gpu", "library", "op", "gpus", "version"),
    chosen_by=("library", "op"),
    rules=(
        Rule("deepep_low_latency", {"library": ("deepep_low_latency",), "op": [*_EXCHANGE]}),
        Rule("deepep_normal", {"library": ("deepep_normal",), "op": [*_EXCHANGE]}),
        Rule("nccl", {"library": ("nccl",), "op": [*_COLLECTIVE]}),
        Rule("vllm", {"library": ("vllm_custom_allreduce", "sglang_custom_allreduce"), "op": ("all_reduce",)}),
        Rule("trtllm", {"library": ("trtllm_custom_allreduce",), "op": ("all_reduce",)}),
        Rule("deepep_low_latency", {"library": ("*low_latency*",), "op": [*_EXCHANGE]}, stand_in=True),
        Rule("deepep_normal", {"op": [*_EXCHANGE]}, stand_in=True),
        Rule("trtllm", {"library": ("*trtllm*",), "op": ("all_reduce",)}, stand_in=True),
        Rule("vllm", {"library": ("*custom*",), "op": ("all_reduce",)}, stand_in=True),
        Rule("nccl", {"op": [*_COLLECTIVE]}, stand_in=True),
    ),
    seconds=_seconds,
    derived=_derived,
    repeats=("gpu", "library", "version", "op", "gpus", *_SIZES),
)
