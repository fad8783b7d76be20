"""The time of one kernel call, for `wss kernels time`: kinds of calls by name, their sizes and their parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np

from wss.errors import ConfigError, did_you_mean
from wss.hardware.kernels import Device
from wss.hardware.kernels.attention import Heads, equal, gqa, mla_absorbed, mla_expanded
from wss.hardware.kernels.collectives import COLLECTIVES, all_gather_s, all_reduce_s, all_to_all_s, reduce_scatter_s
from wss.hardware.kernels.decode_attention import DECODE_ATTENTION, decode_attention_s
from wss.hardware.kernels.dense import DENSE, dense_gemm_s
from wss.hardware.kernels.elementwise import ELEMENTWISE, elementwise_s
from wss.hardware.kernels.exchange import EXCHANGES, Call, combine_s, dispatch_s
from wss.hardware.kernels.experts import expert_gemm_s
from wss.hardware.kernels.moe_layer import MOE_LAYERS, moe_layer_s
from wss.hardware.kernels.prefill_attention import PREFILL_ATTENTION, prefill_attention_s
from wss.records import FloatArray
from wss.report.kernels.kinds import BLACKWELL, note_of
from wss.report.words import MOST
from wss.traces.columns import LARGEST

Sizes = Mapping[str, Any]  # a number by name; LOADS: [1, experts]
LOADS = "LOAD..."  # the last size of a call: tokens of each expert, 32x128 for 32 experts of 128
MOST_EXPERTS = 10**5


@dataclass(frozen=True)
class Kind:
    """A kind of call.

    Attributes
    ----------
    about
        What it computes.
    sizes
        Names of the arguments, in order.
    sets
        Its sets of parameters by name.
    default
        The set that is used if none is named.
    blackwell
        The same on a GPU of the Blackwell generation, if it has one of its own.
    seconds
        Returns the time of a call with parameters of *sets* on a device.
    """

    about: str
    sizes: tuple[str, ...]
    sets: Mapping[str, Any]
    default: str
    seconds: Callable[[Any, Device, Sizes], FloatArray]
    blackwell: str = ""

    def default_on(self, device: Device) -> str:
        """Return the set that is used on *device* if none is named: that of `wss kernels check`."""
        return self.blackwell if self.blackwell and device.generation == BLACKWELL else self.default


def _dense(params: Any, device: Device, size: Sizes) -> FloatArray:
    return dense_gemm_s(params, device, size["M"], size["N"], size["K"])


def _experts(params: Any, device: Device, size: Sizes) -> FloatArray:
    return expert_gemm_s(params.gemm, device, size[LOADS][None], size["N"], size["K"])


def _moe_layer(params: Any, device: Device, size: Sizes) -> FloatArray:
    loads, hidden, intermediate = size[LOADS][None], size["HIDDEN"], size["INTERMEDIATE"]
    return moe_layer_s(params, device, loads, hidden, intermediate, size["TOKENS"])


def _decode(params: Any, device: Device, size: Sizes) -> FloatArray:
    return decode_attention_s(params, device, equal(size["BATCH"], 1, size["TOKENS"] - 1), _heads(size, mla_absorbed))


def _prefill(params: Any, device: Device, size: Sizes) -> FloatArray:
    return prefill_attention_s(params, device, equal(size["BATCH"], size["TOKENS"]), _heads(size, mla_expanded))


def _heads(size: Sizes, mla: Callable[[int], Heads]) -> Heads:
    """Return grouped-query heads if *size* has KV heads, else those of DeepSeek-V3's MLA."""
    return gqa(size["QUERY_HEADS"], size["KV_HEADS"], size["DIM"]) if "KV_HEADS" in size else mla(size["QUERY_HEADS"])


def _exchange(direction: Callable[..., FloatArray]) -> Callable[[Any, Device, Sizes], FloatArray]:
    def seconds(params: Any, device: Device, size: Sizes) -> FloatArray:
        return direction(params, device, Call(**{name.lower(): size[name] for name in EXCHANGED}))

    return seconds


def _collective(op: Callable[..., FloatArray]) -> Callable[[Any, Device, Sizes], FloatArray]:
    return lambda params, device, size: op(params, device, size["BYTES"], size["GPUS"])


def _collective_kind(about: str, op: Callable[..., FloatArray]) -> Kind:
    return Kind(about, ("BYTES", "GPUS"), COLLECTIVES, "nccl", _collective(op))


