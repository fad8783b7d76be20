"""Every policy of a sweep ranked: on each point its speedup over the baseline with the 95% interval, and x bound.

python experiments/policies/rank.py results/ranking
"""

from __future__ import annotations

import sys
from math import exp, log
from pathlib import Path
from statistics import fmean
from typing import Any

from wss.report.markdown import table
from wss.report.report import read_results

Row = dict[str, Any]


def cell(row: Row) -> str:
    """Return a speedup with its interval, if layers were sampled, and the distance to the bound."""
    low, high = row.get("speedup_low"), row.get("speedup_high")
    interval = "" if low is None else f" [{low:.2f}, {high:.2f}]"
    return f"{row['speedup']:.2f}x{interval}, {row['bound_ratio']:.2f}"


def main(folder: Path) -> None:
    """Print a Markdown table, the policy with the largest geometric mean of speedups first."""
    results = read_results(folder)
    points: dict[tuple[Any, ...], dict[str, Row]] = {}
    for row in results.rows:
        points.setdefault(tuple(row[axis] for axis in results.axes), {})[row["policy"]] = row
    policies = list(dict.fromkeys(row["policy"] for row in results.rows))
    mean = {policy: exp(fmean(log(row[policy]["speedup"]) for row in points.values())) for policy in policies}
    head = ["policy", "mean", *(", ".join(str(label) for label in labels) for labels in points)]
    ranked = sorted(policies, key=lambda policy: -mean[policy])
    rows = [[f"`{p}`", f"{mean[p]:.2f}x", *(cell(row[p]) for row in points.values())] for p in ranked]
    print(table(head, rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
