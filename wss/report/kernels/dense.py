"""Tables of dense matrix products, [m, k] by [k, n]."""

from __future__ import annotations

from wss.hardware.kernels import Device
from wss.hardware.kernels.dense import DENSE, dense_gemm_s
from wss.records import FloatArray
from wss.report.kernels.kinds import FLAGS, TIME_US, Kind, Rule
from wss.traces.columns import Columns, Layout, Number

_SOFTWARE = ("framework", "version", "kernel")
_KNOWN = ("trtllm", "sglang", "vllm")


def _seconds(columns: Columns, device: Device, parameters: str) -> FloatArray:
    m, n, k = (columns.numbers[name] for name in "mnk")
    return dense_gemm_s(DENSE[parameters], device, m, n, k)


GEMM = Kind(
    name="gemm",
    layout=Layout(
        numbers={"m": Number(), "n": Number(), "k": Number(), "time_us": TIME_US},
        texts=("gpu", "precision", *_SOFTWARE),
        optional=("gpu", *_SOFTWARE),
        flags=FLAGS,
    ),
    family=("gpu", "precision", *_SOFTWARE),
    chosen_by=("precision", "framework"),
    rules=(
        Rule("cublas_bf16_b200", {"precision": ("bfloat16",)}, generation="blackwell"),
        Rule("cublas_bf16", {"precision": ("bfloat16",), "framework": _KNOWN}),
        Rule("trtllm_fp8", {"precision": ("fp8",), "framework": ("trtllm",)}),
        Rule("cutlass_fp8", {"precision": ("fp8",), "framework": ("sglang", "vllm")}),
        Rule("trtllm_fp8_block", {"precision": ("fp8_block",), "framework": ("trtllm",)}),
        Rule("deepgemm", {"precision": ("fp8_block",), "framework": ("sglang",)}),
        Rule("cublas_bf16", {"precision": ("*bf16*", "*bfloat16*", "fp16", "float16")}, stand_in=True),
        Rule("deepgemm", {"precision": ("*fp8_block*",)}, stand_in=True),
        Rule("cutlass_fp8", {"precision": ("*fp8*",)}, stand_in=True),
    ),
    seconds=_seconds,
)
