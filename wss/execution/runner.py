"""The main loop: experiments in, results out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from wss import hardware
from wss.config import Experiment
from wss.config.experiment import LayerSample
from wss.engine.paper.layer import PaperLayer
from wss.errors import ConfigError
from wss.execution.layers import draw_layers
from wss.execution.memory_use import check_memory
from wss.execution.provenance import provenance_of
from wss.execution.replications import Progress, by_seed, over_all, part_of
from wss.execution.result import Result, policy_results
from wss.execution.routing import build_routing_history, counts_tokens, open_routing, open_stream
from wss.hardware import Wafer
from wss.metrics import Ledger
from wss.policies import Policy
from wss.serving.moe_layer import MoeLayerExecutor
from wss.serving.paper_layer import PaperExecutor
from wss.serving.placement import RoutingHistory
from wss.serving.routing_stream import RoutingStream
from wss.units import show
from wss.workload.fixed_batch import FixedBatch

# The settings that determine the routing, and what all policies of one lockstep share.
ROUTING = ("model", "trace", "batch", "steps", "layers", "seed", "replications", "physics")

Executor = MoeLayerExecutor | PaperExecutor


def _quiet(what: str, done: int, total: int, where: str) -> None:
    """Ignore progress."""


def build_executors(
    experiment: Experiment, wafer: Wafer, policies: Sequence[Policy], history: RoutingHistory
) -> list[Executor]:
    """Build one executor per policy with the physics' layer model; *history* has routing counts for placements."""
    each = [(policy, build_ledger(experiment, wafer, policy.name)) for policy in policies]
    if experiment.rules.layer_model == "windowed":
        return [MoeLayerExecutor(experiment.setup, wafer, policy, history, ledger) for policy, ledger in each]
    layers, share, compiled = experiment.layers_run, experiment.layer_share, experiment.engine != "simpy"
    models = [PaperLayer(experiment.model, wafer, len(layers), share, compiled=compiled) for _ in each]
    return [PaperExecutor(own, *one, layers, experiment.planning) for own, one in zip(models, each, strict=True)]


def build_ledger(experiment: Experiment, wafer: Wafer, policy: str) -> Ledger:
    """Build the ledger of *policy*."""
    setup = experiment.setup
    return Ledger(
        policy,
        experiment.model,
        wafer.achieving(setup.hbm_share),
        experiment.precision,
        setup.gemm_model,
        has_all_to_all=experiment.dispatch is not None,
        fixed=0.0 if setup.overhead is None else setup.overhead.fixed_s,
        extra=experiment.rules.figures,
    )


def _excess(executors: Sequence[Executor]) -> list[str]:
    """Return a note if weights and copies exceed the HBM, under physics without a capacity limit."""
    excess = max((executor.excess_bytes, executor.recorder.policy) for executor in executors)
    if excess[0] <= 0:
        return []
    return [
        f"{excess[1]}: weights and copies exceed the usable HBM by {show(excess[0], 'size')} in all, which this "
        "physics allows"
    ]


def _to_nothing(configured: Experiment, wafer: Wafer) -> list[str]:
    """Return notes on draws without effect: a yield that kills no die, and a sample of all layers."""
    notes, faults, layers, moe_layers = [], configured.faults, configured.layers, len(configured.model.moe_layers)
    if faults is not None and faults.die_yield < 1 and set(wafer.dead_dies) <= set(faults.dies):
        which = "no further die" if faults.dies else "no die"
        notes.append(f"by faults.yield {faults.die_yield:g} and faults.seed {faults.seed} {which} is drawn dead")
    if isinstance(layers, LayerSample) and layers.sample >= moe_layers:
        notes.append(f"layers.sample is {layers.sample}, and the model has {moe_layers} MoE layers: all are run")
    return notes


def notes_of(
    configured: Experiment, wafer: Wafer, batch: FixedBatch, stream: RoutingStream, executors: Sequence[Executor]
) -> tuple[str, ...]:
    """Return notes for the reader of the results, each once; *configured* is the experiment before layers are drawn."""
    cold = [] if stream.schedule.has_prefill else ["the trace has no prefill: heatmaps start empty"]
    notes = (*batch.notes, *cold, *stream.notes, *_to_nothing(configured, wafer))
    return tuple(
        dict.fromkeys((*notes, *_excess(executors), *(note for executor in executors for note in executor.notes)))
    )


