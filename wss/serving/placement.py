"""Expert placement: count the routing that a placement needs, call the placement, check its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np

from wss.config import Experiment, TraceFile
from wss.errors import ConfigError, TraceError
from wss.hardware import GEMMS, Wafer
from wss.models.precision import peak_of
from wss.policies import Costs, LoadHistorySpec, PlacementView, Policy, Signal
from wss.policies.placement import REPLICATING
from wss.policies.placement.eplb import Eplb
from wss.policies.placement.layout_engines import Target
from wss.policies.placement.layout_file import LayoutFile
from wss.policies.signals import FUTURE
from wss.policies.validation import sealed
from wss.records import FloatArray, IntArray
from wss.serving.load_history import LoadHistory, build_load_history
from wss.serving.routing_stream import RoutingStream
from wss.traces import LayerTokens
from wss.traces.analysis.coactivation_counts import prefill_pairs
from wss.traces.synthetic.spec import synthesise
from wss.workload.fixed_batch import open_batch


class RoutingHistory:
    """Routing counts for placements, computed on first use.

    Parameters
    ----------
    experiment
        The experiment, with its sample of layers drawn.
    open_stream
        Opens the layer runs of the batch; None for zero counts, when placements are only checked.
    """

    def __init__(self, experiment: Experiment, open_stream: Callable[[], RoutingStream] | None) -> None:
        self._experiment, self._open_stream = experiment, open_stream
        self._loads: dict[LoadHistorySpec, LoadHistory] = {}

    def served_before(self, history: LoadHistorySpec, policy: str) -> LoadHistory:
        """Return the load history that *policy* specifies; errors name the policy."""
        if history not in self._loads:
            try:
                self._loads[history] = build_load_history(self._experiment, history)
            except (ConfigError, TraceError) as error:
                raise type(error)(*(f"policy {policy}: its history: {fault}" for fault in error.faults)) from None
        return self._loads[history]

    def value(self, signal: Signal) -> IntArray:
        """Return *signal* of a placement: [all MoE layers, experts], or [..., experts, experts] for co-activation."""
        if signal is Signal.COACTIVATION:
            return self._pairs
        return self._decode if signal is Signal.DECODE_LOAD else self._prefill

    @cached_property
    def layer_runs(self) -> list[LayerTokens]:
        """All layer runs of the run, for oracles only; without transitions."""
        assert self._open_stream is not None
        return list(self._open_stream().layer_runs())

    @property
    def _nothing(self) -> IntArray:
        return np.zeros((len(self._experiment.model.moe_layers), self._experiment.model.num_experts), np.int64)

    @cached_property
    def _prefill(self) -> IntArray:
        return self._counted(decode=False)

    @cached_property
    def _decode(self) -> IntArray:
        return self._counted(decode=True)

    def _counted(self, *, decode: bool) -> IntArray:
        """Return the tokens of each expert in the prefill, or in the decode steps, [all MoE layers, experts]."""
        load, indices = self._nothing, layer_indices(self._experiment)
        if self._open_stream is None:
            return load
        for layer_run in self._open_stream().layer_runs():
            if layer_run.step > 0 and not decode:
                break
            if (layer_run.step > 0) == decode:
                load[indices[layer_run.layer]] += layer_run.counts
        return load

    @cached_property
    def _pairs(self) -> IntArray:
        experiment, model, indices = self._experiment, self._experiment.model, layer_indices(self._experiment)
        pairs = np.zeros((len(model.moe_layers), model.num_experts, model.num_experts), np.int64)
        if self._open_stream is None:
            return pairs
        batch, routing = open_batch(experiment.trace, model, experiment.batch, experiment.steps, experiment.seed)
        if isinstance(experiment.trace, TraceFile):
            requests, count = iter(routing[: experiment.batch]), min(len(routing), experiment.batch)
        else:
            count = len(batch.requests)
            requests = synthesise(experiment.trace, model, experiment.seed, requests=count, decode_tokens=1)
        found = prefill_pairs(requests, count, experiment.batch, indices, model.num_choices)
        pairs[list(indices)] = found[:, : model.num_experts, : model.num_experts]
        return pairs


def by_loads_alone(policy: Policy) -> bool:
    """Whether the policy's placement reads past loads and nothing else, so that other loads can stand in for them."""
    return policy.placement.signals == {Signal.PREFILL_LOAD}


def build_view(experiment: Experiment, wafer: Wafer, costs: Costs, signals: Mapping[Signal, IntArray]) -> PlacementView:
    """Return the view of a placement with *signals*, over all MoE layers."""
    model = experiment.model
    return PlacementView(
        signals={signal: sealed(value) for signal, value in signals.items()},
        layers=model.moe_layers,
        num_experts=model.num_experts,
        tokens=experiment.batch * model.top_k * model.num_experts // model.num_choices,
        capacity=_capacity(experiment, wafer),
        coordinates=sealed(wafer.coordinates),
        hops=sealed(wafer.hops),
        costs=costs,
        num_model_layers=model.num_layers,
        groups=model.expert_groups,
    )


