"""Figure 15: what it costs to allocate on the host CPU, and which costs would meet the paper's ranges.

python experiments/fig15/fig15.py --quick     # 4 steps, 4 layers, two batches
python experiments/fig15/fig15.py             # 16 steps, 8 layers, six batches; writes experiments/fig15/results.json
python experiments/fig15/fig15.py --show      # the tables of results.json, without a run

Every MoE layer waits for the host: the distribution table goes up over PCIe, the plan comes down. The paper gives for
each wafer and model a range of overheads over "several batches". An overhead is

    (fixed + each · requests + (table + plan) / PCIe) / layer run

with the mean layer run of allo_pred. Which *fixed* and *each* keep it within the paper's range is a linear program.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from scipy.optimize import linprog

from wss.config import load
from wss.execution import run
from wss.files import json_text
from wss.report.markdown import table

ROOT = Path(__file__).parents[2]
FULL, QUICK = ["steps=16", "layers.sample=8"], ["steps=4", "layers.sample=4"]
BATCHES, QUICK_BATCHES = (512, 1024, 2048, 4096, 8192, 16384), (1024, 4096)
PHYSICS = {"paper": "the paper's physics", "wss": "wss' physics"}
PCIE = 64e9  # B/s each way, PCIe 5.0 x16 (PCI-SIG)
ENTRY_BITS = 72  # of an expert in the distribution table (table II: 4.5 KB for 512)
TASK_BYTES = 8  # of the plan: expert, die, tokens
TRIPS = (2e-6, 10e-6, 20e-6)  # s: the bus alone; a copy each way; with a layer run's launch and the driver
RANGES = {  # the paper's overheads, least and most
    ("dojo", "deepseek_v3"): (0.052, 0.064),
    ("dojo", "qwen3_235b"): (0.111, 0.142),
    ("dojo_enhanced", "deepseek_v3"): (0.193, 0.238),
    ("dojo_enhanced", "qwen3_235b"): (0.420, 0.516),
}
Row = dict[str, Any]
Case = tuple[str, str]


def measured(settings: Sequence[str], batches: Sequence[int]) -> Iterator[Row]:
    """Yield, for each physics, wafer, model and batch, the mean layer run of allo_pred and the bytes over PCIe."""
    for physics in PHYSICS:
        for wafer, model in RANGES:
            for batch in batches:
                own = [f"physics={physics}", f"wafer={wafer}", f"batch={batch}", f"trace.synth.requests={max(batches)}"]
                print(f"{physics}, {wafer}, {model}, batch {batch}", file=sys.stderr, flush=True)
                own += ["policies=[allo_pred]", "baseline=allo_pred", *settings]
                experiment = load(ROOT / "configs" / f"{model}.yaml", own)
                found = run(experiment)
                (figures,), rows = found.to_dict()["runs"], found.ledgers[0].decode
                layer_runs = len(experiment.model.moe_layers) * max(row.step for row in rows)
                yield {
                    "physics": physics,
                    "wafer": wafer,
                    "model": model,
                    "batch": batch,
                    "kernel_s": figures["decode_time_s"] / layer_runs,
                    "up_bytes": experiment.model.num_experts * ENTRY_BITS / 8,
                    "down_bytes": TASK_BYTES * sum(row.tasks for row in rows) / len(rows),
                }


def bus_s(row: Row) -> float:
    """Return the seconds that the bytes take on PCIe."""
    return float(row["up_bytes"] + row["down_bytes"]) / PCIE


def fit(rows: Sequence[Row], *, is_fixed: bool = False) -> tuple[float, float, float]:
    """Return the fixed cost, s, that of a request, s, and how far the worst row is then out of its range.

    That is a share of the range's nearer end: 0 if all are within. With *is_fixed* requests cost nothing.
    """
    above, limits = [], []
    for row in rows:
        low, high = (share * row["kernel_s"] for share in RANGES[row["wafer"], row["model"]])
        above += [[1.0, row["batch"] / 1e3, -high * 1e6], [-1.0, -row["batch"] / 1e3, -low * 1e6]]
        limits += [(high - bus_s(row)) * 1e6, (bus_s(row) - low) * 1e6]
    bounds = [(0, None), (0, 0 if is_fixed else None), (0, None)]
    best = linprog([0, 0, 1], A_ub=above, b_ub=limits, bounds=bounds)  # us, and us for 1,000 requests
    fixed, each, miss = best.x
    return float(fixed) * 1e-6, float(each) * 1e-9, float(miss) if miss > 1e-9 else 0.0


def groups() -> dict[str, tuple[Case, ...]]:
    """Return which ranges are to be met together: each alone, those of a wafer, those of a model, all."""
    cases = tuple(RANGES)
    found: dict[str, tuple[Case, ...]] = {f"{wafer}, {model}": ((wafer, model),) for wafer, model in cases}
    found |= {name: tuple(case for case in cases if name in case) for case in cases for name in case}
    return found | {"all four": cases}


def fits(rows: Sequence[Row]) -> list[Row]:
    """Return, for each physics and group of ranges, what meets it best over all batches."""
    found = []
    for physics in PHYSICS:
        for name, cases in groups().items():
            own = [row for row in rows if row["physics"] == physics and (row["wafer"], row["model"]) in cases]
            fixed, each, miss = fit(own)
            found.append({"physics": physics, "ranges": name, "fixed_s": fixed, "request_s": each, "miss": miss})
    return found


def batch_ranges(rows: Sequence[Row]) -> list[Row]:
    """Return, for each physics and each run of two batches or more, how near all four ranges can be met."""
    batches = sorted({row["batch"] for row in rows})
    found = []
    for physics in PHYSICS:
        for first, last in combinations(batches, 2):
            own = [row for row in rows if row["physics"] == physics and first <= row["batch"] <= last]
            (fixed, each, miss), (alone, _, alone_miss) = fit(own), fit(own, is_fixed=True)
            here = {
                "fixed_s": fixed,
                "request_s": each,
                "miss": miss,
                "only_fixed_s": alone,
                "only_fixed_miss": alone_miss,
            }
            found.append({"physics": physics, "first": first, "last": last, **here})
    return found


def span(values: Sequence[float]) -> str:
    """Return the least and the most of shares, in per cent."""
    return f"{100 * min(values):+.1f} to {100 * max(values):.1f}%"


def overheads(rows: Sequence[Row]) -> str:
    """Return the table of overheads: of the assumed round trips, each over all batches, beside the paper's."""
    body = []
    for (wafer, model), paper in RANGES.items():
        for physics, name in PHYSICS.items():
            own = [r for r in rows if (r["physics"], r["wafer"], r["model"]) == (physics, wafer, model)]
            trips = [span([(trip + bus_s(row)) / row["kernel_s"] for row in own]) for trip in TRIPS]
            body.append([f"`{wafer}`", model, name, *trips, span(paper)])
    return table(["wafer", "model", "physics", *(f"{1e6 * trip:.0f} us" for trip in TRIPS), "the paper"], body)


