"""summary.json: the figures of every policy, and their provenance."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from wss import __version__
from wss.config import Experiment
from wss.config.dependencies import outside_of
from wss.hardware import Wafer
from wss.metrics import Ledger, Totals, summarise
from wss.metrics.figures import Value
from wss.metrics.sampling import Sample
from wss.serving.moe_layer import MoeLayerExecutor
from wss.serving.paper_layer import PaperLayer
from wss.traces import RoutingSource
from wss.workload.request import Batch

SCHEMA = "wss-summary/2"


def summary_of(
    experiment: Experiment,
    batch: Batch,
    replay: RoutingSource,
    executors: Sequence[MoeLayerExecutor | PaperLayer],
    wafer: Wafer,
    notes: tuple[str, ...],
    times: dict[str, Any],
    sample: Sample | None = None,
) -> dict[str, Any]:
    """Return summary.json of one seed; with a *sample* of the layers, figures are estimates for all layers."""
    is_paper = experiment.physics == "paper"
    common = {
        "model": experiment.model.name,
        "wafer": experiment.wafer.name,
        "physics": experiment.physics,
        "network": "circuit" if is_paper else experiment.network_kind,
        "gemm": "paper" if is_paper else experiment.gemm,
        "precision": str(experiment.precision),
        "synthetic": batch.meta.synthetic,
        "batch": experiment.batch,
        "unique_requests": batch.num_requests,
        "layers_run": len(replay.layers),
        "layers_total": len(experiment.model.moe_layers),
        "steps_run": batch.steps,
        "baseline": experiment.baseline,
        **({} if sample is None else {"layers_sampled": list(sample.layers)}),
    }
    for executor in executors:
        executor.ledger.sample, executor.ledger.placement_correlation = sample, executor.placement_correlation
        executor.ledger.excess_bytes = executor.excess_bytes if is_paper else None
    figures = _figures(experiment, [executor.ledger for executor in executors], wafer, batch, replay)
    runs = [{"policy": policy, **common, **_row(own)} for policy, own in figures.items()]
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


def _figures(
    experiment: Experiment, ledgers: Sequence[Ledger], wafer: Wafer, batch: Batch, replay: RoutingSource
) -> dict[str, dict[str, Value]]:
    """Return the figures of each policy."""

    def totals(ledger: Ledger, baseline: Totals | None) -> Totals:
        return Totals(
            ledger=ledger,
            wafer=wafer,
            tokens=sum(replay.tokens(step) for step in range(1, batch.steps + 1)),
            batch=experiment.batch,
            layers_total=len(experiment.model.moe_layers),
            baseline=baseline,
        )

    baseline = next(totals(ledger, None) for ledger in ledgers if ledger.policy == experiment.baseline)
    every = [baseline if ledger is baseline.ledger else totals(ledger, baseline) for ledger in ledgers]
    return {own.ledger.policy: summarise(own) for own in every}


def _row(figures: dict[str, Value]) -> dict[str, Any]:
    """Return figures as in summary.json."""
    intervals = {name: list(figure.layers) for name, figure in figures.items() if figure.layers}
    row = {name: figure.value for name, figure in figures.items()}
    return row | ({"ci95": intervals} if intervals else {})