def _capacity(experiment: Experiment, wafer: Wafer) -> int:
    """Return how many experts fit on one die beside the buffers of a whole layer run."""
    spare = wafer.usable_hbm - largest_buffers(experiment)
    return max(0, int(spare // experiment.model.expert_bytes(experiment.precision)))


def largest_buffers(experiment: Experiment) -> float:
    """Return the bytes of activation buffers of a whole layer run, if all its tokens are on one die."""
    return experiment.batch * experiment.model.top_k * experiment.model.buffer_bytes(experiment.precision)


def placement_view(
    experiment: Experiment, wafer: Wafer, policy: Policy, history: RoutingHistory, costs: Costs
) -> PlacementView:
    """Return the view of the policy's first placement.

    Raises
    ------
    ConfigError
        If a load history is given that the placement does not use.
    """
    signals = policy.placement.signals
    if policy.history is None:
        return build_view(experiment, wafer, costs, {signal: history.value(signal) for signal in signals})
    if not by_loads_alone(policy):
        what = f"its placement reads {names_of(signals)}, and not only the loads that a history brings"
        raise ConfigError(f"policy {policy.name}: {what}; leave history out, or give a placement such as eplb")
    load = history.served_before(policy.history, policy.name).load
    return build_view(experiment, wafer, costs, {Signal.PREFILL_LOAD: load})


def names_of(signals: frozenset[Signal]) -> str:
    """Return the names of *signals* as text."""
    return " and ".join(signal.value for signal in Signal if signal in signals) or "no signal"


def placing_notes(
    experiment: Experiment,
    wafer: Wafer,
    policy: Policy,
    placed: IntArray,
    history: RoutingHistory,
    indices: Sequence[int] | None = None,
) -> list[str]:
    """Return notes on the placement for the reader; *indices* are those of the layers run, None for all."""
    signals, notes = policy.placement.signals, []
    if signals & FUTURE:
        notes.append(f"{policy.name} is an oracle, no policy: its placement knows the decode steps that are run")
    elif policy.history is not None:
        notes += [f"{policy.name}: {note}" for note in history.served_before(policy.history, policy.name).notes]
    elif Signal.PREFILL_LOAD in signals and not history.value(Signal.PREFILL_LOAD).any():
        notes.append(f"{policy.name}: there is no prefill to place experts by, so all experts count as equally loaded")
    run = placed if indices is None else placed[list(indices)]
    each, which = run.sum() / run[:, :, 0].size, "all layers" if len(run) == len(placed) else "the layers run"
    if each > 1:
        notes.append(f"{policy.name}: an expert has {each:.2f} replicas on average, in {which}")
    if isinstance(policy.placement, Eplb) and (
        note := policy.placement.note(wafer.coordinates, experiment.model.expert_groups)
    ):
        notes.append(f"{policy.name}: {note}")
    if isinstance(policy.placement, LayoutFile):
        model = experiment.model
        target = Target(model.moe_layers, model.num_layers, model.num_experts, wafer.num_dies)
        notes += [f"{policy.name}: {note}" for note in policy.placement.notes(target)]
    return [*notes, *_crowded(experiment, wafer, policy), *_sparse(experiment, wafer)]


def _crowded(experiment: Experiment, wafer: Wafer, policy: Policy) -> list[str]:
    """Return a note if free HBM limits the placement to fewer replicas than requested."""
    if not isinstance(policy.placement, REPLICATING):
        return []
    extra, share = policy.placement.extra, -(-experiment.model.num_experts // wafer.num_dies)
    fitting = max(0, _capacity(experiment, wafer) // len(experiment.model.moe_layers) - share)
    if fitting >= extra:
        return []
    what = f"its placement asks for extra: {extra} experts a die and layer, and the HBM has room for {fitting}"
    return [f"{policy.name}: {what} beside the {share} of an even share"]


def _sparse(experiment: Experiment, wafer: Wafer) -> list[str]:
    """Return a note if there are fewer experts than dies; the same for all policies."""
    experts, dies = experiment.model.num_experts, wafer.num_dies
    if experts >= dies:
        return []
    return [f"a layer has {experts} experts for {dies} dies: a die without any of its own has to read what it computes"]


def costs_of(experiment: Experiment, wafer: Wafer) -> Costs:
    """Return the cost model of policies; *wafer* has the HBM bandwidth that the GEMM model achieves."""
    model, precision = experiment.model, experiment.precision
    nbytes, link, die = model.expert_bytes(precision), experiment.wafer.link, experiment.wafer.die
    gemm = GEMMS[experiment.gemm]
    shape = (model.hidden_size, model.moe_intermediate_size, die, peak_of(precision), model.matrices)
    return Costs(
        hbm_read=nbytes / wafer.spec.die.hbm.bandwidth,
        link_read=nbytes / link.bandwidth,
        hop=2 * link.latency,
        token=gemm.token_s(*shape),
        latency=die.llc.miss + die.hbm.latency,
        tile=gemm.tile(),
        request=link.request / link.granule,
        window=experiment.window,
        **_unlike(wafer, nbytes),
    )


def _unlike(wafer: Wafer, nbytes: float) -> dict[str, FloatArray]:
    """Return the costs of single links and of pairs of dies, if links differ; else an empty dict."""
    if len(set(zip(wafer.link_bandwidth.tolist(), wafer.link_latency.tolist(), strict=True))) <= 1:
        return {}
    link_reads = nbytes / wafer.link_bandwidth
    slowest, one_way = (np.where(wafer.routes >= 0, of[wafer.routes], 0.0) for of in (link_reads, wafer.link_latency))
    latency = one_way.sum(axis=2)
    return {"link_reads": sealed(link_reads), "transfers": sealed(slowest.max(axis=2) + latency + latency.T)}


def layer_indices(experiment: Experiment) -> tuple[int, ...]:
    """Return the indices, among all MoE layers, of the layers that are run."""
    at = {layer: i for i, layer in enumerate(experiment.model.moe_layers)}
    return tuple(at[layer] for layer in experiment.layers_run)
