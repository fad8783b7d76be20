"""Many experiments over one routing: the trace is read or generated once, and all experiments run in lockstep."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from wss import hardware
from wss.config import Experiment
from wss.config.experiment import LayerSample
from wss.execution.layers import draw_layers
from wss.execution.memory_use import check_memory
from wss.execution.replications import Progress, by_seed, part_of
from wss.execution.result import merged, policy_results
from wss.execution.runner import (
    Executor,
    build_executors,
    build_routing_history,
    counts_tokens,
    notes_of,
    open_routing,
    open_stream,
)
from wss.metrics import Ledger
from wss.metrics.figures import plain
from wss.metrics.sampling import Sample
from wss.report.policy_result import PolicyResult
from wss.report.tables import link_columns, mean_columns
from wss.serving.placement import RoutingHistory


def check(experiment: Experiment) -> None:
    """Check that *experiment* can be run, without running it.

    Raises
    ------
    WssError
        If its weights do not fit, its faults disconnect the wafer, or its physics does not support a setting.
    """
    tried(experiment)


def tried(experiment: Experiment) -> tuple[hardware.Wafer, Sequence[Executor]]:
    """Return wafer and executors of *experiment* with all MoE layers, without running them; raise as `check` does."""
    everything = replace(experiment, layers="all") if isinstance(experiment.layers, LayerSample) else experiment
    check_memory(experiment, experiment.policies)
    wafer = hardware.build(experiment.wafer, experiment.faults)
    return wafer, build_executors(everything, wafer, list(experiment.policies), RoutingHistory(everything, None))


def simulate(experiments: Sequence[Experiment], progress: Progress) -> list[dict[str, Any]]:
    """Run *experiments*, each with one policy, that share model, trace, batch, steps, layers, seeds and physics.

    Returns
    -------
    list of dict
        For each experiment: ``figures``, as in summary.json except baseline and speedup; ``seeds``, what a speedup
        needs of each seed (decode time and, if layers are sampled, the strata and the time of each layer); ``links``,
        columns with a value per link, means over seeds; ``notes``; and ``times``, the only part that depends on the
        host.
    """
    parts = list(zip(*map(by_seed, experiments), strict=True))
    results = [_simulate(part, part_of(progress, number, len(parts))) for number, part in enumerate(parts)]
    return [_task(own) for own in zip(*results, strict=True)]


def _task(results: Sequence[tuple[PolicyResult, tuple[str, ...], dict[str, Any]]]) -> dict[str, Any]:
    """Return the result of one experiment from the results, notes and times of its seeds."""
    run, times = merged([result for result, _, _ in results]), [each for _, _, each in results]
    row = plain(run.figures)
    for intervals in (row.get("ci95", {}), row.get("ci95_seeds", {})):
        intervals.pop("speedup", None)
    return {
        "figures": {name: value for name, value in row.items() if name not in ("policy", "speedup", "baseline")},
        "seeds": [
            {"decode_time_s": result.figures["decode_time_s"].value, "sampled": _sampled(result.ledgers[0])}
            for result, _, _ in results
        ],
        "links": mean_columns([link_columns(ledger, run.wafer) for ledger in run.ledgers]),
        "notes": list(dict.fromkeys(note for _, notes, _ in results for note in notes)),
        "times": {**times[0], **{key: sum(each[key] for each in times) for key in ("kernels_cpu_s", "trace_cpu_s")}},
    }


def _simulate(
    experiments: Sequence[Experiment], progress: Progress
) -> list[tuple[PolicyResult, tuple[str, ...], dict[str, Any]]]:
    """Run *experiments*, all with one seed."""
    began = time.process_time()
    asked = experiments
    experiments, sample = _draw(asked)
    wafers = [hardware.build(experiment.wafer, experiment.faults) for experiment in experiments]
    policies = [experiment.policies[0] for experiment in experiments]
    seen = build_routing_history(experiments[0])
    executors: list[Executor] = [
        executor
        for experiment, wafer in zip(experiments, wafers, strict=True)
        for executor in build_executors(experiment, wafer, list(experiment.policies), seen)
    ]
    batch, stream = open_stream(experiments[0], policies, routed=any(map(counts_tokens, experiments)))
    total = stream.num_layer_runs * len(executors)
    spent = [0.0] * len(executors)
    done = 0
    for layer_run in stream.layer_runs():
        for at, executor in enumerate(executors):
            start = time.process_time()
            executor.run(layer_run)
            spent[at] += time.process_time() - start
            done += 1
            progress("simulating", done, total)
    shared = (time.process_time() - began - sum(spent)) / len(executors)
    results = []
    for experiment, executor, wafer, seconds in zip(asked, executors, wafers, spent, strict=True):
        notes = notes_of(experiment, wafer, batch, stream, [executor])
        (run,) = policy_results(experiment, batch, stream, [executor], wafer, sample)
        times = {"kernels_cpu_s": seconds, "trace_cpu_s": shared, "planning": executor.planning}
        results.append((run, notes, times))
    return results


def _draw(experiments: Sequence[Experiment]) -> tuple[list[Experiment], Sample | None]:
    """Draw the sample of layers, if one is configured; it is common to all experiments, as they share the routing."""
    first, sample = draw_layers(experiments[0], open_routing)
    return [replace(experiment, layers=first.layers) for experiment in experiments], sample


def _sampled(ledger: Ledger) -> dict[str, Any] | None:
    """Return the strata and the time of each layer, for a speedup over another result with the same sample."""
    if ledger.sample is None:
        return None
    by_layer = {layer: 0.0 for layer in ledger.sample.layers}
    for row in ledger.decode:
        by_layer[row.layer] += row.time_s
    return {"strata": [asdict(stratum) for stratum in ledger.sample.strata], "decode_time_s": list(by_layer.values())}
