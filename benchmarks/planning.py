"""CPU milliseconds that each preset's planning takes a layer run: what would have to be found beside the GPUs' work.

    python benchmarks/planning.py [POLICY ...]

DeepSeek-V3, 256 experts of top-8 on 5 x 5 dies, three layers of two steps and the prefill, batches of 256, 4,096 and
16,384 requests. Printed are the placement, once for all 58 layers, and of a layer run the median, the largest, and the
medians of the parts, from call to return (`wss.serving.policy_host`). A small run goes first, so that nothing is
compiled in those measured. The aim is 5 ms a layer run; a row above it is marked.
"""

from __future__ import annotations

import sys
from pathlib import Path

from wss.config import load
from wss.execution import run
from wss.policies import POLICIES

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "deepseek_v3.yaml"
BATCHES = (256, 4096, 16384)
MOST_S = 5e-3


def costs(policies: list[str], batch: int) -> dict[str, dict]:
    """Return what planning took in a run of *policies*, by policy."""
    settings = [f"policies=[{', '.join(policies)}]", f"baseline={policies[0]}", f"batch={batch}", "steps=2"]
    experiment = load(CONFIG, [*settings, f"trace.synth.requests={batch}", "layers=[3, 30, 60]"])
    return run(experiment).to_dict()["provenance"]["times"]["planning"]


def main(policies: list[str]) -> None:
    """Print a row for each policy and batch."""
    unknown = set(policies) - set(POLICIES)
    if unknown:
        sys.exit(f"no policy {', '.join(sorted(unknown))}; give some of {', '.join(POLICIES)}")
    policies = policies or list(POLICIES)
    costs(policies, 64)
    print("CPU ms             batch  placement   median  largest  parts, medians", flush=True)
    for batch in BATCHES:
        for name, cost in costs(policies, batch).items():
            parts = ", ".join(f"{part} {1e3 * seconds:.2f}" for part, seconds in cost["parts_median_cpu_s"].items())
            mark = "  ABOVE 5 ms" if cost["median_cpu_s"] > MOST_S else ""
            figures = [1e3 * cost[key] for key in ("placement_cpu_s", "median_cpu_s", "largest_cpu_s")]
            print(
                f"{name:16} {batch:7,} {figures[0]:10.1f} {figures[1]:8.2f} {figures[2]:8.2f}  {parts}{mark}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
