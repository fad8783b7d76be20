"""The paper's claims about figure 12, from the results of a sweep.

python experiments/fig12/claims.py results/fig12_paper_artifact
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from wss.report.results import read_results

Row = dict[str, Any]


def mean_speedup(rows: list[Row], policy: str, over: str = "base", **labels: Any) -> float:
    """Return the arithmetic mean over points of *policy*'s speedup over another policy's."""

    def chosen(name: str) -> list[Row]:
        return [
            row for row in rows if row["policy"] == name and all(row[axis] == label for axis, label in labels.items())
        ]

    return fmean(own["speedup"] / other["speedup"] for own, other in zip(chosen(policy), chosen(over), strict=True))


def hops_cut(rows: list[Row], policy: str) -> tuple[float, float]:
    """Return base's hops over *policy*'s: the mean over points where it has any, and the ratio of sums.

    Under the paper's physics they are counted over all steps, as its simulator does.
    """

    def hops_of(name: str) -> list[int]:
        return [
            row["hops"] + (row["prefill_hops"] if row["physics"] == "paper_artifact" else 0)
            for row in rows
            if row["policy"] == name
        ]

    own, base = hops_of(policy), hops_of("base")
    ratios = [b / o for b, o in zip(base, own, strict=True) if o]
    return (fmean(ratios) if ratios else float("inf")), (sum(base) / sum(own) if sum(own) else float("inf"))


def main(folder: Path) -> None:
    """Print every claim with what came out."""
    rows = read_results(folder).rows
    models = list(dict.fromkeys(row["model"] for row in rows))
    wafers = list(dict.fromkeys(row["wafer"] for row in rows))
    batches = list(dict.fromkeys(row["batch"] for row in rows))

    def line(what: str, value: Callable[[str], float]) -> None:
        print(
            f"{what:28} "
            + "  ".join(f"{policy} {value(policy):6.2f}x" for policy in ("ep", "pred", "allo", "allo_pred"))
        )

    for model in models:
        line(model, lambda policy, model=model: mean_speedup(rows, policy, model=model))
    for wafer in wafers:
        line(wafer, lambda policy, wafer=wafer: mean_speedup(rows, policy, wafer=wafer))
    for batch in batches:
        line(f"batch {batch}", lambda policy, batch=batch: mean_speedup(rows, policy, batch=batch))
    line("all", lambda policy: mean_speedup(rows, policy))
    for batch in batches:
        ratio = mean_speedup(rows, "allo_pred", "ep", batch=batch)
        print(f"allo_pred over ep, batch {batch}: {ratio:.3f}x")
    for policy in ("pred", "allo", "allo_pred"):
        mean, sums = hops_cut(rows, policy)
        print(f"hops cut by {policy}: mean {mean:.1f}x, of sums {sums:.1f}x")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
