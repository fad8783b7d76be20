"""Fit the sets of wss.hardware.kernels.moe_layer; show errors on shapes left out, and without parameters.

    python experiments/kernels/fit_experts.py --seed 0

A third of the shapes is left out of each fit, for validation: of MoE layers, the shapes of experts (models); of
DeepGEMM's experts of DeepSeek-V3, the distributions of tokens (ranks and routing).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from data import (
    Errors,
    Model,
    Range,
    Rows,
    Values,
    ablation,
    by_family,
    errors,
    fit,
    keys,
    matching,
    noise_floor,
    print_errors,
    read,
    sample,
    split,
    where,
)
from plots import Panel, plot_residuals

from wss.hardware.kernels.device import DEVICES
from wss.hardware.kernels.experts import ExpertGemm
from wss.hardware.kernels.loads import loads
from wss.hardware.kernels.moe_layer import MOE_LAYERS, MoeLayer, moe_layer_s

GPU = DEVICES["H100-SXM"]
EXPERT = ("hidden", "intermediate", "experts", "top_k")
CALL = (*EXPERT, "ep", "tokens", "routing", "precision")
FITTED = 1500  # rows that a fit takes, at random
CUTLASS = ("moe_torch_flow_cutlass", "vllm_fp8moe_flashinfer_cutlass_flashinferexperts")
TRITON = ("sglang_fused_moe_triton", "vllm_fp8moe_triton_tritonexperts")

RANGES = {
    "fixed_us": Range(25.0, 0.0, 400.0, 0.0),
    "peak_share": Range(0.7, 0.3, 1.0, 1.0),
    "hbm_share": Range(0.9, 0.4, 1.0, 1.0),
    "load_share": Range(1.3, 0.3, 8.0, math.inf),
    "expert_us": Range(0.1, 0.0, 2.0, 0.0),
    "token_bytes": Range(5.0, 0.0, 100.0, 0.0),
    "routed_bytes": Range(20.0, 0.0, 200.0, 0.0),
    "inner_bytes": Range(20.0, 0.0, 200.0, 0.0),
}
TILING = ("peak_share", "hbm_share", "load_share")
BYTES = ("token_bytes", "routed_bytes", "inner_bytes")


@dataclass(frozen=True)
class Case:
    """A set to fit: the table and its *rows*, what a shape of the split is, and the parameters."""

    table: str
    rows: dict[str, object]
    parameters: tuple[str, ...]
    shape: tuple[str, ...] = EXPERT


RANKS = ("ep", "routing")
CASES = {
    "moe_fp8_block": Case(
        "moe_layer",
        {"precision": "fp8_block", "kernel": CUTLASS},
        ("fixed_us", *TILING, "expert_us", "token_bytes", "routed_bytes"),
    ),
    "moe_fp8_block_triton": Case(
        "moe_layer",
        {"precision": "fp8_block", "kernel": TRITON},
        ("fixed_us", "peak_share", "hbm_share", "inner_bytes"),
    ),
    "moe_fp8": Case(
        "moe_layer", {"precision": "fp8"}, ("fixed_us", "hbm_share", "load_share", "token_bytes", "routed_bytes")
    ),
    "moe_bf16": Case(
        "moe_layer", {"precision": "bfloat16"}, ("fixed_us", "hbm_share", "load_share", "token_bytes", "routed_bytes")
    ),
    "deepgemm_masked": Case(
        "moe_deepep", {"kernel": "deepgemm_masked"}, ("fixed_us", "peak_share", "hbm_share", "expert_us"), RANKS
    ),
    "deepgemm_contiguous": Case(
        "moe_deepep", {"kernel": "deepgemm_contiguous"}, ("fixed_us", "peak_share", "hbm_share", "token_bytes"), RANKS
    ),
}


def prepared(table: str) -> Rows:
    """Return the measurements of *table* that a fit may use, with the loads of experts; see `experts.md`."""
    rows = read(table)
    if table == "moe_layer":
        rows = where(rows, ~(rows["impossible"] | rows["untuned"] | rows["l2_warm"]))
    else:  # some contiguous rows with uniform routing read weights faster than HBM can
        least = rows["active_experts"] * 3 * rows["hidden"] * rows["intermediate"] / GPU.hbm
        rows = where(rows, rows["seconds"] >= least)
    held = rows["experts"] / rows["ep"]
    tokens, count = loads(held, rows["active_experts"], rows["token_experts"], rows["max_tokens"])
    return rows | {"loads": tokens, "count": count}


def fastest(rows: Rows) -> Rows:
    """Return the row of the fastest source for each call."""
    key = keys(rows, CALL)
    order = np.lexsort((rows["seconds"], key))
    first = np.r_[True, np.diff(key[order]) > 0]
    return where(rows, np.sort(order[first]))


def with_values(params: MoeLayer, values: Values) -> MoeLayer:
    """Return *params* with the fitted *values*."""
    tiling = replace(params.gemm.tiling, **{name: values[name] for name in TILING if name in values})
    gemm = replace(params.gemm, tiling=tiling)
    if "expert_us" in values:
        gemm = replace(gemm, expert_s=values["expert_us"] * 1e-6)
    moved = {name: values[name] for name in BYTES if name in values}
    return replace(params, gemm=gemm, fixed_s=values["fixed_us"] * 1e-6, **moved)


def model_of(params: MoeLayer) -> Model:
    """Return the model of the set *params* as a function of the values to fit and of rows."""

    def seconds(values: Values, rows: Rows) -> np.ndarray:
        found = with_values(params, values)
        shape = rows["hidden"], rows["intermediate"]
        return moe_layer_s(found, GPU, rows["loads"], *shape, rows["tokens"], rows["count"])

    return seconds


def evenly(model: Model) -> Model:
    """Return the *model* with each rank's tokens spread evenly over its active experts."""

    def seconds(values: Values, rows: Rows) -> np.ndarray:
        held, mean = rows["experts"] / rows["ep"], np.ceil(rows["token_experts"] / rows["active_experts"])
        tokens, count = loads(held, rows["active_experts"], rows["token_experts"], mean)
        return model(values, rows | {"loads": tokens, "count": count})

    return seconds


