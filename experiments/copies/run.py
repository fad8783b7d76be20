"""What the predictor gains from room for its copies: Pred over Base against HBM size and decode steps.

python experiments/copies/run.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from wss.config import load
from wss.execution import run

CONFIG = Path(__file__).parents[2] / "configs" / "llama4_maverick.yaml"


def main(steps: int = 16, sizes: tuple[int, ...] = (80, 160, 320, 1280)) -> None:
    """Print a table: HBM of a die, copies it can hold of all experts, and the speedup of Pred and Allo+Pred."""
    print("HBM a die   room for copies   pred   allo_pred   evictions")
    for size in sizes:
        settings = [f"wafer.die.hbm.size={size} GB", f"steps={steps}", "policies=[base, pred, allo_pred]"]
        experiment = load(CONFIG, settings)
        runs = {r["policy"]: r for r in run(experiment).to_dict()["runs"]}
        model = experiment.model
        room = 0.9 * size * 1e9 - model.weight_bytes("fp16") / 25
        share = room / model.weight_bytes("fp16")
        print(
            f"{size:6d} GB   {100 * min(share, 1):13.1f}%   {runs['pred']['speedup']:4.2f}   "
            f"{runs['allo_pred']['speedup']:9.2f}   {runs['pred']['evictions']:9d}"
        )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
