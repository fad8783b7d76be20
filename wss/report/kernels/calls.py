"""The time of one kernel call, for `wss kernels time`: kinds of calls by name, their sizes and their parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wss.errors import ConfigError, did_you_mean
from wss.hardware.kernels import Device
from wss.hardware.kernels.dense import DENSE, dense_gemm_s
from wss.records import FloatArray
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
    seconds
        Returns the time of a call with parameters of *sets* on a device.
    """

    about: str
    sizes: tuple[str, ...]
    sets: Mapping[str, Any]
    default: str
    seconds: Callable[[Any, Device, Sizes], FloatArray]


CALLS: dict[str, Kind] = {
    "dense": Kind(
        about="a product of [M, K] by [K, N]",
        sizes=("M", "N", "K"),
        sets=DENSE,
        default="cublas_bf16",
        seconds=lambda params, device, size: dense_gemm_s(params, device, size["M"], size["N"], size["K"]),
    ),
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
    name = parameters or call.default
    sizes = _sizes(kind, call, words)
    seconds = call.seconds(call.sets[name], device, sizes)
    plain = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in sizes.items()}
    return {
        "kind": kind,
        "seconds": float(np.reshape(seconds, -1)[0]),
        "parameters": name,
        "device": device.name,
        "sizes": plain,
    }


def call_text(found: Mapping[str, Any]) -> str:
    """Return the result of `time_call` as a line."""
    return f"{1e6 * found['seconds']:.2f} us ({found['kind']}, {found['parameters']}, {found['device']})"


def kinds_text() -> str:
    """Return every kind of call with its sizes and sets of parameters."""
    lines = []
    for name, call in CALLS.items():
        lines += [f"{name} {' '.join(call.sizes)}", f"    {call.about}"]
        others = [other for other in call.sets if other != call.default]
        lines += [f"    --set {call.default} (default)" + "".join(f", {other}" for other in others)]
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
