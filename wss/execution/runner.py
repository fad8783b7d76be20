"""The main simulation loop: one experiment in, one result out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial

from wss import hardware
from wss.config import Experiment, TraceFile
from wss.config.experiment import LayerSample
from wss.execution.layers import draw_layers
from wss.execution.memory_use import check_memory
from wss.execution.provenance import provenance_of
from wss.execution.replications import Progress, by_seed, over_all, part_of
from wss.execution.result import Result, policy_results
from wss.hardware import Wafer
from wss.metrics import Ledger
from wss.policies import Policy
from wss.serving.moe_layer import MoeLayerExecutor
from wss.serving.paper_layer import PaperLayer
from wss.serving.placement import RoutingHistory, layer_indices
from wss.serving.routing_stream import RoutingStream
from wss.serving.scheduler import schedule_of
from wss.serving.signals import reads_layer_transitions, reads_transitions
from wss.traces import RecordedRouting, RequestRouting, RoutingSource, SyntheticRouting
from wss.traces.transitions import RoutingCounts
from wss.workload.fixed_batch import FixedBatch, open_batch

Executor = MoeLayerExecutor | PaperLayer


def _quiet(what: str, done: int, total: int) -> None:
    """Ignore progress."""


def build_executors(
    experiment: Experiment, wafer: Wafer, policies: Sequence[Policy], seen: RoutingHistory
) -> list[MoeLayerExecutor] | list[PaperLayer]:
    """Build one executor per policy under the experiment's physics; *seen* provides routing counts to placements."""
    ledgers = [build_ledger(experiment, wafer, policy.name) for policy in policies]
    each = list(zip(policies, ledgers, strict=True))
    if experiment.physics == "paper":
        return [PaperLayer(experiment, wafer, policy, ledger) for policy, ledger in each]
    return [MoeLayerExecutor(experiment, wafer, policy, seen, ledger) for policy, ledger in each]


def build_ledger(experiment: Experiment, wafer: Wafer, policy: str) -> Ledger:
    """Build the ledger of *policy*."""
    if experiment.physics == "paper":
        return Ledger(policy, experiment.model, wafer, "fp16", hardware.GEMMS["ideal"])
    gemm, exchanges = hardware.GEMMS[experiment.gemm], experiment.dispatch is not None
    wafer = wafer.achieving(gemm.hbm_share())
    return Ledger(policy, experiment.model, wafer, experiment.precision, gemm, exchanges=exchanges)


def _excess(executors: Sequence[Executor]) -> list[str]:
    """Return a note if weights and copies exceed the HBM, under physics without a capacity limit."""
    excess = max((executor.excess_bytes, executor.recorder.policy) for executor in executors)
    if excess[0] <= 0:
        return []
    return [f"no capacity limit here: weights and copies exceed the usable HBM by {excess[0]:.0f} bytes ({excess[1]})"]


def open_stream(
    experiment: Experiment, policies: Sequence[Policy], *, routed: bool = False
) -> tuple[FixedBatch, RoutingStream]:
    """Open the batch and its layer runs; transitions are counted only if one of *policies* uses them.

    With *routed*, layer runs include the experts of each token.
    """
    trace, model, seed = experiment.trace, experiment.model, experiment.seed
    batch, routing = open_batch(trace, model, experiment.batch, experiment.steps, seed)
    schedule, layers = schedule_of(batch), layer_indices(experiment)
    source: RoutingSource
    if isinstance(trace, TraceFile):
        source = RecordedRouting(_taken(routing), schedule.computed, layers)
    else:
        source = SyntheticRouting(trace, model, seed, len(batch.requests), layers)
    counts = partial(
        RoutingCounts,
        len(layers),
        model.num_choices,
        transitions=any(map(reads_transitions, policies)),
        layer_transitions=any(map(reads_layer_transitions, policies)),
        routed=routed,
        across_phases=experiment.physics == "wss",
    )
    return batch, RoutingStream(schedule, source, counts, model.num_experts)


def open_routing(experiment: Experiment) -> RoutingStream:
    """Open the layer runs of *experiment* without transitions."""
    return open_stream(experiment, [])[1]


def _taken(requests: list[RequestRouting]) -> Iterator[RequestRouting]:
    """Yield *requests* in order, and take each from the list, so that it is freed when it has been read."""
    requests.reverse()
    while requests:
        yield requests.pop()


def counts_tokens(experiment: Experiment) -> bool:
    """Whether dispatch/combine traffic is counted token by token."""
    return experiment.dispatch is not None and experiment.dispatch.needs_tokens


def build_routing_history(experiment: Experiment) -> RoutingHistory:
    """Return the routing counts for placements; the batch is opened when one first uses them."""
    return RoutingHistory(experiment, lambda: open_routing(experiment))


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
    asked: Experiment, wafer: Wafer, batch: FixedBatch, stream: RoutingStream, executors: Sequence[Executor]
) -> tuple[str, ...]:
    """Return notes for the reader of the results, each once; *asked* is the experiment before layers are drawn."""
    cold = [] if stream.schedule.has_prefill else ["the trace has no prefill: heatmaps start empty"]
    notes = (*batch.notes, *cold, *stream.notes, *_to_nothing(asked, wafer))
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
    return results[0] if len(parts) == 1 else over_all(experiment, results)


def _run(experiment: Experiment, progress: Progress) -> Result:
    """Run *experiment* with its one seed."""
    started, wall, cpu = datetime.now(UTC), time.perf_counter(), time.process_time()
    check_memory(experiment, experiment.policies)
    wafer = hardware.build(experiment.wafer, experiment.faults)
    policies = sorted(experiment.policies, key=lambda policy: policy.name)
    asked, (experiment, sample) = experiment, draw_layers(experiment, open_routing)
    executors = build_executors(experiment, wafer, policies, build_routing_history(experiment))
    batch, stream = open_stream(experiment, policies, routed=counts_tokens(experiment))
    total, done = stream.num_layer_runs * len(executors), 0
    for layer_run in stream.layer_runs():
        for executor in executors:
            executor.run(layer_run)
            done += 1
            progress("simulating", done, total)

    times = {
        "start": started.isoformat(),
        "wall_s": time.perf_counter() - wall,
        "cpu_s": time.process_time() - cpu,
        "planning": {executor.recorder.policy: executor.planning for executor in executors},
    }
    runs = {run.policy: run for run in policy_results(experiment, batch, stream, executors, wafer, sample)}
    return Result(
        experiment=asked,
        runs={policy.name: runs[policy.name] for policy in asked.policies},
        notes=notes_of(asked, wafer, batch, stream, executors),
        provenance=provenance_of(asked, batch, wafer, times),
    )
