"""Execution of MoE layers under one policy: plan each layer run, select copies, simulate, record in the ledger."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from wss.config import Experiment
from wss.engine.alltoall import AllToAll
from wss.engine.layer import simulate_layer
from wss.engine.layer_compiled import compiled_layer
from wss.engine.llc import Llcs
from wss.engine.network.compiled import CompiledModel
from wss.engine.work import LayerWork, PrefetchPlan, WaferNetwork
from wss.errors import CapacityError
from wss.hardware import GEMMS, Wafer
from wss.memory.copies import ExpertCopies
from wss.memory.expert_map import ExpertMap
from wss.models.precision import peak_of, weight_bits
from wss.policies import LayerView, Policy
from wss.policies.prefetching import NoPrefetch
from wss.policies.validation import sealed
from wss.records import FloatArray, IntArray, LayerRecord, LayerRun, Plan, Recorder, WeightLocations
from wss.serving.agreement import agreement, agreement_note, loads_behind
from wss.serving.migration import Migration, moves_of
from wss.serving.placement import RoutingHistory, costs_of, layer_indices, placement_view, placing_notes
from wss.serving.planning_time import planning_notes, planning_time
from wss.serving.policy_host import PolicyHost
from wss.serving.signals import DecodeOracle, SignalProvider
from wss.traces import LayerTokens


class MoeLayerExecutor:
    """Executes layer runs under one policy; holds the policy's copies, network and ledger."""

    host_class: ClassVar[type[PolicyHost]] = PolicyHost  # the contract tests substitute a stricter one

    def __init__(
        self, experiment: Experiment, wafer: Wafer, policy: Policy, history: RoutingHistory, recorder: Recorder
    ) -> None:
        model, precision = experiment.model, experiment.precision
        self._gemm = GEMMS[experiment.gemm]
        wafer = wafer.achieving(self._gemm.hbm_share())
        self._policy, self._wafer, self._window = policy, wafer, experiment.window
        self._planning = experiment.planning
        self._host = self.host_class(policy)
        self._layers = experiment.layers_run
        self._places = layer_indices(experiment)
        self._num_layers = len(model.moe_layers)
        self._before = -1  # index of the layer that ran last
        self._llcs = Llcs(
            experiment.wafer.die.llc,
            wafer.num_dies,
            model.expert_bytes(precision),
            copies=policy.copies.llc,
            experts=len(model.moe_layers) * model.num_experts,
        )
        self._bytes = model.expert_bytes(precision)
        self._copy_bytes = self._bytes / experiment.layer_share  # a sampled layer stands for several
        die = experiment.wafer.die
        self._shape = (model.hidden_size, model.moe_intermediate_size, die, peak_of(precision), model.matrices)
        self._network = WaferNetwork(wafer, experiment.network)
        self._exchange = exchange_of(experiment, wafer)
        is_compiled = experiment.engine != "simpy" and isinstance(self._network.model, CompiledModel)
        self._simulate = compiled_layer if is_compiled else simulate_layer
        self._costs = costs_of(experiment, wafer)
        view = placement_view(experiment, wafer, policy, history, self._costs)
        placed = self._host.place(view)
        behind = loads_behind(policy, view)
        self._behind = None if behind is None else behind[list(self._places)]
        self._served: IntArray = np.zeros((len(self._layers), model.num_experts), np.int64)  # tokens in decode
        self._placing_notes = placing_notes(experiment, wafer, policy, placed, history, self._places)
        room = room_of(placed, experiment, wafer)
        self._token_bytes = model.buffer_bytes(precision)
        self._most_tokens = experiment.batch * model.top_k
        run = placed[list(self._places)]
        reserve = die.hbm.size * die.hbm.reserve if policy.copies.room == "reserve" else None
        self._copies = ExpertCopies(run > 0, room, self._copy_bytes, policy.caching, self._host.evict, reserve)
        self._placed, self._history = run, history
        self._signals = SignalProvider(policy, self._host, len(self._layers), wafer.num_dies, self._future)
        self._homes = ExpertMap(run, wafer.usable_hbm, room, self._copy_bytes, self._copies)
        self.recorder = recorder
        state = (self._homes, self._copies, recorder, self._carry, self._host, history)
        self._moving = Migration(experiment, wafer, policy, self._costs, *state) if moves_of(policy) else None

    @property
    def excess_bytes(self) -> float:
        """Bytes by which weights and copies exceed the usable HBM; always 0 here."""
        return 0.0

    @property
    def weight_bytes(self) -> float:
        """Bytes of placed experts on the die with most of them."""
        return float(self._homes.taken.max())

    @property
    def placement_correlation(self) -> float | None:
        """Rank correlation of the loads behind the placement and those served in decode; None if undefined."""
        found = agreement(self._behind, self._served)
        return None if found is None else found.correlation

    @property
    def planning(self) -> dict[str, Any]:
        """CPU time of the policy's calls; see `PolicyHost.cost`."""
        return self._host.cost()

    @property
    def notes(self) -> list[str]:
        """Notes for the reader of the result."""
        notes = [*self._placing_notes, *agreement_note(self._policy, agreement(self._behind, self._served))]
        notes += [*self._signals.notes(self._places), *planning_notes(self._planning, self._policy)]
        notes += self._moving.notes if self._moving else []
        if not self._llcs.slots and not self._policy.copies.llc:
            notes.append(f"{self._policy.name}: no expert fits an LLC, so it is the same with copies.llc: true")
        if self._llcs.slots or isinstance(self._policy.prefetching, NoPrefetch):
            return notes
        too_large = f"an expert of {self._bytes:.0f} bytes does not fit an LLC"
        return [*notes, f"{self._policy.name} prefetches nothing: {too_large}"]

    def run(self, layer_run: LayerTokens) -> None:
        """Plan the layer run, select copies, simulate, and record the result in the ledger."""
        if layer_run.step > 0:
            self._served[layer_run.layer] += layer_run.counts
        self._host.begin()
        before = self._copies.evictions
        if self._moving is not None:
            before += self._moving.before(layer_run)
        replicas = np.maximum(self._homes.placed[layer_run.layer], self._copies.holders(layer_run.layer))
        view = self._view(layer_run, replicas, self._homes.placed[layer_run.layer])
        plan = self._host.allocate(view)
        shown = self._signals.prediction_view(layer_run, plan)
        selected = self._host.predict(shown)
        selected &= layer_run.step > 0 or self._policy.copies.prefill
        buffers, signals = self._buffers(plan), self._signals.caching_signals(layer_run, shown)
        try:
            copy = self._copies.admit(layer_run.layer, plan, selected, buffers, signals)
        except CapacityError as error:
            where = f"policy {self._policy.name}, {'prefill' if layer_run.step == 0 else f'step {layer_run.step}'}"
            where += f", layer {self._layers[layer_run.layer]}"
            raise CapacityError(*(f"{where}: {fault}" for fault in error.faults)) from None
        plan = replace(plan, copy=copy)
        used = self._homes.taken + self._copies.held * self._copy_bytes + buffers
        compute = self._gemm.seconds(plan.tokens.astype(np.float64), plan.die, *self._shape)
        place = self._places[layer_run.layer]
        self._llcs.begin(flushed=(place - self._before) % self._num_layers != 1 % self._num_layers)
        self._before = place
        lying = WeightLocations(holders=view.holders, cached=self._llcs.cached(place, len(layer_run.counts)))
        work = self._work(place, plan, compute, self._ahead(layer_run))
        outcome = self._simulate(self._network, self._llcs, work)
        record = LayerRecord(
            step=layer_run.step,
            layer=self._layers[layer_run.layer],
            counts=layer_run.counts,
            plan=plan,
            compute=compute,
            run=outcome,
            where=lying,
            exchanged=None
            if self._exchange is None
            else self._exchange.run(plan, layer_run.routed, layer_run.zero_choices),
            planned=planning_time(self._planning, self._policy, len(layer_run.counts), len(plan.expert)),
            evictions=self._copies.evictions - before,
            hbm_used=float(used.max()),
        )
        self.recorder.layer_run(record)
        if self._moving is not None:
            self._moving.after(layer_run, outcome)

    def _carry(self, moves: Plan) -> LayerRun:
        """Simulate *moves* as a layer run that only reads and stores experts, bypassing the LLCs."""
        llcs = Llcs(replace(self._wafer.spec.die.llc, size=0.0), self._wafer.num_dies, self._bytes)
        names = replace(moves, expert=np.arange(len(moves.expert)))  # unique ids, so that no two moves share a read
        return self._simulate(self._network, llcs, self._work(0, names, np.zeros(len(moves.expert))))

    def _work(self, layer: int, plan: Plan, compute: FloatArray, prefetch: PrefetchPlan | None = None) -> LayerWork:
        """Return *plan* of *layer* as work for the engine; *compute* is seconds of each task, [tasks]."""
        return LayerWork(
            layer=layer, plan=plan, nbytes=self._bytes, compute=compute, window=self._window, prefetch=prefetch
        )

    def _view(self, layer_run: LayerTokens, replicas: IntArray, placed: IntArray) -> LayerView:
        """Return the view of *layer_run* for an allocation.

        *replicas* are all replicas and copies, *placed* those of the placement alone, both [experts, dies].
        """
        sources = placed if self._policy.copies.serve == "own_die" else replicas
        return LayerView(
            layer=layer_run.layer,
            counts=sealed(layer_run.counts),
            order=sealed(layer_run.order),
            primary_die=sealed(self._homes.first(layer_run.layer)),
            replicas=sealed(replicas),
            sources=sealed(sources > 0),
            hops=sealed(self._wafer.hops),
            routes=self._wafer.routes,
            costs=self._costs,
        )

    def _future(self) -> DecodeOracle:
        """Plan all decode layer runs, for oracles."""
        return DecodeOracle(
            self._history.layer_runs,
            lambda layer_run: self._host.allocate(
                self._view(layer_run, self._placed[layer_run.layer], self._placed[layer_run.layer])
            ),
            len(self._layers),
            self._wafer.num_dies,
        )

    def _buffers(self, plan: Plan) -> FloatArray:
        """Return the bytes of activation buffers on each die, [dies].

        Prefill runs in chunks of the batch's size. Each chunk spreads over the dies as the whole prefill does.
        """
        tokens = np.bincount(plan.die, plan.tokens, self._wafer.num_dies)
        buffers: FloatArray = tokens * min(1.0, self._most_tokens / tokens.sum()) * self._token_bytes
        return buffers

    def _ahead(self, layer_run: LayerTokens) -> PrefetchPlan | None:
        """Return what to prefetch for the next layer run; None if nothing."""
        if self._llcs.slots == 0 or isinstance(self._policy.prefetching, NoPrefetch):
            return None
        holders = self._copies.holders(layer_run.next_layer)
        view = self._signals.prefetch_view(layer_run, holders, self._llcs.slots)
        return PrefetchPlan(layer=self._places[layer_run.next_layer], experts=self._host.prefetch(view))


