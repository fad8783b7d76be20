"""Many experiments over one routing: the trace is read or generated once, and all experiments run in lockstep."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from wss import hardware
from wss.config import Experiment
from wss.config.experiment import LayerSample
from wss.execution.layers import draw_layers
from wss.execution.memory_use import check_memory
from wss.execution.provenance import summary_of
from wss.execution.replications import Progress, by_seed, part_of
from wss.execution.runner import (
    Executor,
    build_executors,
    build_routing_history,
    counts_tokens,
    notes_of,
    open_routing,
    open_stream,
)
from wss.metrics.by_layer import link_utilization
from wss.metrics.replications import over_seeds
from wss.metrics.sampling import Sample
from wss.metrics.summary import name_link
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
    return results[0] if len(parts) == 1 else [_over_seeds(own) for own in zip(*results, strict=True)]


def _over_seeds(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return one result from those of several seeds."""
    links, times = [result["links"] for result in results], [result["times"] for result in results]
    return {
        "figures": over_seeds([result["figures"] for result in results]),
        "seeds": [seed for result in results for seed in result["seeds"]],
        "links": {
            name: np.mean([each[name] for each in links], axis=0).tolist() if _is_figure(name, links[0]) else column
            for name, column in links[0].items()
        },
        "notes": list(dict.fromkeys(note for result in results for note in result["notes"])),
        "times": {**times[0], **{key: sum(each[key] for each in times) for key in ("kernels_cpu_s", "trace_cpu_s")}},
    }


def _is_figure(name: str, links: dict[str, list[Any]]) -> bool:
    return all(isinstance(value, float) for value in links[name])


def _simulate(experiments: Sequence[Experiment], progress: Progress) -> list[dict[str, Any]]:
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
        summary = summary_of(experiment, batch, stream, [executor], wafer, notes, {}, sample)
        figures = {
            key: value for key, value in summary["runs"][0].items() if key not in ("policy", "speedup", "baseline")
        }
        results.append(
            {
                "figures": figures,
                "seeds": [{"decode_time_s": figures["decode_time_s"], "sampled": _sampled(executor, sample)}],
                "links": _links(executor, wafer, sample),
                "notes": summary["provenance"]["notes"],
                "times": {"kernels_cpu_s": seconds, "trace_cpu_s": shared, "planning": executor.planning},
            }
        )
    return results


def _draw(experiments: Sequence[Experiment]) -> tuple[list[Experiment], Sample | None]:
    """Draw the sample of layers, if one is configured; it is common to all experiments, as they share the routing."""
    first, sample = draw_layers(experiments[0], open_routing)
    return [replace(experiment, layers=first.layers) for experiment in experiments], sample


def _sampled(executor: Executor, sample: Sample | None) -> dict[str, Any] | None:
    """Return the strata and the time of each layer, for a speedup over another result with the same sample."""
    if sample is None:
        return None
    by_layer = {layer: 0.0 for layer in sample.layers}
    for row in executor.ledger.decode:
        by_layer[row.layer] += row.time_s
    return {"strata": [asdict(stratum) for stratum in sample.strata], "decode_time_s": list(by_layer.values())}


def _links(executor: Executor, wafer: hardware.Wafer, sample: Sample | None) -> dict[str, list[Any]]:
    """Return the columns of links.parquet."""
    ledger = executor.ledger
    nbytes = ledger.link_bytes
    decode = sum(row.time_s for row in ledger.decode)
    begin, end = ([wafer.place(at) or (None, None) for at in ends] for ends in wafer.links.T.tolist())
    return {
        "link": [name_link(wafer, link) for link in range(wafer.num_links)],
        "source_x": [x for x, _ in begin],
        "source_y": [y for _, y in begin],
        "target_x": [x for x, _ in end],
        "target_y": [y for _, y in end],
        "bytes": nbytes.tolist(),
        "data_bytes": ledger.link_data.tolist(),
        "request_bytes": ledger.link_request.tolist(),
        "activation_bytes": ledger.link_activation.tolist(),
        "busy_s": ledger.link_busy.tolist(),
        "utilization": (nbytes / (wafer.link_bandwidth * decode)).tolist(),
        "estimated_utilization": (
            [None] * wafer.num_links if sample is None else link_utilization(ledger, wafer, sample).tolist()
        ),
    }
