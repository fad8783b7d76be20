"""Fit the presets of synthetic routing, and measure how near they come.

python experiments/traces/fit.py curve LOADS.parquet    the rank-frequency curve of recorded DeepSeek-V3 loads
python experiments/traces/fit.py knobs                   parameters of each preset, by the figures below
python experiments/traces/fit.py check [LOADS.parquet]   figures of the presets, 512 requests, three seeds

The figures are those that arXiv 2510.05497 reports, and for the popularity of DeepSeek-V3 the recorded loads.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from wss.models import MODELS
from wss.traces.analysis.counts import count_trace
from wss.traces.analysis.fit import curve_of, fit
from wss.traces.analysis.statistics import statistics
from wss.traces.loads import read_loads
from wss.traces.synthetic.spec import SYNTHS, synth_meta, synthesise
from wss.traces.synthetic.tables import KNOTS, layer_shares

REPORTED = {
    "deepseek_v3": {"token_coverage": 0.47, "layer_coverage": 0.50, "pairs_top_10_percent_hold": 0.65},
    "qwen3_235b": {"token_coverage": 0.62, "layer_coverage": 0.65, "pairs_top_10_percent_hold": 0.70},
    "qwen3_235b_flat": {"layer_coverage": 0.65, "pairs_top_10_percent_hold": 0.70},  # its skew is chosen by flat.py
    "llama4_maverick": {"token_coverage": 0.80, "layer_coverage": 0.77, "same_adjacent": 0.33},
    "kimi_k2": {"token_coverage": 0.53, "layer_coverage": 0.56},
}
SPEARMAN = 0.8  # reported: 0.7 or more for most layers
SHOWN = (
    "token_coverage",
    "layer_coverage",
    "token_popularity",
    "spearman_frequency",
    "pairs_top_10_percent_hold",
    "max_over_mean",
    "max_over_mean_most",
    "entropy_share",
    "same_adjacent",
    "top_5_overlap",
    "top_10_overlap",
    "top_20_overlap",
)


def shares_of(loads: Path) -> np.ndarray:
    """Return the shares of all layers of all dumps, [dumps · layers, experts]."""
    return np.concatenate([dump.counts / dump.counts.sum(axis=1, keepdims=True) for dump in read_loads(loads)])


def curve(loads: Path) -> None:
    """Print knots with which the mean over layers of a synthetic trace's curve is the recorded one."""
    model, spec, wanted = MODELS["deepseek_v3"], SYNTHS["deepseek_v3"], np.array(curve_of(shares_of(loads)))
    knots = wanted
    for _ in range(6):
        made = np.stack([layer_shares(replace(spec, curve=tuple(knots)), model, 0, at) for at in range(58)])
        knots = knots + wanted - np.array(curve_of(made))
    print("ranks ", ", ".join(f"{knot:g}" for knot in KNOTS))
    print("curve ", ", ".join(f"{knot:.2f}" for knot in knots))


def knobs() -> None:
    """Print the fitted parameters."""
    for name, targets in REPORTED.items():
        found = fit(SYNTHS[name], MODELS[name.removesuffix("_flat")], {**targets, "spearman_frequency": SPEARMAN})
        print(name, {key: value for key, value in vars(found).items() if key != "curve"}, flush=True)


def check(loads: Path | None) -> None:
    """Print what the presets give."""
    print("| preset | seed | " + " | ".join(SHOWN) + " |")
    print("|---" * (len(SHOWN) + 2) + "|")
    for name in REPORTED:
        for seed in range(3):
            spec, model = replace(SYNTHS[name], requests=512), MODELS[name.removesuffix("_flat")]
            counts = count_trace(synth_meta(spec, model, seed), synthesise(spec, model, seed), {})
            found = statistics(counts)
            cells = ["-" if found["pooled"][key] is None else f"{found['pooled'][key]:.3f}" for key in SHOWN]
            print(f"| {name} | {seed} | " + " | ".join(cells) + " |", flush=True)
            if name == "llama4_maverick":
                print("  same experts by layer:", [f"{row['same_adjacent']:.2f}" for row in found["layers"]])
            if name == "deepseek_v3" and loads is not None:
                real, made = (-np.sort(-x, axis=1) for x in (shares_of(loads), counts.decode.freq))
                ratio = made.mean(axis=0) / made.mean() / (real.mean(axis=0) / real.mean())
                print(f"  rank-frequency curve over the recorded one: {ratio.min():.3f} to {ratio.max():.3f}")


if __name__ == "__main__":
    what, *paths = sys.argv[1:] or ["check"]
    {"curve": curve, "knobs": lambda _: knobs(), "check": check}[what](Path(paths[0]) if paths else None)