def layer_runs(rows: Sequence[Row]) -> str:
    """Return the table of layer runs and bytes, batches across."""
    batches = sorted({row["batch"] for row in rows})
    body = []
    for physics, name in PHYSICS.items():
        for wafer, model in RANGES:
            own = {
                row["batch"]: row
                for row in rows
                if (row["physics"], row["wafer"], row["model"]) == (physics, wafer, model)
            }
            cells = [f"{1e6 * own[b]['kernel_s']:.0f} us, {own[b]['down_bytes'] / 1024:.1f} KiB" for b in batches]
            body.append([name, f"`{wafer}`", model, f"{own[batches[0]]['up_bytes'] / 1024:.2f} KiB", *cells])
    return table(["physics", "wafer", "model", "up", *(f"{batch:,}" for batch in batches)], body)


def speedups(rows: Sequence[Row]) -> str:
    """Return how much faster layer runs of Dojo-Enhanced are than Dojo's; the paper's ranges say 3.6 to 3.8."""
    batches, seconds = sorted({row["batch"] for row in rows}), {}
    for row in rows:
        seconds[row["physics"], row["wafer"], row["model"], row["batch"]] = row["kernel_s"]
    body = [
        [
            name,
            model,
            *(f"{seconds[p, 'dojo', model, b] / seconds[p, 'dojo_enhanced', model, b]:.2f}x" for b in batches),
        ]
        for p, name in PHYSICS.items()
        for model in ("deepseek_v3", "qwen3_235b")
    ]
    return table(["physics", "model", *(f"{batch:,}" for batch in batches)], body)


def _miss(row: Row, key: str = "miss") -> str:
    return "met" if row[key] == 0 else f"missed by {100 * row[key]:.0f}%"


def tables(content: dict[str, Any]) -> str:
    """Return the tables of a page."""
    rows = content["rows"]
    met = [
        [PHYSICS[f["physics"]], f["ranges"], f"{1e6 * f['fixed_s']:.1f} us", f"{1e9 * f['request_s']:.2f} ns", _miss(f)]
        for f in content["fits"]
    ]
    ranges = [
        [
            PHYSICS[f["physics"]],
            f"{f['first']:,} to {f['last']:,}",
            f"{1e6 * f['fixed_s']:.1f} us + {1e9 * f['request_s']:.2f} ns: {_miss(f)}",
            f"{1e6 * f['only_fixed_s']:.1f} us: {_miss(f, 'only_fixed_miss')}",
        ]
        for f in content["batch_ranges"]
    ]
    return "\n\n".join(
        (
            overheads(rows),
            layer_runs(rows),
            speedups(rows),
            table(["physics", "ranges, all batches", "fixed", "a request", "best"], met),
            table(["physics", "batches", "all four: fixed and a request", "all four: fixed alone"], ranges),
        )
    )


def main() -> None:
    """Run, print, and write results.json; a quick run writes beside it, where git does not look."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    kept = Path(__file__).with_name("results.json")
    if given.show:
        print(tables(json.loads(kept.read_text(encoding="utf-8"))))
        return
    settings = [*(QUICK if given.quick else FULL), *given.set]
    rows = list(measured(settings, QUICK_BATCHES if given.quick else BATCHES))
    content = {"figure": 15, "settings": settings, "rows": rows, "fits": fits(rows), "batch_ranges": batch_ranges(rows)}
    out = given.out or (ROOT / "results" / "fig15_quick.json" if given.quick else kept)
    out.parent.mkdir(exist_ok=True)
    out.write_text(json_text(content, sort_keys=False) + "\n", encoding="utf-8")
    print(tables(content))
    print(f"\nwritten: {out}")


if __name__ == "__main__":
    main()
