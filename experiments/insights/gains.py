"""What each insight gains alone: the mean over seeds of the speedup of on over off, with its 95% interval.

python experiments/insights/gains.py results/insights            # prints
python experiments/insights/gains.py results/insights --save     # and writes results.json here
"""

from __future__ import annotations

import argparse
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev

from wss.files import json_text
from wss.report.markdown import table
from wss.report.report import read_results

T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 8: 2.365, 10: 2.262}  # Student, by the number of seeds


SAVED = Path(__file__).with_name("results.json")


def main(folder: Path, save: bool) -> None:
    """Print a Markdown table, a row an insight, a column a model and batch; with *save*, write its figures."""
    rows = [row for row in read_results(folder).rows if row["policy"] != row["baseline"]]
    points = list(dict.fromkeys((row["model"], row["batch"]) for row in rows))
    body, found = [], {}
    for insight in dict.fromkeys(row["insight"] for row in rows):
        cells = []
        means = found[insight.partition(":")[0]] = {}
        for point in points:
            gains = [
                row["speedup"] for row in rows if row["insight"] == insight and (row["model"], row["batch"]) == point
            ]
            half = T_95[len(gains)] * stdev(gains) / sqrt(len(gains))
            means[f"{point[0]}_{point[1]}"] = fmean(gains)
            cells.append(f"{fmean(gains):.3f}x ±{half:.3f}")
        body.append([insight, *cells])
    print(table(["on over off", *(f"{model}, {batch}" for model, batch in points)], body))
    for means in found.values():
        means |= {"least": min(means.values()), "most": max(means.values())}
    if save:
        SAVED.write_text(json_text(found, sort_keys=False) + "\n", encoding="utf-8")
        print(f"\nsaved: {SAVED}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args()
    main(given.folder, given.save)
