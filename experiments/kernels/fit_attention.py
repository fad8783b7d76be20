"""Fit the sets of decode and prefill attention to measurements; show errors on heads left out, and without parameters.

    python experiments/kernels/fit_attention.py --seed 0

A third of the combinations of heads (query heads, KV heads, dimension) is left out of the fit, for validation. MLA has
only six numbers of query heads, so there a third of the shapes (batch, tokens, query heads) is left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from data import (
    Model,
    Range,
    Rows,
    Values,
    ablation,
    by_family,
    errors,
    fit,
    matching,
    noise_floor,
    print_errors,
    read,
    split,
    where,
)

from wss.hardware.kernels.attention import Heads, equal, gqa, mla_absorbed
from wss.hardware.kernels.decode_attention import DecodeAttention, decode_attention_s
from wss.hardware.kernels.device import DEVICES
from wss.hardware.kernels.prefill_attention import PrefillAttention, prefill_attention_s

GPU = DEVICES["H100-SXM"]
HEADS = ("query_heads", "kv_heads", "dim_k")
SHAPE = ("batch", "tokens", *HEADS)
COLD = 0.8  # of the L2: a cache of more is read from HBM in replays too

DECODE = {
    "launch_us": Range(11.0, 0.0, 40.0, 0.0),
    "start_us": Range(2.0, 0.0, 20.0, 0.0),
    "cold_us": Range(4.0, 0.0, 40.0, 0.0),
    "hbm_share": Range(0.9, 0.3, 1.0, 1.0),
    "io_share": Range(0.4, 0.02, 1.0, 1.0),
    "split_ns": Range(0.25, 0.0, 5.0, 0.0),
    "peak_share": Range(0.7, 0.02, 1.0, 1.0),
}
PREFILL = {
    "launch_us": Range(11.0, 0.0, 40.0, 0.0),
    "softmax_flop": Range(200.0, 0.0, 1500.0, 0.0),
    "start_us": Range(1.5, 0.0, 20.0, 0.0),
    "hbm_share": Range(0.7, 0.05, 1.0, 1.0),
}
WRITE = {"write_token_ns": Range(5.0, 0.0, 50.0, 0.0), "write_share": Range(0.15, 0.01, 3.0)}


@dataclass(frozen=True)
class Case:
    """A set to fit: the *rows* of the measurements it is for, what is given, and the parameters that are fitted."""

    rows: dict[str, object]
    given: dict[str, float]
    ranges: dict[str, Range]


def gqa_rows(framework: str, kv_bytes: int) -> dict[str, object]:
    """Return what the rows of grouped-query attention have in common."""
    return {"framework": framework, "kv_bytes": kv_bytes, "dim_k": (64, 128)}


def mla_rows(framework: str, kv_bytes: int) -> dict[str, object]:
    """Return what the rows of MLA in absorbed form have in common."""
    return {"framework": framework, "kv_bytes": kv_bytes, "dim_k": 576}


def without(ranges: dict[str, Range], name: str) -> dict[str, Range]:
    """Return *ranges* but the one of *name*."""
    return {key: found for key, found in ranges.items() if key != name}


def only(*names: str) -> dict[str, Range]:
    """Return the ranges of these parameters of decode."""
    return {name: DECODE[name] for name in names}


# Fixed for all sets of a kind, at about the mean of fits to each: a set gains less than 0.3 points by its own values.
FA3 = {"split_s": 0.25e-9, "peak_share": 0.39}
FA3_RANGES = only("launch_us", "start_us", "cold_us", "hbm_share")
ABSORBED = {"split_s": 0.42e-9, "cold_s": 5e-6}
ABSORBED_RANGES = only("launch_us", "start_us", "hbm_share", "io_share", "peak_share")
XQA = {"rows": 8.0, "largest_group": 32.0, "start_s": 0.0, "split_s": 0.25e-9, "hbm_share": 0.97}  # TensorRT-LLM
XQA_RANGES = only("launch_us", "cold_us", "peak_share")
DECODE_CASES = {
    "fa3": Case(gqa_rows("vllm", 2), {"kv_bytes": 2} | FA3, FA3_RANGES),
    "fa3_fp8": Case(gqa_rows("vllm", 1), {"kv_bytes": 1} | FA3, FA3_RANGES),
    "fa3_sglang": Case(gqa_rows("sglang", 2), {"kv_bytes": 2} | FA3, FA3_RANGES),
    "fa3_sglang_fp8": Case(gqa_rows("sglang", 1), {"kv_bytes": 1} | FA3, FA3_RANGES),
    "trtllm_gqa": Case(gqa_rows("trtllm", 2), {"kv_bytes": 2} | XQA, XQA_RANGES),
    "trtllm_gqa_fp8": Case(gqa_rows("trtllm", 1), {"kv_bytes": 1} | XQA, XQA_RANGES),
    "sglang_mla": Case(mla_rows("sglang", 2), {"kv_bytes": 2} | ABSORBED, ABSORBED_RANGES),
    "trtllm_mla": Case(mla_rows("trtllm", 2), {"kv_bytes": 2} | ABSORBED, ABSORBED_RANGES),
    "trtllm_mla_fp8": Case(mla_rows("trtllm", 1), {"kv_bytes": 1} | ABSORBED, ABSORBED_RANGES),
}
BASIC = without(PREFILL, "start_us")
PREFILL_CASES = {
    "fa3": Case(gqa_rows("vllm", 2), {"kv_bytes": 2}, PREFILL | WRITE),
    "fa3_fp8": Case(gqa_rows("vllm", 1), {"kv_bytes": 1}, BASIC | WRITE),
    "fa3_sglang": Case(gqa_rows("sglang", 2), {"kv_bytes": 2}, BASIC),
}


def si(values: Values) -> dict[str, float]:
    """Return the fitted *values* under the names of the sets' attributes, in seconds."""
    scales = {"_us": 1e-6, "_ns": 1e-9}
    found = {}
    for name, value in values.items():
        scale = scales.get(name[-3:])
        found[name[:-2] + "s" if scale else name] = value * (scale or 1.0)
    return found


