"""How far planners are from the relaxed optimum (`lp_bound.py`) on layer runs small enough to solve.

    python experiments/policies/yardstick.py

3 x 3 dies of `dojo`, 16 experts of DeepSeek-V3's size in FP16, top-2, made-up routing of the given skew, both GEMM
models. Each layer run is simulated under each policy, and its time divided by the optimum of its linear programme. As
that knows nothing of tiles, windows and order, no plan need be able to reach it. Printed are the mean over layer runs
with the 95% interval of its mean over seeds, and the worst layer run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from lp_bound import relaxed_optimum
from scipy.stats import t as student

from wss.config import Experiment, load
from wss.execution import run
from wss.policies import Allocation, LayerView
from wss.records import Plan

POLICIES = ("ep", "allo", "balanced")
BATCHES = (64, 512, 4096, 16384)
SEEDS = range(8)
CONFIG = """\
model: {name: small, num_layers: 2, moe_layers: [0, 1], num_experts: 16, top_k: 2,
  hidden_size: 7168, moe_intermediate_size: 2048}
wafer: {preset: dojo, mesh: [3, 3]}
trace: {synth: {prompt_max: 8, decode_tokens: 3}}
steps: 3
policies: [ep, allo, balanced]
baseline: ep
"""


@dataclass(frozen=True, eq=False)
class Watched(Allocation):
    """Allocates as another, and notes the relaxed optimum of every layer run."""

    like: Allocation
    optima: list[float]

    def allocate(self, view: LayerView) -> Plan:
        """Return the other's plan."""
        self.optima.append(relaxed_optimum(view))
        return self.like.allocate(view)


def ratios(experiment: Experiment) -> dict[str, np.ndarray]:
    """Return time over optimum of every decode layer run, by policy; without copies, policies see the same runs."""
    optima: list[float] = []
    watched = replace(experiment.policies[0], allocation=Watched(experiment.policies[0].allocation, optima))
    result = run(replace(experiment, policies=(watched, *experiment.policies[1:])))
    rows = {ledger.policy: [row for row in ledger.rows if row.phase == "decode"] for ledger in result.ledgers}
    least = np.array(optima[-len(rows["ep"]) :])  # the prefill's come first
    return {policy: np.array([row.time_s for row in own]) / least for policy, own in rows.items()}


def rows_of(path: Path) -> Iterator[str]:
    """Yield the table."""
    for gemm in ("ideal", "h800"):
        for skew in (0.5, 2.0):
            for batch in BATCHES:
                settings = [
                    f"gemm={gemm}",
                    f"batch={batch}",
                    f"trace.synth.requests={batch}",
                    f"trace.synth.skew={skew}",
                ]
                runs = [ratios(load(path, [*settings, f"seed={seed}"])) for seed in SEEDS]
                cells = []
                for policy in POLICIES:
                    means = np.array([found[policy].mean() for found in runs])
                    half = student.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means))
                    worst = max(found[policy].max() for found in runs)
                    cells.append(f"{means.mean():.2f} ± {half:.2f}, {worst:.2f}")
                yield f"| {gemm} | {skew:g} | {batch:,} | {' | '.join(cells)} |"


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        config = Path(folder) / "small.yaml"
        config.write_text(CONFIG, encoding="utf-8")
        print("| GEMM | skew | batch | " + " | ".join(POLICIES) + " |\n|" + "---|" * (3 + len(POLICIES)))
        for line in rows_of(config):
            print(line, flush=True)
