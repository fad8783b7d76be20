"""Precision: the bits of stored expert weights, the format of computation, and the format of tokens.

A plain name, such as ``fp8``, stands for both storage and computation. `Precision` gives each separately, as weights of
4 bits are often computed in 16 (MXFP4 on Hopper, INT4 "W4A16").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from wss.errors import CHECKED, of_sound_fields

PrecisionName = Literal["fp16", "bf16", "fp8", "fp4"]
Format = Literal["fp16", "bf16", "fp8", "fp4", "mxfp4", "nvfp4", "int4", "int4_g128"]
Peak = Literal["fp16", "fp8", "fp4"]  # formats for which a die has a peak FLOP/s

# Bits of a stored weight, including its share of its block's scales.
BITS: dict[Format, float] = {
    "fp16": 16.0,
    "bf16": 16.0,
    "fp8": 8.0,  # scales left out: one FP32 for a block of 128 x 128 (DeepSeek-V3) is 0.002 bits
    "fp4": 4.0,  # elements alone
    "mxfp4": 4.25,  # E8M0, 8 bits, for 32 weights (OCP Microscaling Formats MX v1.0, section 5)
    "nvfp4": 4.5,  # E4M3, 8 bits, for 16 weights (NVIDIA's NVFP4); one FP32 a tensor left out
    "int4": 4.5,  # BF16 for 32 weights, symmetric: Kimi-K2-Thinking's quantization_config, group_size 32
    "int4_g128": 4.125,  # FP16 for 128 weights, symmetric: the usual group of GPTQ and Marlin
}


@dataclass(frozen=True, kw_only=True)
class Precision:
    """The formats in which routed experts are stored and computed.

    Attributes
    ----------
    weights
        Format in which weights are stored, read and moved.
    compute
        Format whose peak FLOP/s of the die applies; BF16 has FP16's.
    activations
        Format of tokens in the buffers of a die, and in dispatch and combine where `dispatch` gives no bytes. None for
        2 bytes in buffers and the defaults of `dispatch`.
    kv
        Format of the KV cache, which a fixed batch does not have: nothing reads it, so it must be the default.

    Raises
    ------
    ValueError
        If *kv* is not the default.
    """

    __pydantic_config__ = CHECKED

    weights: Format
    compute: PrecisionName
    activations: PrecisionName | None = field(default=None, metadata={"option": True})
    kv: PrecisionName = field(default="bf16", metadata={"option": True})

    @of_sound_fields
    def __post_init__(self) -> None:
        if self.kv != "bf16":
            raise ValueError(f"kv is '{self.kv}', and a fixed batch has no KV cache that could be; leave kv out")

    def __str__(self) -> str:
        held = f", {self.activations} activations" if self.activations else ""
        return f"{self.weights} weights, {self.compute} compute{held}"


AnyPrecision = PrecisionName | Precision


def weight_bits(precision: Format | Precision) -> float:
    """Return the bits of a stored weight, scales included."""
    return BITS[precision.weights if isinstance(precision, Precision) else precision]


def peak_of(precision: AnyPrecision) -> Peak:
    """Return the name of the applicable peak FLOP/s of a die."""
    compute = precision.compute if isinstance(precision, Precision) else precision
    return "fp16" if compute == "bf16" else compute


def stated_activation_bytes(precision: AnyPrecision) -> float | None:
    """Return the bytes per element of a token; None if *precision* does not state them."""
    activations = precision.activations if isinstance(precision, Precision) else None
    return None if activations is None else BITS[activations] / 8
