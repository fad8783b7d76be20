"""Figure 17: Qwen3 on eight H100s, experts placed by the prefill, and how unlike the GPUs' times are under Default.

python experiments/fig17/fig17.py --quick     # two batches, 4 layers, one routing
python experiments/fig17/fig17.py             # nine batches, 16 layers, two routings; writes results.json beside it
python experiments/fig17/fig17.py --show      # the tables of results.json, without a run

Plans are those of wss' policies. Each kernel is timed twice: as wss does (`gemm: h800`, fluid network), and by the
chains of the paper's simulator on eight dies that use no links, with its table of H100 GEMM times. The paper measured
real GPUs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from wss import hardware
from wss.config import Experiment, load
from wss.engine.paper.chains_compiled import compiled_paper_layer
from wss.engine.paper.machine import SHARES, Machine, Memories
from wss.execution.routing import build_routing_history, open_stream
from wss.files import json_text
from wss.metrics import Ledger
from wss.records import FloatArray, LayerRecord, Plan
from wss.report.markdown import table
from wss.serving.moe_layer import MoeLayerExecutor

ROOT = Path(__file__).parents[2]
POLICIES = {"default": "ep", "remap": "remap", "dup": "dup", "best": "oracle_best", "worst": "oracle_worst"}
SKEWS = (1.58, 0.8)  # the preset's, fitted to coverage; flatter, which the paper's other figures of Qwen3 ask for
FULL, QUICK = {"layers": 16, "seeds": 2, "steps": 2}, {"layers": 4, "seeds": 1, "steps": 1}
BATCHES = tuple(2**power for power in range(6, 15))
QUICK_BATCHES = (256, 4096)
PHYSICS = {"paper": "the paper's physics", "wss": "wss' physics"}
PAPER = {
    "Remap / Default": "1.155",
    "Dup / Default": "1.125",
    "most of either": "1.25",
    "Remap / Best": "within 10%: 0.9",
    "Dup / Best": "within 10%: 0.9",
    "Remap / Worst": "over 2",
    "Default, max/min of a layer": "about 1.3",
    "Default, max/min of all layers": "about 1.3",
}
Row = dict[str, Any]


@dataclass
class Times:
    """Seconds of every GPU in every decode layer run, [GPUs] each, by physics."""

    paper: list[FloatArray] = field(default_factory=list)
    wss: list[FloatArray] = field(default_factory=list)


class TimedLedger(Ledger):
    """A ledger that also notes when each GPU was done, and when it would be in the paper's simulator."""

    def __init__(self, experiment: Experiment, policy: str, wafer: hardware.Wafer) -> None:
        gemm = hardware.GEMMS[experiment.gemm]
        super().__init__(policy, experiment.model, wafer.achieving(gemm.hbm_share("fp16")), "fp16", gemm)
        self._machine, self.times = unlinked(experiment, wafer.num_dies), Times()

    def layer_run(self, record: LayerRecord) -> None:
        """Record the layer run, and in decode both times of every GPU."""
        super().layer_run(record)
        if record.step > 0:
            self.times.wss.append(record.run.die_end)
            self.times.paper.append(die_times(self._machine, record.plan))


def unlinked(experiment: Experiment, gpus: int) -> Machine:
    """Return GPUs without links as the paper's simulator sees dies."""
    shares, dram_share = SHARES[experiment.model.name]
    return Machine(
        hidden=experiment.model.hidden_size,
        intermediate=experiment.model.moe_intermediate_size,
        home=[0] * experiment.model.num_experts,
        routes=[[[] for _ in range(gpus)] for _ in range(gpus)],
        num_edges=0,
        compute_shares=shares,
        dram_share=dram_share,
    )


def die_times(machine: Machine, plan: Plan) -> FloatArray:
    """Return the seconds of every GPU in the paper's simulator, [GPUs]; each has the experts that it computes."""
    if plan.remote.any():
        raise ValueError("the plan reads experts of other GPUs; take policies that compute experts where they are")
    order = np.lexsort((plan.die, plan.expert))
    tasks = np.stack((plan.expert, plan.die, plan.tokens), axis=1)[order]
    home = np.zeros(len(machine.home), np.int64)
    home[tasks[::-1, 0]] = tasks[::-1, 1]
    memories = Memories(machine, 1)
    memories.copies[:] = True
    wanted = np.zeros(len(tasks), np.bool_)
    counts = compiled_paper_layer(replace(machine, home=home.tolist()), memories, 0, tasks, wanted)
    seconds: FloatArray = np.multiply(counts.die_end, 1e-9)
    return seconds


