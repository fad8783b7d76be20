"""Fit the times of exchanges and collectives to measurements: parameters, errors, ablation.

    python experiments/kernels/fit_exchange.py --seed 0 [--plot exchange.png]

A family has as few shapes as 14 models, so that the validation is by folds: the models (hidden, top_k, experts; or the
message, of a collective) are cut into three, each third is predicted by a fit to the others, and the errors are of all
rows so predicted. The printed parameters are those of a fit to all rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from data import (
    Errors,
    Model,
    Range,
    Rows,
    Values,
    by_family,
    errors,
    fit,
    keys,
    matching,
    noise_floor,
    print_errors,
    read,
    where,
)
from plots import Panel, plot_residuals

from wss.hardware.kernels import DEVICES
from wss.hardware.kernels.collectives import Collectives, Ring, Shots, all_gather_s, all_reduce_s, all_to_all_s
from wss.hardware.kernels.exchange import Call, Exchange, LowLatency, Normal, combine_s, dispatch_s

US = 1e-6
NONE = 1e-12  # a time that is as good as none, where zero would divide by zero
FOLDS = 3
H100 = DEVICES["H100-SXM"]
COPIES = {
    "dispatch": {"element_bytes": 33 / 32, "header_bytes": 16.0},
    "combine": {"element_bytes": 2.0, "header_bytes": 0.0},
}
LARGE = 2**25  # bytes from which libraries leave an all-reduce to NCCL

LOW_LATENCY = {
    "start": Range(8 * US, 0, 40 * US),
    "start_expert": Range(0.014 * US, 0, 0.1 * US, 0.0),
    "start_away": Range(12 * US, 0, 40 * US, 0.0),
    "nvlink_share": Range(0.55, 0.2, 1),
    "nic_share": Range(0.95, 0.5, 1),
    "sm": Range(1 * US, 0, 5 * US, 0.0),
    "sm_element": Range(0.1e-9, 0, 2e-9, 0.0),
    "uneven": Range(1.0, 0, 5, 0.0),
    "corner": Range(1.1, 1, 4, 1.0),
}
NORMAL = {
    "start": Range(20 * US, 0, 60 * US),
    "start_element": Range(0.2e-9, 0, 8e-9, 0.0),
    "start_node": Range(4 * US, 0, 40 * US, 0.0),
    "nvlink_share": Range(0.7, 0.2, 1),
    "nic_share": Range(0.95, 0.5, 1),
    "send_copy": Range(0.1 * US, 0, US, 0.0),
    "send_byte": Range(0.04e-9, 0, 1e-9),
    "send_away_byte": Range(0.4e-9, 0, 2e-9, 0.0),
    "receive": Range(0.2 * US, 0, 2 * US, 0.0),
    "receive_byte": Range(0.1e-9, 0, 1e-9, 0.0),
    "fill": Range(20 * US, NONE, 100 * US, NONE),
    "overlap": Range(6, 1, 12, 12.0),
    "corner": Range(1.1, 1, 4, 1.0),
}
RING = {
    "start": Range(4 * US, 0, 40 * US),
    "step": Range(0.9 * US, 0, 10 * US, 0.0),
    "nvlink_share": Range(0.95, 0.2, 1),
    "copy": Range(0.7, 0.1, 1, 1.0),
    "fill": Range(25 * US, NONE, 100 * US, NONE),
}
ALL_TO_ALL = {name: RING[name] for name in ("start", "nvlink_share", "fill")}
SHOTS = {
    "one_start": Range(4 * US, 0, 20 * US),
    "one_share": Range(0.6, 0.1, 1),
    "two_start": Range(7 * US, 0, 20 * US, 1.0),
    "two_share": Range(0.6, 0.1, 1),
}

# Parameters that the validation error does not justify, at the values at which they have no effect.
FIXED: dict[tuple[str, str], Values] = {
    ("deepep_low_latency", "dispatch"): {"uneven": 0.0, "corner": 1.0},
    ("deepep_low_latency", "combine"): {"sm": 0.0},
    ("deepep_normal", "dispatch"): {"start_element": 0.0, "receive_byte": 0.0, "overlap": 6.0},
    ("deepep_normal", "combine"): {"receive": 0.0, "send_copy": 0.0, "overlap": 6.0},
}
CUSTOM: dict[tuple[str, ...], Values] = {
    ("vllm_custom_allreduce", "sglang_custom_allreduce"): {},
    ("trtllm_custom_allreduce",): {"two_start": 1.0, "two_share": 1.0},
}


@dataclass(frozen=True)
class Family:
    """One fit: its rows, model and ranges, the columns that make a shape, given values, and the columns of families."""

    title: str
    rows: Rows
    model: Model
    ranges: Mapping[str, Range]
    shape: tuple[str, ...]
    fixed: Values
    by: tuple[tuple[str, ...], ...]


def exchange_model(kind: type[LowLatency] | type[Normal], direction: str) -> Model:
    """Return the seconds of one *direction* of an exchange, by values of its parameters and rows."""
    time: Callable[..., np.ndarray] = dispatch_s if direction == "dispatch" else combine_s

    def seconds(values: Values, rows: Rows) -> np.ndarray:
        extra = {"per_copy": direction == "combine"} if kind is LowLatency else {}
        params = kind(**COPIES[direction], **extra, **values)
        columns = {name: rows[name] for name in ("tokens", "hidden", "top_k", "experts", "gpus")}
        return time(Exchange(dispatch=params, combine=params), H100, Call(**columns, sms=np.maximum(rows["sms"], 1)))

    return seconds


def ring_model(values: Values, rows: Rows) -> np.ndarray:
    """Return the seconds of NCCL's all-reduce, all-gather and reduce-scatter."""
    ring = Ring(**values)
    nccl = Collectives(ring=ring, all_to_all=ring)
    gathered = all_gather_s(nccl, H100, rows["bytes"], rows["gpus"])
    return np.where(rows["op"] == "all_reduce", all_reduce_s(nccl, H100, rows["bytes"], rows["gpus"]), gathered)


