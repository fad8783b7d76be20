"""The main simulation loop: one experiment in, one result out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from wss import hardware
from wss.config import Experiment
from wss.config.experiment import LayerSample, TraceFile
from wss.execution.layers import draw_layers
from wss.execution.memory_use import check_memory
from wss.execution.provenance import summary_of
from wss.execution.replications import by_seed, over_all, part_of
from wss.hardware import Wafer
from wss.metrics import Ledger
from wss.policies import Policy
from wss.serving.moe_layer import MoeLayerExecutor
from wss.serving.paper_layer import PaperLayer
from wss.serving.placement import RoutingHistory, layer_indices
from wss.serving.signals import reads_layer_transitions, reads_transitions
from wss.traces import CountedReplay, Replay, RoutingSource, SynthReplay
from wss.traces.zero_computation import WorkedKernels
from wss.workload.request import Batch, Progress, made_batch, read_batch

Executor = MoeLayerExecutor | PaperLayer


def _quiet(what: str, done: int, total: int) -> None:
    """Ignore progress."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """Result of a run: the content of summary.json, and the ledgers behind it, by seed, then policy name."""

    summary: dict[str, Any]
    ledgers: tuple[Ledger, ...]
    wafer: Wafer
    notes: tuple[str, ...]


def build_executors(
    experiment: Experiment, wafer: Wafer, policies: Sequence[Policy], seen: RoutingHistory
) -> list[MoeLayerExecutor] | list[PaperLayer]:
    """Build one executor per policy under the experiment's physics; *seen* provides routing counts to placements."""
    if experiment.physics == "paper":
        return [PaperLayer(experiment, wafer, policy) for policy in policies]
    return [MoeLayerExecutor(experiment, wafer, policy, seen) for policy in policies]


def _excess(executors: Sequence[Executor]) -> list[str]:
    """Return a note if weights and copies exceed the HBM, under physics without a capacity limit."""
    excess = max((executor.excess_bytes, executor.ledger.policy) for executor in executors)
    if excess[0] <= 0:
        return []
    return [f"no capacity limit here: weights and copies exceed the usable HBM by {excess[0]:.0f} bytes ({excess[1]})"]


def replay_of(
    experiment: Experiment, policies: Sequence[Policy], *, routed: bool = False
) -> tuple[Batch, RoutingSource]:
    """Open the batch and return it with its replay; the replay only counts tokens if no policy uses transitions.

    With *routed*, layer runs include the experts of each token. Zero-computation experts are left out.
    """
    batch, replay = _replay_of(experiment, policies, routed=routed)
    if experiment.model.zero_experts:
        return batch, WorkedKernels(replay, experiment.model.num_experts)
    return batch, replay


def _replay_of(experiment: Experiment, policies: Sequence[Policy], *, routed: bool) -> tuple[Batch, RoutingSource]:
    trace, num_experts = experiment.trace, experiment.model.num_choices
    heat, layers = any(map(reads_transitions, policies)), any(map(reads_layer_transitions, policies))
    across = experiment.physics == "wss"
    if not isinstance(trace, TraceFile):
        batch = made_batch(experiment, trace)
        source = (trace, experiment.model, experiment.seed, batch.num_requests)
        common = (experiment.batch, batch.steps, layer_indices(experiment))
        return batch, SynthReplay(*source, *common, across_phases=across, heat=heat, layer_heat=layers, routed=routed)
    batch, requests = read_batch(experiment, trace)
    common = (experiment.batch, batch.steps, layer_indices(experiment))
    continuous = trace.replay == "continuous"
    if not (heat or layers or continuous or routed):
        return batch, CountedReplay(requests, len(requests), *common, num_experts)
    replay = Replay(requests, *common, num_experts, across_phases=across, continuous=continuous, layer_heat=layers)
    return dataclasses.replace(batch, num_requests=replay.num_requests), replay


def counts_tokens(experiment: Experiment) -> bool:
    """Whether dispatch/combine traffic is counted token by token."""
    return experiment.dispatch is not None and experiment.dispatch.needs_tokens


def build_routing_history(experiment: Experiment) -> RoutingHistory:
    """Return the routing counts for placements; the batch is replayed when one first uses them."""
    return RoutingHistory(experiment, lambda: replay_of(experiment, [])[1])


def _to_nothing(asked: Experiment, wafer: Wafer) -> list[str]:
    """Return notes on draws without effect: a yield that kills no die, and a sample of all layers."""
    notes, faults, layers, moe_layers = [], asked.faults, asked.layers, len(asked.model.moe_layers)
    if faults is not None and faults.die_yield < 1 and set(wafer.dead_dies) <= set(faults.dies):
        which = "no further die" if faults.dies else "no die"
        notes.append(f"by faults.yield {faults.die_yield:g} and faults.seed {faults.seed} {which} is drawn dead")
    if isinstance(layers, LayerSample) and layers.sample >= moe_layers:
        notes.append(f"layers.sample is {layers.sample}, and the model has {moe_layers} MoE layers: all are run")
    return notes


def notes_of(
    asked: Experiment, wafer: Wafer, batch: Batch, replay: RoutingSource, executors: Sequence[Executor]
) -> tuple[str, ...]:
    """Return notes for the reader of the results, each once; *asked* is the experiment before layers are drawn."""
    notes = batch.notes if replay.has_prefill else (*batch.notes, "the trace has no prefill: heatmaps start empty")
    if isinstance(replay, WorkedKernels):
        notes = (*notes, replay.note)
    notes = (*notes, *_to_nothing(asked, wafer))
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
    parts = by_seed(experiment)
    results = [_run(part, part_of(progress, number, len(parts))) for number, part in enumerate(parts)]
    if len(parts) == 1:
        return results[0]
    summary = over_all(experiment, [result.summary for result in results])
    return Result(
        summary=summary,
        ledgers=tuple(ledger for result in results for ledger in result.ledgers),
        wafer=results[0].wafer,
        notes=tuple(summary["provenance"]["notes"]),
    )


def _run(experiment: Experiment, progress: Progress) -> Result:
    """Run *experiment* with its one seed."""
    started, wall, cpu = datetime.now(UTC), time.perf_counter(), time.process_time()
    check_memory(experiment, experiment.policies)
    wafer = hardware.build(experiment.wafer, experiment.faults)
    policies = sorted(experiment.policies, key=lambda policy: policy.name)
    asked, (experiment, sample) = experiment, draw_layers(experiment, lambda every: replay_of(every, [])[1])
    executors = build_executors(experiment, wafer, policies, build_routing_history(experiment))
    batch, replay = replay_of(experiment, policies, routed=counts_tokens(experiment))
    total = (batch.steps + replay.has_prefill) * len(replay.layers) * len(executors)
    done = 0
    for layer_run in replay.layer_runs():
        for executor in executors:
            executor.run(layer_run)
            done += 1
            progress("simulating", done, total)

    times = {
        "start": started.isoformat(),
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "planning": {executor.ledger.policy: executor.planning for executor in executors},
    }
    for executor in executors:
        executor.ledger.seed, executor.ledger.sample = experiment.seed, sample
    notes = notes_of(asked, wafer, batch, replay, executors)
    summary = summary_of(asked, batch, replay, executors, wafer, notes, times, sample)
    return Result(summary=summary, ledgers=tuple(executor.ledger for executor in executors), wafer=wafer, notes=notes)
