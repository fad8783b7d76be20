"""Tables of the expert computation between DeepEP's dispatch and combine: grouped GEMMs, activation, quantisation."""

from __future__ import annotations

from wss.hardware.kernels import Device
from wss.records import FloatArray
from wss.report.kernels.kinds import Kind, Rule
from wss.report.kernels.moe import FAMILY, LAYOUT, seconds_of
from wss.traces.columns import Columns


def _least_s(columns: Columns, device: Device) -> FloatArray:
    """Return the time of reading the weights of the active experts, [rows], one byte an element."""
    active, hidden, intermediate = (columns.numbers[name] for name in ("active_experts", "hidden", "intermediate"))
    return active * 3 * hidden * intermediate / device.hbm


_BLOCKS = {"precision": ("fp8_block",)}
MOE_DEEPEP = Kind(
    name="moe_deepep",
    layout=LAYOUT,
    family=FAMILY,
    chosen_by=("precision", "kernel"),
    rules=(
        Rule("deepgemm_masked", _BLOCKS | {"kernel": ("deepgemm_masked",)}),
        Rule("deepgemm_contiguous", _BLOCKS | {"kernel": ("deepgemm_contiguous",)}),
        Rule("deepgemm_masked", {"precision": ("*fp8*",), "kernel": ("*masked*",)}, stand_in=True),
        Rule("deepgemm_contiguous", {"precision": ("*fp8*",), "kernel": ("*contiguous*",)}, stand_in=True),
    ),
    seconds=seconds_of,
    least_s=_least_s,
    kernels=("masked", "contiguous"),
)
