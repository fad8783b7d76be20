"""Fit the sets of wss.hardware.kernels.dense to measurements; show errors on shapes left out, and without parameters.

    python experiments/kernels/fit_dense.py --seed 0 [--plot dense.png]

A third of the weight matrices (n, k) is left out of the fit, for validation. The plot shows the errors on them.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from data import (
    SHARED,
    Errors,
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
)
from plots import Panel, plot_residuals

from wss.hardware.kernels.dense import DENSE, DenseGemm, Tile, dense_gemm_s
from wss.hardware.kernels.device import DEVICES

WEIGHTS = ("n", "k")  # rows of one weight matrix are all in one part of the split
SHAPE = ("m", "n", "k")
GPU = DEVICES["H100-SXM"]
PUBLISHED = SHARED / "reference" / "gemm_h800.json"

RANGES = {
    "launch_us": Range(2.0, 0.0, 20.0, 0.0),
    "quantise_us": Range(3.0, 0.0, 20.0, 0.0),
    "peak_share": Range(0.75, 0.3, 1.0, 1.0),
    "hbm_share": Range(0.85, 0.4, 1.0, 1.0),
    "load_share": Range(1.7, 0.3, 8.0, math.inf),
    "fill": Range(200.0, 0.0, 2000.0, 0.0),
}


@dataclass(frozen=True)
class Case:
    """A set to fit: the *rows* of the measurements it is for, and the parameters that it has."""

    rows: dict[str, object]
    parameters: tuple[str, ...]


FEW = ("quantise_us", "peak_share", "hbm_share")
BLOCKS = ("quantise_us", "hbm_share", "load_share", "fill")  # the peak's share is that of deepgemm_h800
CASES = {
    "cublas_bf16": Case({"precision": "bfloat16"}, ("launch_us", "peak_share", "hbm_share", "load_share", "fill")),
    "trtllm_fp8": Case({"precision": "fp8", "framework": "trtllm"}, FEW),
    "cutlass_fp8": Case({"precision": "fp8", "framework": ("sglang", "vllm")}, FEW),
    "deepgemm": Case({"precision": "fp8_block", "framework": "sglang"}, BLOCKS),
    "trtllm_fp8_block": Case({"precision": "fp8_block", "framework": "trtllm"}, BLOCKS),
}
PUBLISHED_PARAMETERS = ("peak_share", "hbm_share", "load_share", "fill")


def with_values(params: DenseGemm, values: Values) -> DenseGemm:
    """Return *params* with the fitted *values*."""
    shares = {name: value for name, value in values.items() if not name.endswith("_us")}
    seconds = {name[:-2] + "s": value * 1e-6 for name, value in values.items() if name.endswith("_us")}
    return replace(params, tiling=replace(params.tiling, **shares), **seconds)


def model_of(params: DenseGemm) -> Model:
    """Return the model of the set *params* as a function of the values to fit and of rows."""

    def seconds(values: Values, rows: Rows) -> np.ndarray:
        found = with_values(params, values)
        return dense_gemm_s(found, GPU, rows["m"], rows["n"], rows["k"], rows.get("groups", 1))

    return seconds


def without_traffic(params: DenseGemm) -> Model:
    """Return the model of *params* without the bytes that quantising moves; its start is still counted."""
    model = model_of(params)

    def seconds(values: Values, rows: Rows) -> np.ndarray:
        moved = rows["m"] * rows["k"] * (2.0 + params.tiling.element_bytes)
        return model(values, rows) - moved / (values["hbm_share"] * GPU.hbm)

    return seconds


def variants(params: DenseGemm) -> dict[str, Model]:
    """Return the model of the set *params* with one part left out or replaced, by what it is."""
    other = 1.0 - params.tiling.part_wave
    found = {
        "no rounding of the corner": model_of(replace(params, tiling=replace(params.tiling, corner=40.0))),
        f"part-full waves: w = {other:g}": model_of(replace(params, tiling=replace(params.tiling, part_wave=other))),
        "one tile, 128 x 128": model_of(replace(params, tiles=(Tile(128, 128),))),
    }
    if params.quantise_s is not None:
        found["no traffic of quantising"] = without_traffic(params)
    if any(tile.split > 1 for tile in params.tiles):
        whole = tuple(tile for tile in params.tiles if tile.split == 1)
        found["no split of k"] = model_of(replace(params, tiles=whole))
    return found


def report(name: str, case: Case, rows: Rows, seed: int) -> Panel:
    """Fit the set *name*, print its errors and ablations, and return the errors on what was left out, by rows m."""
    train, held_out = split(rows, WEIGHTS, seed)
    params = DENSE[name]
    ranges = {parameter: RANGES[parameter] for parameter in case.parameters}
    model = model_of(params)
    values = fit(model, ranges, train)
    print(f"\n{name}: " + ", ".join(f"{parameter} {value:.4g}" for parameter, value in values.items()))
    predicted = model(values, held_out)
    print_errors("errors", {"train": errors(model(values, train), train["seconds"])})
    print_errors("on weight matrices left out", by_family(held_out, predicted, ("framework", "version")))
    print_errors("by rows m", by_rows(held_out, predicted))
    print_errors("left out, without a parameter", ablation(model, ranges, train, held_out))
    print_errors("left out, with one parameter more", with_one_more(model, ranges, train, held_out))
    changed = {}
    for what, other in variants(params).items():
        changed[what] = errors(other(fit(other, ranges, train), held_out), held_out["seconds"])
    print_errors("left out, without a part of the model", changed)
    return Panel(name, held_out["m"], predicted / held_out["seconds"] - 1)


def with_one_more(model: Model, ranges: dict[str, Range], train: Rows, held_out: Rows) -> dict[str, Errors]:
    """Return the errors on *held_out* with each parameter that the set does not have."""
    found = {}
    taken = {*ranges, "launch_us" if "quantise_us" in ranges else "quantise_us"}  # only their sum shows
    for name in RANGES.keys() - taken:
        values = fit(model, ranges | {name: RANGES[name]}, train)
        found[name] = errors(model(values, held_out), held_out["seconds"])
    return found


def by_rows(rows: Rows, predicted: np.ndarray) -> dict[str, Errors]:
    """Return the errors by ranges of m."""
    ends = (0, 16, 64, 128, 256, 1024, 4096, 16384)  # the last is the largest measured
    found = {}
    for low, high in pairwise(ends):
        mine = (rows["m"] > low) & (rows["m"] <= high)
        found[f"{low + 1} to {high}"] = errors(predicted[mine], rows["seconds"][mine])
    return found


def published() -> None:
    """Fit and print the set of the 20 rows that DeepGEMM published; each row is also left out of its fit."""
    measured = json.loads(PUBLISHED.read_text())["rows"]
    columns = {"m": "m_per_group", "n": "n", "k": "k", "groups": "groups", "seconds": "measured_seconds"}
    rows = {name: np.array([float(row[column]) for row in measured]) for name, column in columns.items()}
    model = model_of(DENSE["deepgemm_h800"])
    ranges = {parameter: RANGES[parameter] for parameter in PUBLISHED_PARAMETERS}
    values = fit(model, ranges, rows)
    print("\ndeepgemm_h800: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items()))
    unseen = np.empty(len(rows["seconds"]))
    for i in range(len(unseen)):
        others = {name: np.delete(column, i) for name, column in rows.items()}
        unseen[i] = model(fit(model, ranges, others), rows)[i]
    found = {"fitted": errors(model(values, rows), rows["seconds"])}
    print_errors("errors", found | {"each row left out of its fit": errors(unseen, rows["seconds"])})


def floors(rows: Rows) -> None:
    """Print how far frameworks differ in the time of one product."""
    chosen = {
        "bfloat16, all frameworks": matching(rows, precision="bfloat16"),
        "fp8, sglang and vllm": matching(rows, precision="fp8", framework=("sglang", "vllm")),
        "fp8, all frameworks": matching(rows, precision="fp8"),
        "fp8_block, sglang and trtllm": matching(rows, precision="fp8_block"),
    }
    print_errors(
        "noise floor: the same product in two frameworks", {k: noise_floor(v, SHAPE) for k, v in chosen.items()}
    )


def main() -> None:
    """Fit all sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of the split into training and validation")
    parser.add_argument("--plot", type=Path, help="file to plot the errors to")
    options = parser.parse_args()
    rows = read("gemm")
    floors(rows)
    panels = [report(name, case, matching(rows, **case.rows), options.seed) for name, case in CASES.items()]
    published()
    if options.plot:
        plot_residuals(options.plot, panels, "rows m")


if __name__ == "__main__":
    main()
