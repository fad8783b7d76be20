"""Expert placement: count the routing that a placement needs, call the placement, check its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np

from wss.errors import ConfigError, TraceError
from wss.hardware import Wafer
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
from wss.serving.setup import Setup
from wss.traces import LayerTokens
from wss.traces.analysis.coactivation_counts import prefill_pairs
from wss.traces.source import TraceFile
from wss.traces.synthetic.spec import synthesise
from wss.workload.fixed_batch import open_batch


class RoutingHistory:
    """Routing counts for placements, computed on first use.

    Parameters
    ----------
    setup
        The values of the experiment, with its sample of layers drawn.
    open_stream
        Opens the layer runs of the batch; None for zero counts, when placements are only checked.
    """

    def __init__(self, setup: Setup, open_stream: Callable[[], RoutingStream] | None) -> None:
        self._setup, self._open_stream = setup, open_stream
        self._loads: dict[LoadHistorySpec, LoadHistory] = {}

    def served_before(self, history: LoadHistorySpec, policy: str) -> LoadHistory:
        """Return the load history that *policy* specifies; errors name the policy."""
        if history not in self._loads:
            try:
                self._loads[history] = build_load_history(self._setup, history)
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
        return np.zeros((len(self._setup.model.moe_layers), self._setup.model.num_experts), np.int64)

    @cached_property
    def _prefill(self) -> IntArray:
        return self._counted(decode=False)

    @cached_property
    def _decode(self) -> IntArray:
        return self._counted(decode=True)

    def _counted(self, *, decode: bool) -> IntArray:
        """Return the tokens of each expert in the prefill, or in the decode steps, [all MoE layers, experts]."""
        load, indices = self._nothing, self._setup.layer_indices
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
        setup, model, indices = self._setup, self._setup.model, self._setup.layer_indices
        pairs = np.zeros((len(model.moe_layers), model.num_experts, model.num_experts), np.int64)
        if self._open_stream is None:
            return pairs
        batch, routing = open_batch(setup.trace, model, setup.batch, setup.steps, setup.seed)
        if isinstance(setup.trace, TraceFile):
            requests, count = iter(routing[: setup.batch]), min(len(routing), setup.batch)
        else:
            count = len(batch.requests)
            requests = synthesise(setup.trace, model, setup.seed, requests=count, decode_tokens=1)
        found = prefill_pairs(requests, count, setup.batch, indices, model.num_choices)
        pairs[list(indices)] = found[:, : model.num_experts, : model.num_experts]
        return pairs


def by_loads_alone(policy: Policy) -> bool:
    """Whether the policy's placement reads past loads and nothing else, so that other loads can stand in for them."""
    return policy.placement.signals == {Signal.PREFILL_LOAD}


def build_view(setup: Setup, wafer: Wafer, costs: Costs, signals: Mapping[Signal, IntArray]) -> PlacementView:
    """Return the view of a placement with *signals*, over all MoE layers."""
    model = setup.model
    return PlacementView(
        signals={signal: sealed(value) for signal, value in signals.items()},
        layers=model.moe_layers,
        num_experts=model.num_experts,
        tokens=setup.batch * model.top_k * model.num_experts // model.num_choices,
        capacity=_capacity(setup, wafer),
        coordinates=sealed(wafer.coordinates),
        hops=sealed(wafer.hops),
        costs=costs,
        num_model_layers=model.num_layers,
        groups=model.expert_groups,
    )


