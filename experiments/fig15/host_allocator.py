"""What it costs to allocate on the host CPU: routing up and plan down over PCIe for every layer.

python experiments/fig15/host_allocator.py
"""

from __future__ import annotations

from pathlib import Path

from wss.config import load
from wss.run import run

CONFIGS = Path(__file__).parents[2] / "configs"
PCIE = 64e9  # B/s each way, PCIe 5.0 x16 (PCI-SIG)
ROUND_TRIPS = (2e-6, 10e-6, 20e-6)  # s: the bus alone; a copy each way; with a kernel's launch and the driver
TASK_BYTES = 8  # expert, die, tokens
BATCHES = (4096, 16384)


def main(steps: int = 4, num_layers: int = 6) -> None:
    """Print, for wafer, model and batch, the mean MoE kernel of allo_pred and by how much PCIe makes it longer."""
    trips = "  ".join(f"{1e6 * trip:7.0f} us" for trip in ROUND_TRIPS)
    print(f"{'wafer':14} {'model':12} {'batch':>6} {'kernel':>9} {'bytes':>9}   longer with a round trip of {trips}")
    for wafer in ("dojo", "dojo_enhanced"):
        for model in ("deepseek_v3", "qwen3_235b"):
            path = CONFIGS / f"{model}.yaml"
            moe = load(path).model.moe_layers
            layers = [moe[i * (len(moe) - 1) // (num_layers - 1)] for i in range(num_layers)]
            for batch in BATCHES:
                settings = [f"wafer={wafer}", f"batch={batch}", f"trace.synth.requests={batch}"]
                settings += [f"steps={steps}", f"layers={layers}", "policies=[allo_pred]", "baseline=allo_pred"]
                experiment = load(path, settings)
                found = run(experiment)
                (own,) = found.summary["runs"]
                kernel = own["decode_time_s"] / own["kernels"]
                tasks = sum(row.tasks for row in found.ledgers[0].rows) / len(found.ledgers[0].rows)
                nbytes = batch * experiment.model.top_k * 2 + tasks * TASK_BYTES
                longer = "  ".join(f"{100 * (trip + nbytes / PCIE) / kernel:+9.1f}%" for trip in ROUND_TRIPS)
                print(
                    f"{wafer:14} {model:12} {batch:6} {1e6 * kernel:6.0f} us {nbytes / 1024:5.0f} KiB{'':32}{longer}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
