"""Print the table of experiments/alltoall/README.md from the folder of its sweep.

python experiments/alltoall/table.py results/alltoall
"""

import sys
from pathlib import Path
from typing import Any

from wss.report.sweep_folder import intervals_of, read_sweep

POLICIES = ("ep", "allo", "allo_pred", "balanced")


def figure(row: dict[str, Any], key: str) -> tuple[float, float, float]:
    """Return a figure and its interval over layers."""
    return (row[key], *intervals_of(row, key)["layers"])


def main(folder: Path) -> None:
    """Print speedups over base without and with the exchange, and its share of the time of base, ep and balanced."""
    rows, _ = read_sweep(folder)
    axes = ("model", "wafer", "batch")
    for point in dict.fromkeys(tuple(str(row[axis]) for axis in axes) for row in rows):
        own = {(row["dispatch"], row["policy"]): row for row in rows if tuple(str(row[axis]) for axis in axes) == point}
        cells = []
        for policy in POLICIES:
            pair = [figure(own[dispatch, policy], "speedup") for dispatch in ("none", "uniform")]
            cells.append(" → ".join(f"{value:.2f} [{low:.2f}, {high:.2f}]" for value, low, high in pair))
        for policy in ("base", "ep", "balanced"):
            value, low, high = figure(own["uniform", policy], "exchange_share")
            cells.append(f"{value:.1%} [{low:.1%}, {high:.1%}]")
        print("| " + " | ".join([*point, *cells]) + " |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
