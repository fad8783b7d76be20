"""How often 95% intervals of sampled layers cover what all layers give, and how wide they are.

python experiments/sampling/cover.py small            # 24 made-up layers; half a minute
python experiments/sampling/cover.py gpt_oss_20b deepseek_v3 --draws 200
python experiments/sampling/cover.py gpt_oss_20b --set batch=256

All layers are run once, with one routing. Of each draw of 8 layers, policies that keep copies are run anew, as the room
for copies depends on the sample; of the others the times of the layers drawn are taken. *Before* are intervals with
the variance of each stratum, and the degrees of freedom of the smallest.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

from wss import hardware
from wss.config import Experiment, load
from wss.config.experiment import DrawnLayers
from wss.execution.layers import skew_of
from wss.execution.routing import build_routing_history, open_routing, open_stream
from wss.execution.runner import build_executors
from wss.metrics.sampling import Sample, draw
from wss.policies.prediction import Never
from wss.records import FloatArray
from wss.report.markdown import table

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = """\
model: {name: small, num_layers: 24, moe_layers: [LAYERS], num_experts: 32, top_k: 2, hidden_size: 1024,
        moe_intermediate_size: 2048}
wafer: {preset: dojo, mesh: [3, 3], die: {llc: {size: 0 B}, hbm: {size: 2.1 GB}}}
trace: {synth: {requests: 128, decode_tokens: 3, prompt_min: 1, prompt_max: 3, clusters: 8}}
batch: 4096
steps: 3
policies: [base, ep, pred, allo, allo_pred]
""".replace("LAYERS", ", ".join(map(str, range(24))))

LAYERS = 8
Times = dict[str, FloatArray]  # seconds of decode by policy, [layers]


def times_of(experiment: Experiment) -> Times:
    """Run *experiment*, its layers as they are given, and return the times of each policy's layers."""
    wafer, policies = hardware.build(experiment.wafer, experiment.faults), list(experiment.policies)
    sites = build_executors(experiment, wafer, policies, build_routing_history(experiment))
    for layer_run in open_stream(experiment, policies)[1].layer_runs():
        for site in sites:
            site.run(layer_run)
    found = {}
    for site in sites:
        by_layer = dict.fromkeys(experiment.layers_run, 0.0)
        for row in site.recorder.decode:
            by_layer[row.layer] += row.time_s
        found[site.recorder.policy] = np.array(list(by_layer.values()))
    return found


def before(sample: Sample, above: FloatArray, below: FloatArray) -> tuple[float, float, float]:
    """Return a ratio of totals and the ends of its interval as they were."""
    total = float(sample.weights @ below)
    value = float(sample.weights @ above) / total
    deviation = (above - value * below) / total
    place = {layer: number for number, layer in enumerate(sample.layers)}
    variance, freedom = 0.0, len(place)
    for stratum in sample.strata:
        size, drawn = len(stratum.layers), len(stratum.run)
        if drawn < size:
            spread = float(deviation[[place[layer] for layer in stratum.run]].var(ddof=1))
            variance += size * (size - drawn) / drawn * spread
            freedom = min(freedom, drawn - 1)
    half = float(stdtrit(freedom, 0.975)) * math.sqrt(variance)
    return value, value - half, value + half


def cover(experiment: Experiment, draws: int) -> list[list[str]]:
    """Return a row for each policy: how many speedups over the baseline were covered, and half the mean width."""
    layers = experiment.model.moe_layers
    whole, skew = times_of(experiment), skew_of(experiment, open_routing)
    copying = tuple(policy for policy in experiment.policies if not isinstance(policy.prediction, Never))
    names = [policy.name for policy in experiment.policies if policy.name != experiment.baseline]
    covered = {name: [0, 0] for name in names}
    halves: dict[str, list[list[float]]] = {name: [[], []] for name in names}
    for seed in range(draws):
        sample = draw(layers, skew, LAYERS, seed)
        places = [layers.index(layer) for layer in sample.layers]
        times = {name: values[places] for name, values in whole.items()}
        if copying:
            drawn = DrawnLayers(sample=LAYERS, layers=sample.layers)
            times |= times_of(replace(experiment, layers=drawn, policies=copying, baseline=copying[0].name))
        for name in names:
            truth = whole[experiment.baseline].sum() / whole[name].sum()
            pair = times[experiment.baseline], times[name]
            for number, (_, low, high) in enumerate((before(sample, *pair), sample.speedup(*pair))):
                covered[name][number] += bool(low <= truth <= high)
                halves[name][number].append((high - low) / 2 / truth)
    return [
        [
            name,
            *(f"{count} of {draws}" for count in covered[name]),
            *(f"{100 * np.mean(each):.2f}%" for each in halves[name]),
        ]
        for name in names
    ]


def main() -> None:
    """Print a table for each model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+", help="small, or a file of configs/ without its suffix")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.yaml"
        small.write_text(SMALL, encoding="utf-8")
        for model in given.models:
            experiment = load(small if model == "small" else CONFIGS / f"{model}.yaml", given.set)
            head = ["speedup of", "covered before", "covered", "half width before", "half width"]
            print(f"\n{model}\n\n{table(head, cover(experiment, given.draws))}", flush=True)


if __name__ == "__main__":
    main()
