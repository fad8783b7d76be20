"""Execution of MoE layers under one policy: plan each layer run, select copies, simulate, record."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from wss.engine.alltoall import AllToAll
from wss.engine.layer import simulate_layer
from wss.engine.layer_compiled import compiled_layer
from wss.engine.llc import Llcs
from wss.engine.network.compiled import CompiledModel
from wss.engine.work import LayerWork, PrefetchPlan, WaferNetwork
from wss.errors import CapacityError
from wss.hardware import Wafer
from wss.memory.copies import ExpertCopies
from wss.memory.expert_map import ExpertMap
from wss.memory.hbm import HbmBudget, bytes_of_experts
from wss.policies import LayerView, Policy
from wss.policies.prefetching import NoPrefetch
from wss.policies.rebalancing import NoRebalancing
from wss.policies.validation import sealed
from wss.records import FloatArray, IntArray, LayerRecord, LayerRun, Plan, Recorder, WeightLocations
from wss.serving.agreement import agreement, agreement_note, loads_behind
from wss.serving.migration import Migration
from wss.serving.placement import RoutingHistory, costs_of, placement_view, placing_notes
from wss.serving.planning_time import planning_notes, planning_time
from wss.serving.policy_host import PolicyHost
from wss.serving.setup import Setup
from wss.serving.signals import DecodeOracle, SignalProvider
from wss.traces import LayerTokens


class MoeLayerExecutor:
    """Executes layer runs under one policy; holds the policy's copies and network."""

    host_class: ClassVar[type[PolicyHost]] = PolicyHost  # the contract tests substitute a stricter one

    def __init__(self, setup: Setup, wafer: Wafer, policy: Policy, history: RoutingHistory, recorder: Recorder) -> None:
        model, die = setup.model, setup.wafer.die
        self._gemm, self._overhead = setup.gemm_model, setup.overhead
        wafer = wafer.achieving(setup.hbm_share)
        self._policy, self._wafer, self._window = policy, wafer, setup.window
        self._planning = setup.planning
        self._host = self.host_class(policy)
        self._layers = setup.layers_run
        self._indices = setup.layer_indices
        self._num_layers = len(model.moe_layers)
        self._before = -1  # index of the layer that ran last
        self._llcs = Llcs(
            die.llc,
            wafer.num_dies,
            setup.expert_bytes,
            copies=policy.copies.llc,
            experts=len(model.moe_layers) * model.num_experts,
        )
        self._bytes, self._shape = setup.expert_bytes, setup.gemm_shape
        self._network = WaferNetwork(wafer, setup.network)
        self._all_to_all = build_all_to_all(setup, wafer)
        is_compiled = setup.engine != "simpy" and isinstance(self._network.model, CompiledModel)
        self._simulate = compiled_layer if is_compiled else simulate_layer
        self._costs = costs_of(setup, wafer)
        view = placement_view(setup, wafer, policy, history, self._costs)
        placed = self._host.place(view)
        behind = loads_behind(policy, view)
        self._behind = None if behind is None else behind[list(self._indices)]
        self._decode_load: IntArray = np.zeros((len(self._layers), model.num_experts), np.int64)  # tokens in decode
        self._placing_notes = placing_notes(setup, wafer, policy, placed, history, self._indices)
        self._token_bytes = model.buffer_bytes(setup.precision)
        self._most_tokens, self._top_k = setup.batch * model.top_k, model.top_k
        run = placed[list(self._indices)]
        experts = bytes_of_experts(policy.name, placed, model, setup.precision, wafer)
        reserve = die.hbm.size * die.hbm.reserve if policy.copies.room == "reserve" else None
        size = self._bytes / setup.layer_share  # a sampled layer stands for several
        self._budget = HbmBudget(wafer.usable_hbm, experts, size, reserve)
        self._copies = ExpertCopies(run > 0, self._budget, policy.caching, self._host.evict)
        self._placed, self._history = run, history
        self._signals = SignalProvider(policy, self._host, len(self._layers), wafer.num_dies, self._future)
        self._expert_map = ExpertMap(run, self._copies)
        self.recorder = recorder
        self._migration: Migration | None = None
        if not isinstance(policy.rebalancing, NoRebalancing):
            state = (self._host, history, self._expert_map, recorder, self._simulate_moves)
            self._migration = Migration(setup, wafer, self._costs, *state)

    @property
    def excess_bytes(self) -> float:
        """Bytes by which weights and copies exceed the usable HBM; always 0 here."""
        return 0.0

    @property
    def weight_bytes(self) -> float:
        """Bytes of placed experts on the die with most of them."""
        return float(self._budget.experts.max())

    @property
    def placement_correlation(self) -> float | None:
        """Rank correlation of the loads behind the placement and those served in decode; None if undefined."""
        found = agreement(self._behind, self._decode_load)
        return None if found is None else found.correlation

    @property
    def planning(self) -> dict[str, Any]:
        """CPU time of the policy's calls; see `PolicyHost.cost`."""
        return self._host.cost()

    @property
    def notes(self) -> list[str]:
        """Notes for the reader of the result."""
        notes = [*self._placing_notes, *agreement_note(self._policy, agreement(self._behind, self._decode_load))]
        notes += [*self._signals.notes(self._indices), *planning_notes(self._planning, self._policy)]
        notes += self._migration.notes if self._migration else []
        if not self._llcs.slots and not self._policy.copies.llc:
            notes.append(f"{self._policy.name}: no expert fits an LLC, so it is the same with copies.llc: true")
        if self._llcs.slots or isinstance(self._policy.prefetching, NoPrefetch):
            return notes
        too_large = f"an expert of {self._bytes:.0f} bytes does not fit an LLC"
        return [*notes, f"{self._policy.name} prefetches nothing: {too_large}"]

    def run(self, layer_run: LayerTokens) -> None:
        """Plan the layer run, select copies, simulate, and record the result."""
        if layer_run.step > 0:
            self._decode_load[layer_run.layer] += layer_run.counts
        self._host.begin()
        before = self._copies.evictions
        if self._migration is not None:
            before += self._migration.before(layer_run)
        replicas = np.maximum(self._expert_map.placed[layer_run.layer], self._copies.holders(layer_run.layer))
        view = self._view(layer_run, replicas, self._expert_map.placed[layer_run.layer])
        plan = self._admit(layer_run, self._host.allocate(view))
        used = float(self._budget.used.max())
        self._budget.buffers = np.zeros(self._wafer.num_dies)
        held = view.holders.sum(axis=0)
        compute = self._gemm.seconds(plan.tokens.astype(np.float64), plan.die, *self._shape, held)
        place = self._indices[layer_run.layer]
        self._llcs.begin(flushed=(place - self._before) % self._num_layers != 1 % self._num_layers)
        self._before = place
        locations = WeightLocations(holders=view.holders, cached=self._llcs.cached(place, len(layer_run.counts)))
        work = self._work(place, plan, compute, self._ahead(layer_run))
        outcome = self._simulate(self._network, self._llcs, work)
        record = LayerRecord(
            step=layer_run.step,
            layer=self._layers[layer_run.layer],
            counts=layer_run.counts,
            plan=plan,
            compute=compute,
            run=outcome,
            where=locations,
            all_to_all=None
            if self._all_to_all is None
            else self._all_to_all.run(plan, layer_run.routed, layer_run.zero_choices),
            planned=planning_time(self._planning, self._policy, len(layer_run.counts), len(plan.expert)),
            overhead=self._around(plan, layer_run),
            evictions=self._copies.evictions - before,
            hbm_used=used,
        )
        self.recorder.layer_run(record)
        if self._migration is not None:
            self._migration.after(layer_run, outcome)

    def _around(self, plan: Plan, layer_run: LayerTokens) -> FloatArray | float:
        """Return the seconds of each die around its experts, [dies]; every die routes an equal share of the tokens."""
        if self._overhead is None:
            return 0.0
        routed = np.bincount(plan.die, plan.tokens, self._wafer.num_dies).astype(np.float64)
        tokens = (layer_run.counts.sum() + layer_run.zero_choices) / self._top_k
        return self._overhead.seconds(tokens / self._wafer.num_dies, routed)

    def _admit(self, layer_run: LayerTokens, plan: Plan) -> Plan:
        """Return *plan* with the copies that the prediction selects and the HBMs have room for, beside its buffers."""
        view = self._signals.prediction_view(layer_run, plan)
        selected = self._host.predict(view) & (layer_run.step > 0 or self._policy.copies.prefill)
        signals = self._signals.caching_signals(layer_run, view)
        try:
            copy = self._copies.admit(layer_run.layer, plan, selected, self._buffers(plan), signals)
        except CapacityError as error:
            where = f"policy {self._policy.name}, {'prefill' if layer_run.step == 0 else f'step {layer_run.step}'}"
            where += f", layer {self._layers[layer_run.layer]}"
            raise CapacityError(*(f"{where}: {fault}" for fault in error.faults)) from None
        return replace(plan, copy=copy)

    def _simulate_moves(self, moves: Plan) -> LayerRun:
        """Simulate *moves* as a layer run that only reads and stores experts; nothing is found or stored in LLCs."""
        llcs = Llcs(replace(self._wafer.spec.die.llc, size=0.0), self._wafer.num_dies, self._bytes)
        return self._simulate(self._network, llcs, self._work(0, moves, np.zeros(len(moves.expert))))

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
            primary_die=sealed(self._expert_map.primary_dies(layer_run.layer)),
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
        experts = [each[: self._llcs.slots] for each in self._host.prefetch(view)]
        return PrefetchPlan(layer=self._indices[layer_run.next_layer], experts=experts)


def build_all_to_all(setup: Setup, wafer: Wafer) -> AllToAll | None:
    """Return the dispatch/combine of token activations; None if it is not modelled."""
    dispatch, model = setup.all_to_all, setup.model
    if dispatch is None:
        return None
    return AllToAll(dispatch, setup.network, wafer, model.hidden_size, model.top_k)