def timed(experiment: Experiment) -> dict[str, Times]:
    """Run *experiment* and return the times of all GPUs by policy."""
    wafer, seen = hardware.build(experiment.wafer), build_routing_history(experiment)
    ledgers = {policy.name: TimedLedger(experiment, policy.name, wafer) for policy in experiment.policies}
    sites = [MoeLayerExecutor(experiment.setup, wafer, each, seen, ledgers[each.name]) for each in experiment.policies]
    for layer_run in open_stream(experiment, experiment.policies)[1].layer_runs():
        for site in sites:
            site.run(layer_run)
    return {name: ledger.times for name, ledger in ledgers.items()}


def figures(times: dict[str, list[FloatArray]]) -> dict[str, float]:
    """Return the figures that the paper has from the times of all GPUs, by policy."""
    total = {name: sum(float(layer_run.max()) for layer_run in layer_runs) for name, layer_runs in times.items()}
    default, summed = times["default"], np.sum(times["default"], axis=0)
    return {
        "Remap / Default": total["default"] / total["remap"],
        "Dup / Default": total["default"] / total["dup"],
        "Remap / Best": total["best"] / total["remap"],
        "Dup / Best": total["best"] / total["dup"],
        "Remap / Worst": total["worst"] / total["remap"],
        "Default, max/min of a layer": fmean(float(layer_run.max() / layer_run.min()) for layer_run in default),
        "Default, max/min of all layers": float(summed.max() / summed.min()),
    }


def spread(layers: Sequence[int], count: int) -> list[int]:
    """Return *count* layers evenly spread, the first and the last among them."""
    return [layers[i * (len(layers) - 1) // (count - 1)] for i in range(count)]


def measured(scope: dict[str, int], batches: Sequence[int], settings: Sequence[str]) -> list[Row]:
    """Return the figures by skew, batch and physics, means over seeds."""
    path = ROOT / "configs" / "qwen3_235b.yaml"
    layers = spread(load(path).model.moe_layers, scope["layers"])
    policies = ", ".join(f"{{name: {name}, preset: {preset}}}" for name, preset in POLICIES.items())
    rows = []
    for skew in SKEWS:
        for batch in batches:
            found: dict[str, list[dict[str, float]]] = {physics: [] for physics in PHYSICS}
            for seed in range(scope["seeds"]):
                own = ["wafer=h100_nvl8", f"batch={batch}", f"trace.synth.requests={batch}", f"trace.synth.skew={skew}"]
                own += [f"policies=[{policies}]", "baseline=default", f"steps={scope['steps']}", f"layers={layers}"]
                times = timed(load(path, [*own, f"seed={seed}", *settings]))
                for physics in PHYSICS:
                    found[physics].append(figures({name: getattr(each, physics) for name, each in times.items()}))
            for physics, seeds in found.items():
                means = {name: fmean(each[name] for each in seeds) for name in seeds[0]}
                rows.append({"skew": skew, "batch": batch, "physics": physics, **means})
    return rows


def claims(rows: Sequence[Row]) -> list[Row]:
    """Return the paper's figures and ours: means over batches, and of the gain the most."""
    found = []
    for name, paper in PAPER.items():
        row: Row = {"what": name, "paper": paper}
        for skew in SKEWS:
            for physics in PHYSICS:
                own = [r for r in rows if (r["skew"], r["physics"]) == (skew, physics)]
                if name == "most of either":
                    value = max(max(r["Remap / Default"], r["Dup / Default"]) for r in own)
                else:
                    value = fmean(r[name] for r in own)
                row[f"{physics}, skew {skew:g}"] = value
        found.append(row)
    return found


def tables(content: dict[str, Any]) -> str:
    """Return the tables of a page."""
    kinds = [(physics, skew) for skew in SKEWS for physics in PHYSICS]
    judged = [
        [row["what"], row["paper"], *(f"{row[f'{physics}, skew {skew:g}']:.2f}" for physics, skew in kinds)]
        for row in content["claims"]
    ]
    heads = [f"{PHYSICS[physics]}, skew {skew:g}" for physics, skew in kinds]
    names = [name for name in PAPER if name != "most of either"]
    by_batch = [
        [f"{row['skew']:g}", PHYSICS[row["physics"]], f"{row['batch']:,}", *(f"{row[name]:.2f}" for name in names)]
        for row in content["rows"]
    ]
    shown = table(["means over batches", "the paper", *heads], judged)
    return shown + "\n\n" + table(["skew", "physics", "batch", *names], by_batch)


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
    scope, batches = (QUICK, QUICK_BATCHES) if given.quick else (FULL, BATCHES)
    rows = measured(scope, batches, given.set)
    content = {"figure": 17, "scope": scope, "settings": given.set, "claims": claims(rows), "rows": rows}
    out = given.out or (ROOT / "results" / "fig17_quick.json" if given.quick else kept)
    out.parent.mkdir(exist_ok=True)
    out.write_text(json_text(content, sort_keys=False) + "\n", encoding="utf-8")
    print(tables(content))
    print(f"\nwritten: {out}")


if __name__ == "__main__":
    main()
