"""How much of a speedup is the network model's: the paper's policies under five networks, one model after another.

python experiments/networks/run.py
"""

from __future__ import annotations

from pathlib import Path

from wss.config import load
from wss.execution import run

CONFIGS = Path(__file__).parents[2] / "configs"
MODELS = {"deepseek_v3": "fp16", "qwen3_235b": "fp16", "llama4_maverick": "fp16", "kimi_k2": "fp8"}
NETWORKS = {
    "fluid": ["network=fluid"],
    "packet, 8 x 1 MiB": ["network={kind: packet, chunk: 1 MiB, window: 8}"],
    "circuit, full duplex": ["network=circuit"],
    "circuit, half duplex": ["network={kind: circuit, duplex: half}"],
    "paper": ["physics=paper", "precision=fp16"],
}
POLICIES = ("ep", "pred", "allo", "allo_pred")


def main(num_layers: int = 6) -> None:
    """Print, for each model and network, base's step time and the speedups over it, on evenly spaced layers."""
    print(f"{'model':16} {'network':21} {'base':>9}  " + "  ".join(f"{p:>9}" for p in POLICIES))
    for model, precision in MODELS.items():
        path = CONFIGS / f"{model}.yaml"
        moe = load(path).model.moe_layers
        layers = [moe[i * (len(moe) - 1) // (num_layers - 1)] for i in range(num_layers)]
        for network, settings in NETWORKS.items():
            experiment = load(path, [f"precision={precision}", "steps=2", f"layers={layers}", *settings])
            runs = {r["policy"]: r for r in run(experiment).to_dict()["runs"]}
            speedups = "  ".join(f"{runs[p]['speedup']:8.2f}x" for p in POLICIES)
            print(f"{model:16} {network:21} {1e3 * runs['base']['step_time_mean_s']:6.2f} ms  {speedups}", flush=True)


if __name__ == "__main__":
    main()
