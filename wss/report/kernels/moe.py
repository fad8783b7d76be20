"""Tables of MoE layers, the time of one rank: routing, permutation, quantisation, expert GEMMs and weighted sum."""

from __future__ import annotations

from wss.hardware.kernels import Device
from wss.records import FloatArray
from wss.report.kernels.kinds import TIME_US, Kind
from wss.report.kernels.predictions import FLAGS
from wss.traces.columns import Columns, Layout, Number

SHAPE = ("hidden", "intermediate", "experts", "top_k", "ep", "tokens")
_DERIVED = dict.fromkeys(("active_experts", "token_experts", "max_tokens"), Number(0, whole=False))
_TEXTS = ("gpu", "precision", "framework", "version", "kernel", "model", "routing")
LAYOUT = Layout(
    numbers={**dict.fromkeys(SHAPE, Number()), **_DERIVED, "time_us": TIME_US},
    texts=_TEXTS,
    optional=("gpu", "framework", "version", "model"),
    flags=tuple(FLAGS),
)
FAMILY = ("gpu", "precision", "framework", "version", "kernel")


def _seconds(columns: Columns, device: Device, parameters: str) -> FloatArray:
    raise NotImplementedError


MOE_LAYER = Kind(
    name="moe_layer",
    layout=LAYOUT,
    family=FAMILY,
    chosen_by=("precision", "framework"),
    rules=(),
    seconds=_seconds,
    shape=("gpu", "precision", *SHAPE, "routing"),
)
