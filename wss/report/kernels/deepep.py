"""Tables of the expert computation between DeepEP's dispatch and combine: grouped GEMMs, activation, quantisation."""

from __future__ import annotations

from wss.hardware.kernels import Device
from wss.records import FloatArray
from wss.report.kernels.kinds import Kind
from wss.report.kernels.moe import FAMILY, LAYOUT
from wss.traces.columns import Columns


def _seconds(columns: Columns, device: Device, parameters: str) -> FloatArray:
    raise NotImplementedError


MOE_DEEPEP = Kind(
    name="moe_deepep",
    layout=LAYOUT,
    family=FAMILY,
    chosen_by=("precision", "kernel"),
    rules=(),
    seconds=_seconds,
    kernels=("masked", "contiguous"),
)