def run(experiment: Experiment, progress: Progress = _quiet) -> Result:
    """Run *experiment* with each of its seeds.

    Raises
    ------
    CapacityError
        If the weights do not fit the wafer, or the simulation does not fit this machine's memory.
    TraceError, ConfigError
        If the trace cannot be read, does not fit the model, or is shorter than the experiment.
    """
    return run_many([experiment], progress)[0]


def run_many(experiments: Sequence[Experiment], progress: Progress = _quiet) -> list[Result]:
    """Run *experiments* in lockstep over one routing, which is read or generated once; raise as `run` does.

    Raises also ConfigError if they do not share the settings `ROUTING`.
    """
    for name in ROUTING:
        if any(getattr(experiment, name) != getattr(experiments[0], name) for experiment in experiments):
            raise ConfigError(f"{name}: differs between experiments that are to run in lockstep; run them one by one")
    parts = list(zip(*map(by_seed, experiments), strict=True))
    results = [_run_seed(part, part_of(progress, number, len(parts))) for number, part in enumerate(parts)]
    return [over_all(experiment, own) for experiment, own in zip(experiments, zip(*results, strict=True), strict=True)]


def _run_seed(configured: Sequence[Experiment], progress: Progress) -> list[Result]:
    """Run experiments that have one seed."""
    started, wall, cpu = datetime.now(UTC), time.perf_counter(), time.process_time()
    for experiment in configured:
        check_memory(experiment, experiment.policies)
    first, sample = draw_layers(configured[0], open_routing)  # they share the layers too
    experiments = [replace(experiment, layers=first.layers) for experiment in configured]
    wafers = [hardware.build(experiment.wafer, experiment.faults) for experiment in experiments]
    history = build_routing_history(first)
    groups: list[Sequence[Executor]] = [
        build_executors(experiment, wafer, sorted(experiment.policies, key=lambda policy: policy.name), history)
        for experiment, wafer in zip(experiments, wafers, strict=True)
    ]
    policies = [policy for experiment in experiments for policy in experiment.policies]
    batch, stream = open_stream(first, policies, routed=any(map(counts_tokens, experiments)))
    spent = _run_layers(stream, [executor for group in groups for executor in group], progress)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    others = (cpu - sum(spent.values())) / len(spent)  # routing and set-up, shared evenly by all policies
    times = {"start": started.isoformat(), "wall_s": wall, "cpu_s": cpu, "trace_cpu_s": others}
    results = []
    for experiment, group, wafer in zip(configured, groups, wafers, strict=True):
        runs = {run.policy: run for run in policy_results(experiment, batch, stream, group, wafer, sample)}
        own = {
            "planning": {executor.recorder.policy: executor.planning for executor in group},
            "layer_runs_cpu_s": {executor.recorder.policy: spent[executor] for executor in group},
        }
        results.append(
            Result(
                experiment=experiment,
                runs={policy.name: runs[policy.name] for policy in experiment.policies},
                notes=notes_of(experiment, wafer, batch, stream, group),
                provenance=provenance_of(experiment, batch, wafer, times | own),
            )
        )
    return results


def _run_layers(stream: RoutingStream, executors: Sequence[Executor], progress: Progress) -> dict[Executor, float]:
    """Run every layer run of *stream* on all *executors*; return the CPU seconds that each took."""
    spent = dict.fromkeys(executors, 0.0)
    total, done = stream.num_layer_runs * len(executors), 0
    for layer_run in stream.layer_runs():
        for executor in executors:
            start = time.process_time()
            executor.run(layer_run)
            spent[executor] += time.process_time() - start
            done += 1
            step = f"decode step {layer_run.step}" if layer_run.step else "prefill"
            progress("simulating", done, total, f"{executor.recorder.policy}, {step}, layer {layer_run.layer}")
    return spent
