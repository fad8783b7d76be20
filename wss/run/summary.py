"""summary.json: the figures of every policy, and where they came from."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

from wss import __version__
from wss.config import Experiment
from wss.hardware import Wafer
from wss.metrics import summarise
from wss.run.artifact import ArtifactSite
from wss.run.batch import Batch
from wss.run.site import Site
from wss.traces import Kernels


def summary_of(
    experiment: Experiment,
    batch: Batch,
    replay: Kernels,
    sites: list[Site] | list[ArtifactSite],
    wafer: Wafer,
    notes: tuple[str, ...],
    times: dict[str, Any],
) -> dict[str, Any]:
    """Put together summary.json."""
    all_layers = experiment.layers_run == experiment.model.moe_layers
    tokens = sum(replay.tokens(step) for step in range(1, batch.steps + 1)) if all_layers else None
    figures = {site.ledger.policy: summarise(site.ledger, wafer, tokens) for site in sites}
    is_artifact = experiment.physics == "paper_artifact"
    if is_artifact:
        for site in sites:
            own = figures[site.ledger.policy]
            own["decode_hops"] = own["hops"]
            own["hops"] += own["prefill_hops"]  # their count is over all steps
            own["throughput_paper_tokens_per_s"] = experiment.batch * 128 / own["decode_time_s"]
            own["hbm_excess_bytes"] = max(0.0, site.excess_bytes)
    baseline = figures[experiment.baseline]["decode_time_s"]
    common = {
        "model": experiment.model.name,
        "wafer": experiment.wafer.name,
        "physics": experiment.physics,
        "network": "circuit" if is_artifact else experiment.network_kind,
        "gemm": "paper_artifact" if is_artifact else experiment.gemm,
        "precision": experiment.precision,
        "synthetic": batch.meta.synthetic,
        "batch": experiment.batch,
        "unique_requests": batch.num_requests,
        "layers_run": len(replay.layers),
        "steps_run": batch.steps,
        "baseline": experiment.baseline,
    }
    runs = [{"policy": name, **common, "speedup": baseline / f["decode_time_s"], **f} for name, f in figures.items()]
    packages = ("networkx", "numba", "numpy", "pyarrow", "simpy")
    return {
        "schema": "wss-summary/1",
        "provenance": {
            "version": __version__,
            "config": experiment.plain(),
            "seed": experiment.seed,
            "trace": {
                "sha256": batch.digest,
                "model": batch.meta.model,
                "source": batch.meta.source,
                "note": batch.meta.note,
            },
            "notes": list(notes),
            "host": {
                "python": platform.python_version(),
                "platform": platform.platform(),
                "packages": {name: version(name) for name in packages},
            },
            "times": times,
        },
        "runs": runs,
    }