def variants(params: MoeLayer) -> dict[str, Model]:
    """Return the model of the set *params* with one part replaced, by what it is."""

    def with_tiling(**changes: float) -> Model:
        return model_of(replace(params, gemm=replace(params.gemm, tiling=replace(params.gemm.tiling, **changes))))

    def with_tiles(*tiles: tuple[float, float]) -> Model:
        return model_of(replace(params, gemm=ExpertGemm(tiling=params.gemm.tiling, tiles=tiles)))

    return {
        "corner 3 instead of 2": with_tiling(corner=3.0),
        "corner 1: memory after compute": with_tiling(corner=1.0),
        "SMs share a part-full wave": with_tiling(part_wave=0.0),
        "one tile, 64 x 128": with_tiles((64, 128)),
        "one tile, 128 x 128": with_tiles((128, 128)),
        "tokens spread evenly over active experts": evenly(model_of(params)),
    }


def report(name: str, case: Case, rows: Rows, seed: int) -> tuple[Rows, np.ndarray]:
    """Fit the set *name* and print its parameters, errors and ablations; return the rows left out, and predictions."""
    train, held_out = split(rows, case.shape, seed)
    train = sample(train, FITTED, seed)
    params = MOE_LAYERS[name]
    ranges = {parameter: RANGES[parameter] for parameter in case.parameters}
    model = model_of(params)
    values = fit(model, ranges, train)
    print(f"\n{name}: " + ", ".join(f"{parameter} {value:.4g}" for parameter, value in values.items()))
    predicted = model(values, held_out)
    whole = {
        "train": errors(model(values, train), train["seconds"]),
        "left out": errors(predicted, held_out["seconds"]),
        "parameters of the module, left out": errors(model_of_module(name, held_out), held_out["seconds"]),
        "parameters of the module, all rows": errors(model_of_module(name, rows), rows["seconds"]),
    }
    print_errors("errors", whole)
    for column in ("routing", "framework"):
        print_errors(f"left out, by {column}", by_family(held_out, predicted, (column,)))
    print_errors("left out, by tokens of an active expert", by_tokens(held_out, predicted))
    if case.shape == EXPERT:
        print_errors("each model left out of its fit", by_family(rows, each_left_out(model, ranges, rows), ("model",)))
    print_errors("left out, without a parameter", ablation(model, ranges, train, held_out))
    print_errors("left out, with one parameter more", with_one_more(model, ranges, train, held_out))
    changed = {}
    for what, other in variants(params).items():
        changed[what] = errors(other(fit(other, ranges, train), held_out), held_out["seconds"])
    print_errors("left out, with a part replaced", changed)
    return held_out, predicted