def heads_of(rows: Rows) -> Heads:
    """Return the heads of *rows* of one form."""
    if rows["dim_k"][0] == rows["dim_v"][0]:
        return gqa(rows["query_heads"], rows["kv_heads"], rows["dim_k"])
    return mla_absorbed(rows["query_heads"], rows["dim_v"], rows["dim_k"] - rows["dim_v"])


def decode_model(given: dict[str, float]) -> Model:
    """Return the model of decode as a function of the values to fit and of rows."""

    def seconds(values: Values, rows: Rows) -> np.ndarray:
        params = DecodeAttention(**given, **si(values))
        sequences = equal(rows["batch"], 1, rows["tokens"] - 1)
        return decode_attention_s(params, GPU, sequences, heads_of(rows), replayed=True)

    return seconds


def prefill_model(given: dict[str, float]) -> Model:
    """Return the model of prefill as a function of the values to fit and of rows."""

    def seconds(values: Values, rows: Rows) -> np.ndarray:
        params = PrefillAttention(**given, **si(values))
        return prefill_attention_s(params, GPU, equal(rows["batch"], rows["tokens"]), heads_of(rows))

    return seconds


def cached_bytes(rows: Rows) -> np.ndarray:
    """Return the bytes of the KV cache that each row reads, [rows]."""
    return rows["batch"] * rows["tokens"] * heads_of(rows).cached * rows["kv_bytes"]


def report(name: str, case: Case, model: Model, rows: Rows, seed: int) -> None:
    """Fit the set *name*, and print its parameters, errors and ablations."""
    most = case.given.get("largest_group", np.inf)
    rows = where(rows, rows["query_heads"] / rows["kv_heads"] <= most)
    train, held_out = split(rows, HEADS if rows["dim_k"][0] == rows["dim_v"][0] else SHAPE, seed)
    values = fit(model, case.ranges, train)
    print(f"\n{name}: " + ", ".join(f"{key}={value:.4g}" for key, value in values.items()))
    predicted = model(values, held_out)
    measured = held_out["seconds"]
    found = {"train": errors(model(values, train), train["seconds"]), "left out": errors(predicted, measured)}
    cold = cached_bytes(held_out) > COLD * GPU.l2_bytes
    if rows["phase"][0] == "decode":
        found |= {"left out, read from HBM": errors(predicted[cold], measured[cold])}
        found |= {"left out, read from the L2": errors(predicted[~cold], measured[~cold])}
    print_errors("errors", found)
    for columns in (("dim_k",), ("batch",), ("tokens",), ("query_heads",), ("kv_heads",)):
        print_errors(f"left out, by {columns[0]}", by_family(held_out, predicted, columns))
    print_errors("left out, without a parameter", ablation(model, case.ranges, train, held_out))


def floors(rows: Rows) -> None:
    """Print how far frameworks differ in the time of one call."""
    decode, prefill = matching(rows, phase="decode"), matching(rows, phase="prefill")
    grouped = matching(decode, dim_k=(64, 128), framework=("sglang", "vllm"))
    mla = matching(decode, dim_k=576, kv_bytes=2)
    chosen: dict[str, Rows] = {}
    for what, found in (("FA3 decode", grouped), ("MLA decode, BF16", mla)):
        big = np.zeros(len(found["seconds"]), bool)
        for dim in np.unique(found["dim_k"]):
            mine = found["dim_k"] == dim
            big[mine] = cached_bytes(where(found, mine)) > COLD * GPU.l2_bytes
        chosen |= {f"{what}, read from HBM": where(found, big), f"{what}, read from the L2": where(found, ~big)}
    chosen["FA3 prefill, BF16"] = matching(prefill, kv_bytes=2)
    shape = (*SHAPE, "kv_bytes")
    print_errors("noise floor: the same call in two frameworks", {k: noise_floor(v, shape) for k, v in chosen.items()})


def main() -> None:
    """Fit all sets, or those named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of the split into training and validation")
    parser.add_argument("names", nargs="*", help="sets to fit; all, if none is named")
    args = parser.parse_args()
    rows = read("attention")
    floors(rows)
    phases: tuple[tuple[str, dict[str, Case], Callable[[dict[str, float]], Model]], ...] = (
        ("decode", DECODE_CASES, decode_model),
        ("prefill", PREFILL_CASES, prefill_model),
    )
    for phase, cases, model_of in phases:
        print(f"\n=== {phase}")
        for name, case in cases.items():
            if not args.names or name in args.names:
                report(name, case, model_of(case.given), matching(rows, phase=phase, **case.rows), args.seed)


if __name__ == "__main__":
    main()
