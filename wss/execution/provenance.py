"""summary.json: the figures of every policy, and their provenance."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from wss import __version__
from wss.config import Experiment
from wss.config.dependencies import outside_of
from wss.hardware import Wafer
from wss.metrics import Ledger, summarise
from wss.metrics.by_layer import Figure, by_layer, link_utilization
from wss.metrics.sampling import Sample
from wss.metrics.summary import name_link
from wss.serving.moe_layer import MoeLayerExecutor
from wss.serving.paper_layer import PaperLayer
from wss.serving.routing_stream import RoutingStream
from wss.workload.fixed_batch import FixedBatch

SCHEMA = "wss-summary/2"


def summary_of(
    experiment: Experiment,
    batch: FixedBatch,
    stream: RoutingStream,
    executors: Sequence[MoeLayerExecutor | PaperLayer],
    wafer: Wafer,
    notes: tuple[str, ...],
    times: dict[str, Any],
    sample: Sample | None = None,
) -> dict[str, Any]:
    """Return summary.json of one seed; with a *sample* of the layers, figures are estimates for all layers."""
    all_layers = len(stream.layers) == len(experiment.model.moe_layers)
    tokens = sum(count for step, count in stream.schedule.tokens.items() if step > 0)
    figures = {
        executor.ledger.policy: summarise(executor.ledger, wafer, tokens if all_layers else None)
        for executor in executors
    }
    for executor in executors:
        figures[executor.ledger.policy]["placement_load_correlation"] = executor.placement_correlation
    is_artifact = experiment.physics == "paper"
    if is_artifact:
        for executor in executors:
            own = figures[executor.ledger.policy]
            own["throughput_paper_tokens_per_s"] = experiment.batch * 128 / own["decode_time_s"]
            own["hbm_excess_bytes"] = max(0.0, executor.excess_bytes)
    baseline = figures[experiment.baseline]["decode_time_s"]
    common = {
        "model": experiment.model.name,
        "wafer": experiment.wafer.name,
        "physics": experiment.physics,
        "network": "circuit" if is_artifact else experiment.network_kind,
        "gemm": "paper" if is_artifact else experiment.gemm,
        "precision": str(experiment.precision),
        "synthetic": batch.meta.synthetic,
        "batch": experiment.batch,
        "unique_requests": stream.schedule.num_requests,
        "layers_run": len(stream.layers),
        "layers_total": len(experiment.model.moe_layers),
        "steps_run": batch.steps,
        "baseline": experiment.baseline,
    }
    if sample is not None:
        common["layers_sampled"] = list(sample.layers)
        for name, estimates in _estimates(
            experiment, [executor.ledger for executor in executors], wafer, sample, tokens
        ).items():
            figures[name].update(estimates)
    runs = [{"policy": name, **common, "speedup": baseline / f["decode_time_s"], **f} for name, f in figures.items()]
    packages = ("networkx", "numba", "numpy", "pyarrow", "simpy")
    return {
        "schema": SCHEMA,
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
            **({"outside": outside} if (outside := dict(sorted(outside_of(experiment)))) else {}),
            **({"dead": dead} if (dead := _dead(wafer)) else {}),
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


def _dead(wafer: Wafer) -> dict[str, Any]:
    """Return the dead dies of *wafer*, and the dead links between live dies; empty if nothing is dead."""
    dies, links = wafer.dead_dies, wafer.dead_links
    if not dies and not links:
        return {}
    return {"dies": [list(die) for die in dies], "links": [[list(a), list(b)] for a, b in links]}


def _estimates(
    experiment: Experiment, ledgers: list[Ledger], wafer: Wafer, sample: Sample, tokens: int
) -> dict[str, dict[str, Any]]:
    """Return, for each policy, estimates for all layers with their 95% intervals."""
    all_layers = len(experiment.model.moe_layers)
    by_policy = {ledger.policy: by_layer(ledger, wafer, sample, all_layers, tokens) for ledger in ledgers}
    baseline = by_policy[experiment.baseline]["decode_time_s"].above
    found: dict[str, dict[str, Any]] = {}
    for ledger in ledgers:
        own = by_policy[ledger.policy]
        time = own["decode_time_s"].above
        if experiment.physics == "paper":
            own["throughput_paper_tokens_per_s"] = Figure(np.full(len(time), experiment.batch * 128 / all_layers), time)
        estimates = {"speedup": sample.speedup(baseline, time)}
        estimates |= {key: sample.estimate(*figure) for key, figure in own.items()}
        used = link_utilization(ledger, wafer, sample)
        found[ledger.policy] = {
            **{key: value for key, (value, _, _) in estimates.items()},
            "busiest_link": name_link(wafer, int(used.argmax())) if used.any() else None,
            "ci95": {key: [low, high] for key, (_, low, high) in estimates.items()},
        }
    return found
