"""Expert migration: compute a new placement during decode and move weights over the wafer's own links.

Blocking migration moves one layer after another, each as a layer run that only reads and stores experts. The step
waits for all of them. Each layer's old replicas are freed before the next layer moves, so free HBM is needed for only
one layer. Background migration uses the HBM and link bandwidth that layer runs leave (`wss.engine.background`). An
expert changes its home when its last byte has arrived.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wss.engine.background import BackgroundTransfers
from wss.engine.specs import CircuitSpec
from wss.errors import ConfigError
from wss.hardware import Wafer
from wss.memory.expert_map import ExpertMap
from wss.policies import Costs, LoadHistorySpec, LoadView, Policy, Signal
from wss.policies.rebalancing import Every, matched, worthwhile
from wss.policies.validation import sealed, validate_number
from wss.records import FloatArray, IntArray, LayerRun, MoveRecord, Plan, Recorder
from wss.serving.placement import RoutingHistory, build_view, by_loads_alone, names_of
from wss.serving.policy_host import PolicyHost
from wss.serving.setup import Setup
from wss.traces import LayerTokens

ROUNDING = 1e-9  # share of an expert that may be missing when its transfer counts as complete
SimulateMoves = Callable[[Plan], LayerRun]


def too_long(rule: Every, done: int) -> str:
    """Return which setting of *rule* exceeds a decode of *done* steps; empty if none does."""
    if rule.steps >= done:
        return f"rebalancing.steps is {rule.steps}, and decode ends with step {done}: it never rebalanced"
    last = (done - 1) // rule.steps * rule.steps
    if rule.window > last and rule.window != Every().window:
        return f"rebalancing.window is {rule.window}, and at most {last} steps were available"
    return ""


class Migration:
    """Rebalancing and migration of one policy.

    Parameters
    ----------
    setup, wafer, costs
        The setup, its hardware, and the policy's cost model.
    host
        Calls the policy.
    history
        Provides the load history.
    expert_map, recorder
        The placement, which migration changes, and the recorder of what is moved.
    simulate
        Simulates moves as a layer run that only reads and stores experts.

    Raises
    ------
    ConfigError
        If the policy's placement is not computed from loads alone, or the network does not report idle bandwidth.
    """

    def __init__(
        self,
        setup: Setup,
        wafer: Wafer,
        costs: Costs,
        host: PolicyHost,
        history: RoutingHistory,
        expert_map: ExpertMap,
        recorder: Recorder,
        simulate: SimulateMoves,
    ) -> None:
        policy = host.policy
        self._setup, self._wafer, self._policy, self._costs = setup, wafer, policy, costs
        self._expert_map, self._recorder, self._simulate, self._host = expert_map, recorder, simulate, host
        self._rule = policy.rebalancing
        self._gain = validate_number(self._rule.gain, f"policy {policy.name}: its rebalancing's gain")
        self._background = _in_background(policy, setup)
        self._background_transfers = BackgroundTransfers(wafer)
        self._layers, self._indices = setup.layers_run, list(setup.layer_indices)
        spec = self._rule.load_history()
        if not isinstance(spec, LoadHistorySpec | None):
            raise ConfigError(
                f"policy {policy.name}: its rebalancing's history is {spec!r}; give a wss.policies.LoadHistorySpec"
            )
        self._load_history = None if spec is None else history.served_before(spec, policy.name)
        self._loads = None if self._load_history is None else sealed(self._load_history.load[self._indices])
        self._bytes = setup.expert_bytes
        self._spare = setup.largest_buffers
        self._counts: IntArray = np.zeros((16, *expert_map.placed.shape[:2]), np.int64)  # tokens, by decode step
        self._steps = 0  # decode steps done
        self._left: FloatArray = np.zeros(expert_map.placed.shape)  # bytes still to be moved
        self._moves: tuple[IntArray, Plan] | None = None  # layers and reads of migrations in flight; None if outdated
        self._waiting = False  # whether migrations are queued for lack of free bytes
        self._without_room = 0
        self._entered = 0  # copies evicted for moves, as recorded
        recorder.rebalances = 0

    @property
    def notes(self) -> list[str]:
        """What a reader of the result should know."""
        name, under_way = self._policy.name, int(self._expert_map.incoming.sum()) if self._background else 0
        idle = too_long(self._rule, self._steps) if isinstance(self._rule, Every) else ""
        waiting = self._without_room + int(self._expert_map.missing.sum()) * self._background
        history = self._load_history.notes if self._load_history else []
        rebalances = self._recorder.rebalances
        return [
            *(f"{name}, when it rebalances: {note}" for note in history),
            *([f"{name}: decode ended before it rebalanced"] if self._load_history and not rebalances else []),
            *([f"{name}: {idle}"] if idle else []),
            *([f"{name}: {under_way} experts were still being moved at the end"] if under_way else []),
            *([f"{name}: {waiting} experts were not moved, as the new die had no room"] if waiting else []),
        ]

    def before(self, layer_run: LayerTokens) -> int:
        """Rebalance before *layer_run*, if it begins a decode step and rebalancing is due.

        Returns
        -------
        int
            Number of copies evicted for moves that are already recorded.
        """
        entered = self._entered
        if layer_run.layer == 0 and layer_run.step > 1:
            counts = self._counts[: self._steps].view()
            counts.flags.writeable = False
            load = self._host.rebalance(LoadView(counts=counts, history=self._loads))
            if load is not None:
                self._rebalance(load, layer_run.step)
        if self._background and self._waiting:
            self._start_queued()
        return self._entered - entered

    def after(self, layer_run: LayerTokens, run: LayerRun) -> None:
        """Count the tokens of *layer_run*, and advance background migrations."""
        if layer_run.step == 0:
            return
        if layer_run.step > len(self._counts):
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._counts[layer_run.step - 1, layer_run.layer] = layer_run.counts
        self._steps = layer_run.step
        if self._background and self._expert_map.incoming.any():
            self._move_beside(layer_run.step, run)

    def _rebalance(self, load: IntArray, step: int) -> None:
        assert self._recorder.rebalances is not None
        self._recorder.rebalances += 1
        self._expert_map.set_target(self._target(load))
        self._left[~self._expert_map.incoming] = self._bytes
        self._moves, self._waiting = None, True
        if not self._background:
            for layer in range(len(self._layers)):
                self._move_layer(layer, step)
            self._without_room += int(self._expert_map.missing.sum())

    def _target(self, load: IntArray) -> IntArray:
        """Return the replicas of a new placement, [layers run, experts, dies]."""
        model, now = self._setup.model, self._expert_map.placed
        loads = np.zeros((len(model.moe_layers), model.num_experts), np.int64)
        loads[self._indices] = load
        view = build_view(self._setup, self._wafer, self._costs, {Signal.PREFILL_LOAD: loads})
        then = self._host.place(view)[self._indices]
        if self._policy.placement.dies_interchangeable:
            then = matched(now, then)
        return worthwhile(now, then, view.expected[self._indices], view, self._gain)

    def _start_queued(self) -> None:
        """Start queued migrations that now fit."""
        for layer in np.flatnonzero(self._expert_map.missing.any(axis=(1, 2))).tolist():
            self._expert_map.start_transfers(layer, self._spare)
            self._moves = None
        self._waiting = bool(self._expert_map.missing.any())

    def _move_layer(self, layer: int, step: int) -> None:
        """Move the experts of *layer* while all dies wait, in as many rounds as the free bytes require."""
        while True:
            before = self._expert_map.copies.evictions
            self._expert_map.start_transfers(layer, self._spare)
            evictions = self._expert_map.copies.evictions - before
            experts, dies = np.nonzero(self._expert_map.incoming[layer])
            if len(experts) == 0:
                return
            plan = self._reads(np.full(len(experts), layer), experts, dies)
            record = MoveRecord(
                step=step,
                layer=self._layers[layer],
                plan=plan,
                run=self._simulate(plan),
                evictions=evictions,
                hbm_used=self._hbm_used,
            )
            self._recorder.migration(record)
            self._entered += evictions
            self._expert_map.complete_transfers(layer, experts, dies)

    def _move_beside(self, step: int, run: LayerRun) -> None:
        """Advance migrations in flight by the HBM and link bandwidth that the layer run *run* left unused."""
        if self._moves is None:
            layers, experts, dies = np.nonzero(self._expert_map.incoming)
            self._moves = layers, self._reads(layers, experts, dies)
        layers, plan = self._moves
        left = self._left[layers, plan.expert, plan.die]
        moved = self._background_transfers.move(plan, left, run.traffic, run.time)
        left -= moved
        self._left[layers, plan.expert, plan.die] = left
        arrived = left <= ROUNDING * self._bytes
        for layer in np.unique(layers[moved > 0]).tolist():
            own = layers == layer
            record = MoveRecord(
                step=step,
                layer=self._layers[layer],
                plan=plan,
                moved=np.where(own, moved, 0.0),
                complete=arrived & own,
                hbm_used=self._hbm_used,
            )
            self._recorder.migration(record)
        for layer in np.unique(layers[arrived]).tolist():
            done = arrived & (layers == layer)
            self._expert_map.complete_transfers(layer, plan.expert[done], plan.die[done])
            self._moves = None

    def _reads(self, layers: IntArray, experts: IntArray, dies: IntArray) -> Plan:
        """Return reads of *experts* of *layers* to *dies*, each from the nearest die with a replica, [moves] each."""
        far = self._wafer.num_dies * len(self._wafer.hops)
        distance = np.where(self._expert_map.placed[layers, experts] > 0, self._wafer.hops[:, dies].T, far)
        return Plan(
            expert=experts,
            die=dies,
            tokens=np.ones(len(experts), np.int64),
            source=distance.argmin(axis=1),
            copy=np.ones(len(experts), np.bool_),
        )

    @property
    def _hbm_used(self) -> float:
        """Bytes on the fullest die: experts, incoming experts, and copies."""
        return float(self._expert_map.budget.used.max())


def _in_background(policy: Policy, setup: Setup) -> bool:
    """Return whether the policy moves weights in the background; raise ConfigError if it cannot be rebalanced."""
    start, how = f"policy {policy.name}: its rebalancing", policy.rebalancing.how
    if not by_loads_alone(policy):
        raise ConfigError(
            f"{start} needs a placement that reads prefill_load alone, and its own reads "
            f"{names_of(policy.placement.signals)}; give another placement, such as eplb or remap"
        )
    if how not in ("blocking", "background"):
        raise ConfigError(f"{start} moves {how!r}; it should be 'blocking' or 'background'")
    if how == "background" and isinstance(setup.network, CircuitSpec):
        raise ConfigError(
            f"{start} is in the background, and a circuit uses the whole link; give how: blocking, or another network"
        )
    return how == "background"
