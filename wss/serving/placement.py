"""Expert placement: count the routing that a placement needs, call the placement, check its result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from wss.config import Experiment, TraceFile
from wss.errors import ConfigError, TraceError
from wss.hardware import GEMMS, Wafer
from wss.models.precision import peak_of
from wss.policies import Costs, LoadHistorySpec, PlacementView, Policy
from wss.policies.placement import REPLICATING
from wss.policies.placement.eplb import Eplb
from wss.policies.placement.layout_engines import Target
from wss.policies.placement.layout_file import LayoutFile
from wss.policies.validation import checked_placement, sealed
from wss.policies.views import NEEDS
from wss.records import FloatArray, IntArray
from wss.serving.load_history import LoadHistory, build_load_history
from wss.serving.policy_host import PolicyHost
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
        self._earlier: dict[LoadHistorySpec, LoadHistory] = {}

    def earlier(self, history: LoadHistorySpec, policy: str) -> LoadHistory:
        """Return the load history that *policy* specifies; errors name the policy."""
        if history not in self._earlier:
            try:
                self._earlier[history] = build_load_history(self._experiment, history)
            except (ConfigError, TraceError) as error:
                raise type(error)(*(f"policy {policy}: its history: {fault}" for fault in error.faults)) from None
        return self._earlier[history]

    def load(self, needs: str) -> IntArray:
        """Return the tokens of each expert for a placement with these *needs*, [all MoE layers, experts]."""
        if needs == "nothing" or self._open_stream is None:
            return self._nothing
        return self._decode if needs == "decode" else self._prefill

    def pairs(self, needs: str) -> IntArray | None:
        """Return how often two experts had the same prefill token, [all MoE layers, experts, experts].

        None if a placement with these *needs* does not use it.
        """
        return self._pairs if needs == "pairs" and self._open_stream is not None else None

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
        load, places = self._nothing, layer_indices(self._experiment)
        assert self._open_stream is not None
        for layer_run in self._open_stream().layer_runs():
            if layer_run.step > 0 and not decode:
                break
            if (layer_run.step > 0) == decode:
                load[places[layer_run.layer]] += layer_run.counts
        return load

    @cached_property
    def _pairs(self) -> IntArray:
        experiment, model, places = self._experiment, self._experiment.model, layer_indices(self._experiment)
        batch, routing = open_batch(experiment.trace, model, experiment.batch, experiment.steps, experiment.seed)
        if isinstance(experiment.trace, TraceFile):
            requests, count = iter(routing[: experiment.batch]), min(len(routing), experiment.batch)
        else:
            count = len(batch.requests)
            requests = synthesise(experiment.trace, model, experiment.seed, requests=count, decode_tokens=1)
        pairs = np.zeros((len(model.moe_layers), model.num_experts, model.num_experts), np.int64)
        found = prefill_pairs(requests, count, experiment.batch, places, model.num_choices)
        pairs[list(places)] = found[:, : model.num_experts, : model.num_experts]
        return pairs


def needs_of(policy: Policy) -> str:
    """Return the routing that the policy's placement needs.

    Raises
    ------
    ConfigError
        If it is not one of `NEEDS`.
    """
    needs = getattr(policy.placement, "needs", "nothing")
    if needs not in NEEDS:
        raise ConfigError(
            f"policy {policy.name}: its placement needs {needs!r}; it should be one of {', '.join(NEEDS)}"
        )
    return str(needs)


def history_of(
    experiment: Experiment, wafer: Wafer, costs: Costs, load: IntArray, pairs: IntArray | None = None
) -> PlacementView:
    """Return the view of a placement with observed *load* [all MoE layers, experts]."""
    model = experiment.model
    return PlacementView(
        layers=model.moe_layers,
        load=sealed(load),
        pairs=None if pairs is None else sealed(pairs),
        tokens=experiment.batch * model.top_k * model.num_experts // model.num_choices,
        room=_room(experiment, wafer),
        coordinates=sealed(wafer.coordinates),
        costs=costs,
        num_model_layers=model.num_layers,
        groups=model.expert_groups,
    )


def _room(experiment: Experiment, wafer: Wafer) -> int:
    """Return how many experts fit on one die beside the buffers of a whole layer run."""
    model = experiment.model
    buffers = experiment.batch * model.top_k * model.buffer_bytes(experiment.precision)
    return max(0, int((wafer.usable_hbm - buffers) // model.expert_bytes(experiment.precision)))


def place(
    experiment: Experiment, wafer: Wafer, policy: Policy, seen: RoutingHistory, costs: Costs, ask: PolicyHost
) -> IntArray:
    """Return the replicas that the policy places on each die, [all MoE layers, experts, dies]."""
    return placed_by(policy, known_to(experiment, wafer, policy, seen, costs), wafer, ask)


def known_to(experiment: Experiment, wafer: Wafer, policy: Policy, seen: RoutingHistory, costs: Costs) -> PlacementView:
    """Return the view of the policy's placement.

    Raises
    ------
    ConfigError
        If a load history is given that the placement does not use.
    """
    needs = needs_of(policy)
    if policy.history is not None and needs != "prefill":
        what = f"its placement needs {needs}, and not the loads that a history brings"
        raise ConfigError(f"policy {policy.name}: {what}; leave history out, or give a placement such as eplb")
    load = seen.load(needs) if policy.history is None else seen.earlier(policy.history, policy.name).load
    return history_of(experiment, wafer, costs, load, seen.pairs(needs))


def placed_by(policy: Policy, history: PlacementView, wafer: Wafer, ask: PolicyHost) -> IntArray:
    """Return the policy's placement for *history*, checked, as `place` does."""
    placed = ask("placement", policy.placement.place, history, sealed(wafer.hops))
    return checked_placement(placed, (history.num_layers, history.num_experts, wafer.num_dies), policy.name)


def placing_notes(
    experiment: Experiment,
    wafer: Wafer,
    policy: Policy,
    placed: IntArray,
    seen: RoutingHistory,
    places: Sequence[int] | None = None,
) -> list[str]:
    """Return notes on the placement for the reader; *places* are the indices of the layers run, None for all."""
    needs, notes = needs_of(policy), []
    if needs == "decode":
        notes.append(f"{policy.name} is an oracle, no policy: its placement knows the decode steps that are run")
    elif policy.history is not None:
        notes += [f"{policy.name}: {note}" for note in seen.earlier(policy.history, policy.name).notes]
    elif needs != "nothing" and not seen.load(needs).any():
        notes.append(f"{policy.name}: there is no prefill to place experts by, so all experts count as equally loaded")
    run = placed if places is None else placed[list(places)]
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
    asked, share = policy.placement.extra, -(-experiment.model.num_experts // wafer.num_dies)
    room = max(0, _room(experiment, wafer) // len(experiment.model.moe_layers) - share)
    if room >= asked:
        return []
    what = f"its placement asks for extra: {asked} experts a die and layer, and the HBM has room for {room}"
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