def exchange_of(experiment: Experiment, wafer: Wafer) -> AllToAll | None:
    """Return the dispatch/combine of token activations; None if it is not modelled."""
    dispatch, model = experiment.exchange, experiment.model
    if dispatch is None:
        return None
    return AllToAll(dispatch, experiment.network, wafer, model.hidden_size, model.top_k)


def room_of(placed: IntArray, experiment: Experiment, wafer: Wafer) -> FloatArray:
    """Return the bytes each die has left for copies, [dies]; replicas of all layers count, run or not.

    Raises
    ------
    CapacityError
        If the replicas do not fit.
    """
    expert_bytes = experiment.model.expert_bytes(experiment.precision)
    need = placed.sum(axis=(0, 1)) * expert_bytes
    room: FloatArray = wafer.usable_hbm - need
    if (room >= 0).all():
        return room
    total, usable = float(need.sum()), wafer.num_dies * wafer.usable_hbm
    short = float(-room.min())
    fitting = [
        name
        for name in experiment.wafer.die.flops
        if need.max() * experiment.model.expert_bytes(name) / expert_bytes <= wafer.usable_hbm
    ]
    advice = f"precision {' or '.join(fitting)} fits, or" if fitting else "no precision of this die fits; give"
    a_die = int(wafer.usable_hbm // (len(experiment.model.moe_layers) * expert_bytes))  # experts per layer that fit
    dies = f"at least {-(-experiment.model.num_experts // a_die)} such dies" if a_die else "dies with more HBM"
    raise CapacityError(
        f"{experiment.model.name} in {experiment.precision} does not fit {experiment.wafer.name}: its routed experts "
        f"are {total:.0f} bytes ({weight_bits(experiment.precision) / 8:g} B a weight), "
        f"usable HBM is {usable:.0f} bytes, "
        f"short by {max(total - usable, 0):.0f} bytes in all and {short:.0f} bytes on the fullest die; {advice} "
        f"{dies}"
    )
