"""The routing of an experiment: its batch, and the layer runs of its policies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from wss.config import Experiment, TraceFile
from wss.policies import Policy
from wss.serving.placement import RoutingHistory
from wss.serving.routing_stream import RoutingStream
from wss.serving.scheduler import schedule_of
from wss.serving.signals import reads_layer_transitions, reads_transitions
from wss.traces import RecordedRouting, RequestRouting, RoutingSource, SyntheticRouting
from wss.traces.transitions import RoutingCounts
from wss.workload.fixed_batch import FixedBatch, open_batch


def open_stream(
    experiment: Experiment, policies: Sequence[Policy], *, routed: bool = False
) -> tuple[FixedBatch, RoutingStream]:
    """Open the batch and its layer runs; transitions are counted only if one of *policies* uses them.

    With *routed*, layer runs include the experts of each token.
    """
    trace, model, seed = experiment.trace, experiment.model, experiment.seed
    batch, routing = open_batch(trace, model, experiment.batch, experiment.steps, seed)
    schedule, layers = schedule_of(batch), experiment.setup.layer_indices
    source: RoutingSource
    if isinstance(trace, TraceFile):
        source = RecordedRouting(_taken(routing), schedule.computed, layers, model.num_choices)
    else:
        source = SyntheticRouting(trace, model, seed, len(batch.requests), layers)
    counts = partial(
        RoutingCounts,
        len(layers),
        model.num_choices,
        transitions=any(map(reads_transitions, policies)),
        layer_transitions=any(map(reads_layer_transitions, policies)),
        routed=routed,
        across_phases=experiment.rules.across_phases,
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
    return RoutingHistory(experiment.setup, lambda: open_routing(experiment))
