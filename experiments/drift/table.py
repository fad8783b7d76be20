"""The tables of experiments/drift/README.md: means of three seeds, with 95% intervals.

python experiments/drift/table.py results/drift     of a sweep: speedup over the baseline, bytes moved, time waited
python experiments/drift/table.py payback           after how many steps one blocking rebalancing has paid for itself
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from wss.config import Experiment
from wss.config.sweep_file import load_sweep
from wss.execution import run
from wss.execution.layers import draw_layers
from wss.execution.routing import open_routing
from wss.metrics import Ledger
from wss.report.markdown import table
from wss.report.sweep_folder import read_sweep

T_95 = 4.303  # Student, three seeds
STEPS = range(65, 97)  # after the one rebalancing of `blocking 64`
FIGURES = ("speedup", "moved", "waited", "imbalance")


def interval(values: Sequence[float], form: str) -> str:
    """Return the mean and half the 95% interval, in the format *form*."""
    return f"{fmean(values):{form}} ±{T_95 * stdev(values) / sqrt(3):{form}}"


def of_sweep(folder: Path) -> None:
    """Print a table for each point, its seeds together: a row a policy."""
    rows, _ = read_sweep(folder)
    axes = [axis for axis in ("model", "batch", "drift") if len({row[axis] for row in rows if axis in row}) > 1]
    for point in dict.fromkeys(tuple(row[axis] for axis in axes) for row in rows):
        own = [row for row in rows if tuple(row[axis] for axis in axes) == point]
        body = [[name, *_cells([row for row in own if row["policy"] == name])] for name in _names(own)]
        print(f"\n{', '.join(map(str, point))}\n\n{table(['', *FIGURES], body)}")


def _names(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["policy"] for row in rows))


def _cells(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the figures of one policy over its seeds."""
    speedup = [row["speedup"] for row in rows]
    cells = [interval(speedup, ".2f")]
    if all(row["policy"] == row["baseline"] for row in rows):
        cells = [f"1 ({fmean(row['decode_time_s'] for row in rows):.3f} s)"]
    if rows[0].get("moved_bytes") is None:
        cells += ["", ""]
    else:
        cells += [f"{fmean(row['moved_bytes'] for row in rows) / 1e12:.2f} TB"]
        cells += [f"{1e3 * fmean(row['rebalance_time_s'] for row in rows):,.0f} ms"]
    return [*cells, f"{fmean(row['imbalance'] for row in rows):.2f}"]


def payback() -> None:
    """Run `eplb` and `blocking 64` of every point of the sweep, and compare the steps after its one rebalancing."""
    found: dict[tuple[Any, Any], list[tuple[float, float]]] = {}
    for point in load_sweep(Path(__file__).with_name("drift.yaml")).points:
        policies = tuple(policy for policy in point.experiment.policies if policy.name in ("eplb", "blocking 64"))
        experiment = replace(point.experiment, policies=policies)
        found.setdefault((point.labels["model"], point.labels["drift"]), []).append(waited_and_saved(experiment))
    body = []
    for (model, drift), pairs in found.items():
        waited, saved = zip(*pairs, strict=True)
        after = "never" if fmean(saved) <= 0 else f"{fmean(waited) / fmean(saved):.0f} steps"
        body.append(
            [f"{model}, drift: {drift}", *(interval([1e3 * s for s in x], ".1f") for x in (waited, saved)), after]
        )
    print(table(["", "one rebalancing, ms", "saved a step, ms", "pays back after"], body))


def waited_and_saved(experiment: Experiment) -> tuple[float, float]:
    """Return, estimated for all layers, the seconds of the rebalancing, and what a step takes less after it."""
    _, sample = draw_layers(experiment, open_routing)
    assert sample is not None
    ledgers = {ledger.policy: ledger for ledger in run(experiment).ledgers}

    def of_all(ledger: Ledger, phase: str) -> float:
        seconds = np.zeros(len(sample.layers))
        for row in ledger.rows:
            if row.step in STEPS and row.phase == phase:
                seconds[sample.layers.index(row.layer)] += row.time_s
        return float(sample.weights @ seconds)

    moved = ledgers["blocking 64"]
    saved = of_all(ledgers["eplb"], "decode") - of_all(moved, "decode")
    return of_all(moved, "rebalance"), saved / len(STEPS)


if __name__ == "__main__":
    payback() if sys.argv[1] == "payback" else of_sweep(Path(sys.argv[1]))