def all_to_all_model(values: Values, rows: Rows) -> np.ndarray:
    """Return the seconds of NCCL's all-to-all."""
    ring = Ring(step=0.0, copy=1.0, **values)
    return all_to_all_s(Collectives(ring=ring, all_to_all=ring), H100, rows["bytes"], rows["gpus"])


def shots_model(ring_values: Values) -> Model:
    """Return the model of a custom all-reduce beside a ring of these values."""
    ring = Ring(**ring_values)

    def seconds(values: Values, rows: Rows) -> np.ndarray:
        library = Collectives(ring=ring, all_to_all=ring, shots=Shots(**values))
        return all_reduce_s(library, H100, rows["bytes"], rows["gpus"])

    return seconds


def folds(family: Family, seed: int) -> Iterator[tuple[Rows, np.ndarray]]:
    """Yield the training rows and the mask, [rows], of those to predict, of each fold by shape."""
    key = keys(family.rows, family.shape)
    order = np.random.default_rng(seed).permutation(key.max() + 1)
    for fold in range(FOLDS):
        held_out = order[key] % FOLDS == fold
        yield where(family.rows, ~held_out), held_out


def predicted_by_folds(family: Family, seed: int, fixed: Values | None = None) -> np.ndarray:
    """Return the seconds of every row, [rows], by a fit without the row's shape."""
    fixed = {**family.fixed, **(fixed or {})}
    predicted = np.zeros(len(family.rows["seconds"]))
    for train, held_out in folds(family, seed):
        values = fit(family.model, family.ranges, train, fixed)
        predicted[held_out] = family.model(values, where(family.rows, held_out))
    return predicted


