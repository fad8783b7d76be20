"""Insights 1 and 2, each thing turned on and off alone: predictions, caching rules, both tiers of memory.

python experiments/prediction/run.py copies deepseek_v3     # one model, or all three
python experiments/prediction/run.py allocated
python experiments/prediction/run.py llc
WSS_SHARED=/data python experiments/prediction/run.py recorded
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from scipy.special import stdtrit

from wss.config import Experiment, load
from wss.execution import run

CONFIGS = Path(__file__).parents[2] / "configs"
MODELS = ("deepseek_v3", "qwen3_235b", "gpt_oss_20b")
STEPS = 16
ROOMS = (0.02, 0.1, 1.0)  # of all experts, that a die has room for copies of
SEEDS = (0, 1, 2, 3)
RECORDED = (
    ("llama4_maverick", "meta-llama__Llama-4-Maverick-17B-128E-Instruct__mmlu__anatomy.parquet"),
    ("gpt_oss_20b", "openai__gpt-oss-20b__mmlu_pro_test.parquet"),
)


def variants(preset: str) -> list[dict[str, str]]:
    """Return *preset*, a policy with the token heatmap and LRU, with one thing changed at a time."""
    changes = {
        "prediction always": {"prediction": "always"},
        "prediction prefill": {"prediction": "prefill_heatmap"},
        "prediction decaying": {"prediction": "decaying_heatmap"},
        "prediction oracle": {"prediction": "oracle"},
        "caching lfu": {"caching": "lfu"},
        "caching heatmap": {"caching": "heatmap"},
        "always, lfu": {"prediction": "always", "caching": "lfu"},
        "bound: always, belady": {"prediction": "always", "caching": "belady"},
    }
    named = [{"name": name, "preset": preset} | change for name, change in changes.items()]
    return [{"name": "heatmap, lru", "preset": preset}, *named]


def roomy(experiment: Experiment, share: float) -> str:
    """Return the setting that leaves a die room for copies of *share* of all experts of the layers that are run.

    Of a sample of layers, those that it stands for.
    """
    model, dies = experiment.model, math.prod(experiment.wafer.mesh)
    layers = len(model.moe_layers)
    expert = model.expert_bytes(experiment.precision)
    own = -(-model.num_experts // dies) * layers
    run_ = len(experiment.layers) if isinstance(experiment.layers, tuple) else layers
    buffers = experiment.batch * model.top_k * model.activation_bytes
    need = (own + math.ceil(share * run_ * model.num_experts)) * expert + buffers / dies * 4
    return f"wafer.die.hbm.size={need / 0.9:.0f} B"


def gains(config: str, settings: list[str], policies: list[Any], share: float | None, baseline: str) -> dict[str, Any]:
    """Run and return the summary of each policy."""
    listed = str([baseline, *policies]).replace("'", '"')
    settings = [*settings, f"steps={STEPS}", f"policies={listed}", f"baseline={baseline}"]
    path = CONFIGS / f"{config}.yaml"
    if share is not None:
        settings.append(roomy(load(path, settings), share))
    return {r["policy"]: r for r in run(load(path, settings)).to_dict()["runs"]}


def show(title: str, runs: dict[str, Any], baseline: str) -> None:
    """Print a row for each policy: gain over the baseline, and what moved."""
    print(f"\n{title}; gain in decode time over {baseline}, 95% interval of the layers drawn", flush=True)
    for name, r in runs.items():
        low, high = r["ci95"]["speedup"]
        fetched = f"{r['remote_reads'] / max(runs[baseline]['remote_reads'], 1):.3f}"
        print(
            f"{name:22} {r['speedup']:6.3f} ({low:.3f} to {high:.3f})  fetches {fetched}  "
            f"written {r['local_write_bytes'] / 1e9:8.1f} GB  given up {r['evictions']:6.0f}",
            flush=True,
        )


def copies(models: tuple[str, ...], preset: str, baseline: str, rooms: tuple[float, ...]) -> None:
    """Predictions and caching rules, one at a time, by room for copies."""
    for model in models:
        for share in rooms:
            runs = gains(model, ["layers={sample: 6}"], variants(preset), share, baseline)
            show(f"{model}, room for {100 * share:.0f}% of all experts", runs, baseline)


TIERS = [
    {"name": "ep", "preset": "ep"},
    {"name": "ep, popular", "preset": "ep", "prefetching": "popular"},
    {"name": "ep, layer heat", "preset": "ep", "prefetching": "layer_heatmap"},
    {"name": "HBM tier", "preset": "allo_pred", "caching": "heatmap"},
    {"name": "LLC tier", "preset": "allo", "prefetching": "layer_heatmap"},
    {"name": "LLC tier, popular", "preset": "allo", "prefetching": "popular"},
    {"name": "both tiers", "preset": "cross_hierarchy"},
]


def llc(models: tuple[str, ...], batches: tuple[int, ...] = (16, 4096)) -> None:
    """Prefetching into the LLC, by what; four neighbouring layers, several seeds."""
    for model in models:
        for batch in batches:
            precision = "fp8" if model == "deepseek_v3" else "fp16"
            layers = [7, 8, 9, 10]
            settings = [f"layers={layers}", f"precision={precision}", f"batch={batch}"]
            settings += [f"trace.synth.preset={model}", f"trace.synth.requests={batch}"]
            found: dict[str, list[float]] = {}
            moved: dict[str, list[str]] = {}
            for seed in SEEDS:
                runs = gains(model, [*settings, f"seed={seed}"], TIERS, 0.1, "allo")
                pairs = [(name, "ep" if name.startswith("ep") else "allo") for name in runs]
                for name, over in [*pairs, ("both tiers", "HBM tier"), ("both tiers", "LLC tier")]:
                    gain = runs[over]["decode_time_s"] / runs[name]["decode_time_s"]
                    found.setdefault(f"{name} over {over}", []).append(gain)
                moved = {
                    name: [f"{r[key] / 1e9:.1f}" for key in ("prefetched_bytes", "llc_hit_bytes", "local_write_bytes")]
                    for name, r in runs.items()
                }
            print(f"\n{model} {precision}, batch {batch}; gain, 95% interval over {len(SEEDS)} seeds", flush=True)
            for name, values in found.items():
                half = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / math.sqrt(len(values))
                print(f"{name:28} {mean(values):6.3f} ± {half:.3f}", flush=True)
            for name, (ahead, hit, written) in moved.items():
                print(f"{name:18} read ahead {ahead:>7} GB, hit in LLCs {hit:>7} GB, copies written {written:>7} GB")


def recorded() -> None:
    """The same on recorded routing, which is not shipped."""
    shared = Path(os.environ.get("WSS_SHARED", CONFIGS.parents[1] / "shared")) / "traces" / "parquet"
    for model, name in RECORDED:
        if not (shared / name).exists():
            print(f"{shared / name} is absent: recorded routing is not shipped; set WSS_SHARED to its folder")
            continue
        trace = f"trace={{path: {shared / name}, order: mixed}}"
        for preset, baseline, batch in (("pred", "base", 128), ("allo_pred", "allo", 4096)):
            settings = [trace, f"batch={batch}", "layers={sample: 8}"]
            runs = gains(model, settings, variants(preset), 0.02, baseline)
            show(f"recorded {model}, batch {batch}, room for 2% of all experts", runs, baseline)


def main(part: str, *models: str) -> None:
    """Run one part of the experiment."""
    chosen = models or MODELS
    if part == "copies":
        copies(chosen, "pred", "base", ROOMS)
    elif part == "allocated":
        copies(chosen, "allo_pred", "allo", ROOMS[:2])
    elif part == "llc":
        llc(chosen)
    elif part == "recorded":
        recorded()
    else:
        sys.exit(f"{part}: is no part; give copies, allocated, llc or recorded")


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["copies"]))
