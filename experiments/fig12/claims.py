"""The paper's claims about figure 12, from the results of a sweep.

python experiments/fig12/claims.py results/fig12_paper            # prints
python experiments/fig12/claims.py results/fig12_paper --save     # and writes results.json here
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

from wss.files import json_text
from wss.hardware import WAFERS
from wss.hardware.specs import WaferSpec
from wss.models import MODELS
from wss.report.report import read_results

Row = dict[str, Any]
POLICIES = ("ep", "pred", "allo", "allo_pred")
SAVED = Path(__file__).with_name("results.json")


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
            row["hops"] + (row["prefill_hops"] if row["physics"] != "wss" else 0)
            for row in rows
            if row["policy"] == name
        ]

    own, base = hops_of(policy), hops_of("base")
    ratios = [b / o for b, o in zip(base, own, strict=True) if o]
    return (fmean(ratios) if ratios else float("inf")), (sum(base) / sum(own) if sum(own) else float("inf"))


def remote_over_local(row: Row) -> float:
    """Return how much longer `base` takes for an expert of its fullest die than that die's own HBM would for its bytes.

    A die computes one of D experts in turn, and reads nearly all of them from afar.
    """
    model = MODELS[str(row["model"]).partition(" ")[0]]
    wafer = WAFERS[row["wafer"]]
    assert isinstance(wafer, WaferSpec)
    experts = -(-model.num_experts // (wafer.mesh[0] * wafer.mesh[1]))
    each = row["decode_time_s"] / (row["steps_run"] * row["layers_total"] * experts)
    return float(each / (model.expert_bytes(row["precision"]) / wafer.die.hbm.bandwidth))


def figures(rows: list[Row]) -> dict[str, Any]:
    """Return mean speedups by model, wafer, batch and over all, also over ep, and how far hops are cut."""
    groups: dict[str, dict[str, Any]] = {
        f"batch {label}" if axis == "batch" else label: {axis: label}
        for axis in ("model", "wafer", "batch")
        for label in dict.fromkeys(row[axis] for row in rows)
    }
    groups["all"] = {}
    found: dict[str, Any] = {
        name: {policy: mean_speedup(rows, policy, **labels) for policy in POLICIES} for name, labels in groups.items()
    }
    for name, labels in groups.items():
        found[name]["over_ep"] = mean_speedup(rows, "allo_pred", "ep", **labels)
    for policy in POLICIES[1:]:
        mean, sums = hops_cut(rows, policy)
        found["hops_" + policy] = {"mean": mean if mean != float("inf") else None, "sums": sums}
    least = min(row["batch"] for row in rows)  # where reading decides, not computing
    far = [remote_over_local(row) for row in rows if row["policy"] == "base" and row["batch"] == least]
    found["remote_over_local"] = {"mean": fmean(far), "most": max(far)}
    found["points"] = len(rows) // (len(POLICIES) + 1)
    found["layers_sampled"] = len(rows[0]["layers_sampled"]) if rows[0].get("layers_sampled") else None
    return found


def parts(rows: list[Row]) -> dict[tuple[str, ...], list[Row]]:
    """Return rows by where results.json keeps their figures: the physics; of flat.yaml the routing and the physics."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        physics = row["physics"]
        found.setdefault((row["routing"], physics) if "routing" in row else (physics,), []).append(row)
    return found


def show(found: dict[str, Any]) -> None:
    """Print every claim with what came out."""
    for name, own in found.items():
        if isinstance(own, dict) and "over_ep" in own:
            speedups = "  ".join(f"{policy} {own[policy]:6.2f}x" for policy in POLICIES)
            print(f"{name:20} {speedups}  allo_pred over ep {own['over_ep']:.3f}x")
    for policy in POLICIES[1:]:
        own = found["hops_" + policy]
        print(f"hops cut by {policy}: mean {own['mean'] or float('inf'):.1f}x, of sums {own['sums']:.1f}x")
    far = found["remote_over_local"]
    print(f"an expert of base, over its bytes at the own HBM: mean {far['mean']:.1f}x, most {far['most']:.1f}x")


def main() -> None:
    """Print the figures of each physics, and keep them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--save", action="store_true")
    given = parser.parse_args()
    saved = json.loads(SAVED.read_text(encoding="utf-8")) if SAVED.exists() else {}
    for place, rows in parts(read_results(given.folder).rows).items():
        print(*place)
        *outer, last = place
        within = saved
        for name in outer:
            within = within.setdefault(name, {})
        within[last] = figures(rows)
        show(within[last])
    if given.save:
        SAVED.write_text(json_text(saved, sort_keys=False) + "\n", encoding="utf-8")
        print(f"\nsaved: {SAVED}")


if __name__ == "__main__":
    main()