MLA = "mla"
GQA_CALL, MLA_CALL = ("BATCH", "TOKENS", "QUERY_HEADS", "KV_HEADS", "DIM"), ("BATCH", "TOKENS", "QUERY_HEADS")
EXCHANGED = ("TOKENS", "HIDDEN", "TOP_K", "EXPERTS", "GPUS")
CALLS: dict[str, Kind] = {
    "dense": Kind("a product of [M, K] by [K, N]", ("M", "N", "K"), DENSE, "cublas_bf16", _dense, "cublas_bf16_b200"),
    "experts": Kind(
        "products of each expert's [LOAD, K] by its [K, N], without a launch",
        ("N", "K", LOADS),
        MOE_LAYERS,
        "moe_fp8_block",
        _experts,
        "moe_fp8_block_b200",
    ),
    "moe_layer": Kind(
        "a MoE layer on one GPU: TOKENS on all GPUs, and the LOAD of each of its experts",
        ("HIDDEN", "INTERMEDIATE", "TOKENS", LOADS),
        MOE_LAYERS,
        "moe_fp8_block",
        _moe_layer,
        "moe_fp8_block_b200",
    ),
    "decode_attention": Kind(
        "one new token for each of BATCH sequences of TOKENS, that one included; grouped-query heads",
        GQA_CALL,
        {name: params for name, params in DECODE_ATTENTION.items() if MLA not in name},
        "fa3",
        _decode,
    ),
    "decode_mla": Kind(
        "the same with MLA in absorbed form (KV 512 + 64)",
        MLA_CALL,
        {name: params for name, params in DECODE_ATTENTION.items() if MLA in name},
        "sglang_mla",
        _decode,
    ),
    "prefill_attention": Kind(
        "causal attention of BATCH prompts of TOKENS; grouped-query heads", GQA_CALL, PREFILL_ATTENTION, "fa3", _prefill
    ),
    "prefill_mla": Kind(
        "the same with MLA in expanded form (keys 128 + 64, values 128)",
        MLA_CALL,
        PREFILL_ATTENTION,
        "fa3_sglang",
        _prefill,
    ),
    "elementwise": Kind(
        "KERNELS, such as normalisation or a residual, that read and write BYTES together",
        ("KERNELS", "BYTES"),
        ELEMENTWISE,
        "serving",
        lambda params, device, size: elementwise_s(params, device, size["BYTES"], size["KERNELS"]),
    ),
    "dispatch": Kind(
        "TOKENS of each GPU sent to their experts", EXCHANGED, EXCHANGES, "deepep_low_latency", _exchange(dispatch_s)
    ),
    "combine": Kind("their results sent back", EXCHANGED, EXCHANGES, "deepep_low_latency", _exchange(combine_s)),
    "all_reduce": _collective_kind("BYTES of each GPU, summed for all", all_reduce_s),
    "all_gather": _collective_kind("BYTES of the whole, 1/GPUS on each GPU, gathered on all", all_gather_s),
    "reduce_scatter": _collective_kind("BYTES of each GPU, summed, 1/GPUS for each", reduce_scatter_s),
    "all_to_all": _collective_kind("BYTES of each GPU, 1/GPUS sent to each", all_to_all_s),
}


def time_call(kind: str, words: Sequence[str], device: Device, parameters: str | None) -> dict[str, Any]:
    """Return the time of one call of *kind* with its sizes as *words*, as `wss kernels time --json` prints it.

    Raises ConfigError for an unknown kind or set of parameters, or wrong sizes.
    """
    if kind not in CALLS:
        raise ConfigError(f"kernels time: {kind[:40]!r} is not a kind of kernel; {did_you_mean(kind, CALLS)}")
    call = CALLS[kind]
    if parameters is not None and parameters not in call.sets:
        raise ConfigError(
            f"--set {parameters[:40]}: {kind} has no such parameters; {did_you_mean(parameters, call.sets)}"
        )
    name = parameters or call.default_on(device)
    sizes = _sizes(kind, call, words)
    seconds = call.seconds(call.sets[name], device, sizes)
    plain = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in sizes.items()}
    return {
        "kind": kind,
        "seconds": float(np.reshape(seconds, -1)[0]),
        "parameters": name,
        "device": device.name,
        "notes": [] if (note := note_of(name, call.blackwell, device)) is None else [note],
        "sizes": plain,
    }


def call_text(found: Mapping[str, Any]) -> str:
    """Return the result of `time_call` as a line, and its notes."""
    line = f"{1e6 * found['seconds']:.2f} us ({found['kind']}, {found['parameters']}, {found['device']})"
    return "\n".join([line, *(f"note: {note}" for note in found["notes"])])


def kinds_text() -> str:
    """Return every kind of call with its sizes and sets of parameters."""
    lines = []
    for name, call in CALLS.items():
        lines += [f"{name} {' '.join(call.sizes)}", f"    {call.about}"]
        others = [other for other in call.sets if other != call.default]
        sets = ", ".join([f"--set {call.default} (default)", *others])
        lines += wrap(sets, MOST, initial_indent=" " * 4, subsequent_indent=" " * 10, break_on_hyphens=False)
    return "\n".join(lines)


def _sizes(kind: str, call: Kind, words: Sequence[str]) -> dict[str, Any]:
    usage = f"kernels time {kind}: give {' '.join(call.sizes)}"
    has_loads = call.sizes[-1] == LOADS
    names = call.sizes[:-1] if has_loads else call.sizes
    if len(words) < len(call.sizes) or (len(words) > len(names) and not has_loads):
        raise ConfigError(f"{usage}; {len(words)} sizes are given")
    found: dict[str, Any] = {name: _whole(usage, name, word) for name, word in zip(names, words, strict=False)}
    if has_loads:
        found[LOADS] = _loads(usage, words[len(names) :])
    return found


def _loads(usage: str, words: Sequence[str]) -> FloatArray:
    """Return the tokens of each expert, [experts]: *words* such as ``128`` or ``32x128``."""
    loads: list[int] = []
    for word in words:
        count, times, tokens = word.rpartition("x")
        many = _whole(usage, LOADS, count) if times else 1
        if len(loads) + many > MOST_EXPERTS:
            raise ConfigError(f"{usage}; there are more than {MOST_EXPERTS} experts")
        loads += [_whole(usage, LOADS, tokens, least=0)] * many
    return np.array(loads, np.float64)


def _whole(usage: str, name: str, word: str, least: int = 1) -> int:
    if not word.isascii() or not word.isdecimal() or not least <= int(word[:20]) <= LARGEST or len(word) > 20:
        raise ConfigError(f"{usage}; {name} {word[:40]!r} is not a whole number, {least} to {LARGEST:g}")
    return int(word)