def model_of_module(name: str, rows: Rows) -> np.ndarray:
    """Return the seconds of *rows* with the set as the module has it."""
    shape = rows["hidden"], rows["intermediate"]
    return moe_layer_s(MOE_LAYERS[name], GPU, rows["loads"], *shape, rows["tokens"], rows["count"])


def each_left_out(model: Model, ranges: dict[str, Range], rows: Rows) -> np.ndarray:
    """Return the predictions for *rows*, each with a fit to the rows of other models only."""
    predicted = np.empty(len(rows["seconds"]))
    for name in np.unique(rows["model"]):
        mine = rows["model"] == name
        values = fit(model, ranges, sample(where(rows, ~mine), FITTED // 2))
        predicted[mine] = model(values, where(rows, mine))
    return predicted


def with_one_more(model: Model, ranges: dict[str, Range], train: Rows, held_out: Rows) -> dict[str, Errors]:
    """Return the errors on *held_out* with each parameter that the set does not have."""
    found = {}
    for name in RANGES.keys() - ranges.keys():
        values = fit(model, ranges | {name: RANGES[name]}, train)
        found[name] = errors(model(values, held_out), held_out["seconds"])
    return found


def by_tokens(rows: Rows, predicted: np.ndarray) -> dict[str, Errors]:
    """Return the errors by ranges of the mean tokens of an active expert."""
    ends: Sequence[float] = (0, 1, 8, 16, 64, 128, 256, 512, 1024, math.inf)
    tokens, found = rows["token_experts"] / rows["active_experts"], {}
    for low, high in pairwise(ends):
        mine = (tokens > low) & (tokens <= high)
        if mine.any():
            found[f"above {low}, up to {high}"] = errors(predicted[mine], rows["seconds"][mine])
    return found


def floors(rows: Rows) -> None:
    """Print how far sources differ in the time of one layer."""
    found = {"fp8_block, CUTLASS in TensorRT-LLM and vLLM": matching(rows, precision="fp8_block", kernel=CUTLASS)}
    found["fp8_block, Triton in sglang and vLLM"] = matching(rows, precision="fp8_block", kernel=TRITON)
    found |= {f"{precision}, all": matching(rows, precision=precision) for precision in ("fp8_block", "bfloat16")}
    print_errors("noise floor: the same layer in two frameworks", {k: noise_floor(v, CALL) for k, v in found.items()})


def plot(path: Path, shown: dict[str, tuple[Rows, np.ndarray]]) -> None:
    """Write a picture of the errors on rows left out over tokens of an active expert."""
    panels = []
    for name, (rows, predicted) in shown.items():
        tokens = rows["token_experts"] / rows["active_experts"]
        panels.append(Panel(name, tokens, predicted / rows["seconds"] - 1))
    plot_residuals(path, panels, "tokens of an active expert")


def main() -> None:
    """Fit all sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of the split into training and validation")
    parser.add_argument("--plot", type=Path, help="picture of errors to write")
    parser.add_argument("--only", choices=CASES, action="append", help="set to fit; all if left out")
    chosen = parser.parse_args()
    tables = {table: prepared(table) for table in ("moe_layer", "moe_deepep")}
    floors(tables["moe_layer"])
    shown = {}
    for name in chosen.only or CASES:
        case = CASES[name]
        rows = matching(tables[case.table], **case.rows)
        shown[name] = report(name, case, fastest(rows) if case.table == "moe_layer" else rows, chosen.seed)
    if chosen.plot:
        plot(chosen.plot, shown)


if __name__ == "__main__":
    main()