def _capacity(setup: Setup, wafer: Wafer) -> int:
    """Return how many experts fit on one die beside the buffers of a whole layer run."""
    spare = wafer.usable_hbm - setup.largest_buffers
    return max(0, int(spare // setup.expert_bytes))


def placement_view(setup: Setup, wafer: Wafer, policy: Policy, history: RoutingHistory, costs: Costs) -> PlacementView:
    """Return the view of the policy's first placement.

    Raises
    ------
    ConfigError
        If a load history is given that the placement does not use.
    """
    signals = policy.placement.signals
    if policy.history is None:
        return build_view(setup, wafer, costs, {signal: history.value(signal) for signal in signals})
    if not by_loads_alone(policy):
        what = f"its placement reads {names_of(signals)}, and not only the loads that a history brings"
        raise ConfigError(f"policy {policy.name}: {what}; leave history out, or give a placement such as eplb")
    load = history.served_before(policy.history, policy.name).load
    return build_view(setup, wafer, costs, {Signal.PREFILL_LOAD: load})


def names_of(signals: frozenset[Signal]) -> str:
    """Return the names of *signals* as text."""
    return " and ".join(signal.value for signal in Signal if signal in signals) or "no signal"


def placing_notes(
    setup: Setup,
    wafer: Wafer,
    policy: Policy,
    placed: IntArray,
    history: RoutingHistory,
    indices: Sequence[int] | None = None,
) -> list[str]:
    """Return notes on the placement for the reader; *indices* are those of the layers run, None for all."""
    signals, notes = policy.placement.signals, []
    if signals & FUTURE:
        notes.append(f"{policy.name} is an oracle, not a real policy: its placement uses the decode steps that are run")
    elif policy.history is not None:
        notes += [f"{policy.name}: {note}" for note in history.served_before(policy.history, policy.name).notes]
    elif Signal.PREFILL_LOAD in signals and not history.value(Signal.PREFILL_LOAD).any():
        notes.append(f"{policy.name}: there is no prefill to place experts by, so all experts count as equally loaded")
    run = placed if indices is None else placed[list(indices)]
    each, which = run.sum() / run[:, :, 0].size, "all layers" if len(run) == len(placed) else "the layers run"
    if each > 1:
        notes.append(f"{policy.name}: an expert has {each:.2f} replicas on average, in {which}")
    if isinstance(policy.placement, Eplb) and (
        note := policy.placement.note(wafer.coordinates, setup.model.expert_groups)
    ):
        notes.append(f"{policy.name}: {note}")
    if isinstance(policy.placement, LayoutFile):
        model = setup.model
        target = Target(model.moe_layers, model.num_layers, model.num_experts, wafer.num_dies)
        notes += [f"{policy.name}: {note}" for note in policy.placement.notes(target)]
    return [*notes, *_crowded(setup, wafer, policy), *_sparse(setup, wafer)]


def _crowded(setup: Setup, wafer: Wafer, policy: Policy) -> list[str]:
    """Return a note if free HBM limits the placement to fewer replicas than requested."""
    if not isinstance(policy.placement, REPLICATING):
        return []
    extra, share = policy.placement.extra, -(-setup.model.num_experts // wafer.num_dies)
    fitting = max(0, _capacity(setup, wafer) // len(setup.model.moe_layers) - share)
    if fitting >= extra:
        return []
    what = f"its placement asks for extra: {extra} experts a die and layer, and the HBM has room for {fitting}"
    return [f"{policy.name}: {what} beside the {share} of an even share"]


def _sparse(setup: Setup, wafer: Wafer) -> list[str]:
    """Return a note if there are fewer experts than dies; the same for all policies."""
    experts, dies = setup.model.num_experts, wafer.num_dies
    if experts >= dies:
        return []
    return [
        f"a layer has {experts} experts for {dies} dies: a die without an expert has to read those that it computes"
    ]


def costs_of(setup: Setup, wafer: Wafer) -> Costs:
    """Return the cost model of policies; *wafer* has the HBM bandwidth that the GEMM model achieves."""
    nbytes, link, die, gemm = setup.expert_bytes, setup.wafer.link, setup.wafer.die, setup.gemm_model
    return Costs(
        hbm_read=nbytes / wafer.spec.die.hbm.bandwidth,
        link_read=nbytes / link.bandwidth,
        hop=2 * link.latency,
        token=gemm.token_s(*setup.gemm_shape),
        latency=die.llc.miss + die.hbm.latency,
        tile=gemm.tile(),
        request=link.request / link.granule,
        window=setup.window,
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
