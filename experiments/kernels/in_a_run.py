"""Compare layers that one die runs (`gemm: measured`) with the measured layer that they are made of.

    python experiments/kernels/in_a_run.py     # ten seconds

The die holds all experts of a layer of Qwen3-235B. The layer's tokens are spread evenly over its active experts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wss.config import load
from wss.execution import run
from wss.hardware.kernels import of_die
from wss.hardware.kernels.moe_layer import moe_layer_s
from wss.hardware.layer_overhead import OVERHEADS
from wss.models.precision import peak_of

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "qwen3_235b.yaml"
ONE_DIE = "wafer={preset: dojo, mesh: [1, 1], die: {hbm: {size: 1 TB}}}"
BATCHES = (16, 64, 256, 1024, 4096, 16384)


def difference(precision: str, batch: int) -> float:
    """Return the time of a layer run of *batch* tokens over that of the measured layer, less one."""
    settings = [ONE_DIE, "policies=[ep]", "baseline=ep", "gemm=measured", "layers=[3]", "steps=1"]
    experiment = load(CONFIG, [*settings, f"precision={precision}", f"batch={batch}"])
    (row,) = [row for row in run(experiment).ledgers[0].rows if row.step == 1]
    model, layer = experiment.model, OVERHEADS[peak_of(experiment.precision)]
    tokens = np.zeros((1, model.num_experts))
    tokens[0, : row.active_experts] = row.tokens / row.active_experts
    sizes = (model.hidden_size, model.moe_intermediate_size, row.tokens / model.top_k)
    return row.time_s / float(moe_layer_s(layer, of_die(experiment.wafer.die), tokens, *sizes)[0]) - 1


if __name__ == "__main__":
    for precision in ("fp8", "bf16"):
        print(precision, *(f"{batch}: {difference(precision, batch):+.1%}" for batch in BATCHES))
