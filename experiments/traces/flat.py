"""Which skew of Qwen3's popularity meets what the paper says of its load balance; the flat preset's other parameters.

    python experiments/traces/flat.py

The paper says that EP is about as fast as Allo+Pred at batch 4,096, that the slowest of eight GPUs takes about 1.3
times what the fastest takes under Default, and that Remap gains at most 1.25x. Printed are, for each skew and for the
preset that is fitted to coverage: Allo+Pred over EP under the paper's physics (16 steps, 8 sampled layers, seed 0),
most over least of the GPUs' tokens and times at batch 4,096 (first decode step, mean over layers and seeds), and what
Remap gains (2 steps, 12 sampled layers, mean over seeds).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import numpy as np

from wss.config import load, load_synth
from wss.execution import run
from wss.hardware import WAFERS
from wss.models import MODELS
from wss.traces.synthetic.spec import synthesise

CONFIG = Path(__file__).parents[2] / "configs" / "qwen3_235b.yaml"
MODEL = MODELS["qwen3_235b"]
SKEWS = (0.6, 0.7, 0.8, 0.9, 1.0)
SEEDS = (0, 1, 2)
GPUS = 8
BATCH = 4096
EFFICIENCY = 0.8  # of the GPU's peaks, of reading and of computing alike


def routings() -> Iterator[tuple[str, list[str]]]:
    """Give each routing's name and the settings that make it."""
    for skew in SKEWS:
        yield f"skew {skew:g}", ["preset=qwen3_235b_flat", f"skew={skew}"]
    yield "`qwen3_235b`, skew 1.58", ["preset=qwen3_235b"]


def gain(settings: list[str], batch: int, more: list[str], policy: str) -> float:
    """Return how many times as fast as EP *policy* is, estimated for all layers."""
    trace = ", ".join(setting.replace("=", ": ") for setting in settings)
    made = f"trace={{synth: {{{trace}, requests: {batch}}}}}"
    result = run(load(CONFIG, [made, f"batch={batch}", f"policies=[ep, {policy}]", "baseline=ep", *more]))
    (found,) = (row for row in result.to_dict()["runs"] if row["policy"] == policy)
    return float(found.get("estimate", found)["speedup"])


def imbalance(settings: list[str], seed: int) -> tuple[float, float]:
    """Return most over least of the GPUs' tokens, and of their times by a roofline, means over layers."""
    preset, *changes = settings
    spec = load_synth(preset.partition("=")[2], [*changes, f"requests={BATCH}"])
    tokens = np.zeros((len(MODEL.moe_layers), MODEL.num_experts))
    for request in synthesise(spec, MODEL, seed, decode_tokens=1):
        np.add.at(tokens, (np.arange(len(tokens))[:, None], request.experts[-1]), 1)
    die = WAFERS["h100_nvl8"].die
    read = MODEL.expert_bytes("fp16") / die.hbm.bandwidth / EFFICIENCY
    token = 6 * MODEL.hidden_size * MODEL.moe_intermediate_size / die.flops["fp16"] / EFFICIENCY
    times = np.where(tokens > 0, np.maximum(read, tokens * token), 0)
    by_gpu = [x.reshape(len(x), GPUS, -1).sum(axis=2) for x in (tokens, times)]
    of_tokens, of_times = (float((x.max(axis=1) / x.min(axis=1)).mean()) for x in by_gpu)
    return of_tokens, of_times


def main() -> None:
    """Print the table."""
    print(
        "| routing | Allo+Pred / EP at 4,096: Dojo, SoW | at 16,384 | tokens of GPUs, most / least | times | "
        "Remap / Default at 4,096, 16,384 |"
    )
    print("|---" * 6 + "|")
    for name, settings in routings():
        wafers = [
            gain(
                settings,
                batch,
                ["physics=paper", f"wafer={wafer}", "steps=16", "layers={sample: 8}"],
                "allo_pred",
            )
            for batch in (BATCH, 4 * BATCH)
            for wafer in ("dojo", "tsmc_sow")
        ]
        of_tokens, of_times = (mean(values) for values in zip(*(imbalance(settings, s) for s in SEEDS), strict=True))
        remap = [
            mean(
                gain(settings, batch, ["wafer=h100_nvl8", "steps=2", "layers={sample: 12}", f"seed={seed}"], "remap")
                for seed in SEEDS
            )
            for batch in (BATCH, 4 * BATCH)
        ]
        print(
            f"| {name} | {wafers[0]:.2f}, {wafers[1]:.2f} | {wafers[2]:.2f}, {wafers[3]:.2f} | {of_tokens:.2f} | "
            f"{of_times:.2f} | {remap[0]:.2f}, {remap[1]:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