def report(family: Family, seed: int) -> tuple[Values, np.ndarray]:
    """Print the parameters, errors and ablation of a *family*; return the parameters, and the seconds by folds."""
    rows = family.rows
    values = fit(family.model, family.ranges, rows, family.fixed)
    print(f"\n== {family.title}\n" + "\n".join(f"    {name}={value:.4g}," for name, value in values.items()))
    predicted = predicted_by_folds(family, seed)
    fitted = errors(family.model(values, rows), rows["seconds"])
    print_errors("errors", {"fitted to all": fitted, "by folds": errors(predicted, rows["seconds"])})
    for columns in family.by:
        print_errors(f"by folds, {', '.join(columns)}", by_family(rows, predicted, columns))
    without: dict[str, Errors] = {}
    for name, limits in family.ranges.items():
        if limits.without is not None and name not in family.fixed:
            less = predicted_by_folds(family, seed, {name: limits.without})
            without[f"without {name}"] = errors(less, rows["seconds"])
    print_errors("ablation, by folds", without)
    return values, predicted


def fastest(rows: Rows, columns: tuple[str, ...]) -> Rows:
    """Return the fastest of the *rows* that agree in *columns*: runs without a CUDA graph wait for launches."""
    key = keys(rows, columns)
    order = np.lexsort((rows["seconds"], key))
    first = np.unique(key[order], return_index=True)[1]
    return where(rows, order[first])


def exchanges(rows: Rows) -> Iterator[Family]:
    """Yield the families of the four directions."""
    for library, kind, ranges in (("deepep_low_latency", LowLatency, LOW_LATENCY), ("deepep_normal", Normal, NORMAL)):
        for direction in ("dispatch", "combine"):
            mine = matching(rows, library=library, op=direction)
            shape = ("gpus", "hidden", "top_k", "experts")
            by = (("version", "gpus"), ("tokens",)) + ((("sms",),) if kind is Normal else ())
            fixed = FIXED[library, direction]
            yield Family(f"{library} {direction}", mine, exchange_model(kind, direction), ranges, shape, fixed, by)


def main() -> None:
    """Fit all families and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="which shapes are in which fold")
    parser.add_argument("--plot", type=Path, help="file to plot the errors of exchanges to")
    options = parser.parse_args()
    seed, rows, panels = options.seed, read("communication"), []
    for family in exchanges(rows):
        _, predicted = report(family, seed)
        panels.append(Panel(family.title, family.rows["tokens"], predicted / family.rows["seconds"] - 1))
    if options.plot:
        plot_residuals(options.plot, panels, "tokens a GPU")
    nccl = fastest(matching(rows, library="nccl"), ("op", "gpus", "bytes"))
    ring = matching(nccl, op=("all_reduce", "all_gather", "reduce_scatter"))
    by = (("op", "gpus"), ("bytes",))
    ring_values, _ = report(Family("NCCL ring", ring, ring_model, RING, ("gpus", "bytes"), {}, by), seed)
    to_all = matching(nccl, op="alltoall")
    report(Family("NCCL all-to-all", to_all, all_to_all_model, ALL_TO_ALL, ("gpus", "bytes"), {}, by), seed)
    for names, fixed in CUSTOM.items():
        custom = fastest(matching(rows, library=names), ("library", "gpus", "bytes"))
        custom = where(custom, custom["bytes"] < LARGE)
        title = f"custom all-reduce: {', '.join(names)}"
        report(Family(title, custom, shots_model(ring_values), SHOTS, ("gpus", "bytes"), fixed, by), seed)
    floors(rows)


def floors(rows: Rows) -> None:
    """Print how far two versions of one library, and two libraries, differ in the time of one shape."""
    found = {}
    for library in ("deepep_low_latency", "deepep_normal"):
        for direction in ("dispatch", "combine"):
            mine = matching(rows, library=library, op=direction)
            shape = ("gpus", "hidden", "top_k", "experts", "tokens", "sms")
            found[f"{library} {direction}, two versions"] = noise_floor(mine, shape, ("version",))
    custom = fastest(matching(rows, library=next(iter(CUSTOM))), ("library", "gpus", "bytes"))
    found["custom all-reduce, vLLM and SGLang"] = noise_floor(custom, ("gpus", "bytes"), ("library",))
    print_errors("\nnoise floors", found)


if __name__ == "__main__":
    main()
