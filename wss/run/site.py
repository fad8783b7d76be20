"""One policy at work on the wafer: plan each kernel, decide what to copy, simulate, enter it in the ledger."""

from __future__ import annotations

from typing import Any

import numpy as np

from wss.config import Experiment
from wss.engine import NETWORKS, NetworkModel, simulate_kernel
from wss.errors import CapacityError, ConfigError
from wss.hardware import GEMMS, Wafer
from wss.metrics import Ledger
from wss.models.shape import BYTES_PER_WEIGHT
from wss.policies import Copies, Costs, KernelView, Policy
from wss.records import BoolArray, FloatArray, Plan
from wss.traces import Kernel

# Policies weigh with one price a token; GEMM models that are not linear are taken at this many.
TYPICAL_TOKENS = 512.0


class Site:
    """One policy at work on the wafer: its copies, its network, its ledger."""

    def __init__(self, experiment: Experiment, wafer: Wafer, policy: Policy) -> None:
        model, precision = experiment.model, experiment.precision
        self._policy, self._wafer, self._window = policy, wafer, experiment.window
        self._layers = experiment.layers_run
        self._bytes = model.expert_bytes(precision)
        self._gemm = GEMMS[experiment.gemm]
        self._shape = (model.hidden_size, model.moe_intermediate_size, experiment.wafer.die, precision)
        self._network: NetworkModel = NETWORKS[experiment.network](wafer)
        placed = policy.placement.place(len(model.moe_layers), model.num_experts, wafer.hops)
        room = _room(placed, experiment, wafer)
        kept = placed[list(layer_indices(experiment))]
        self._home = kept.argmax(axis=2)
        self._copies = Copies(kept, room, self._bytes, policy.caching)
        link = experiment.wafer.link
        self._costs = Costs(
            hbm_read=self._bytes / experiment.wafer.die.hbm.bandwidth,
            link_read=self._bytes / link.bandwidth,
            hop=2 * link.latency,
            token=float(self._gemm.seconds(np.array([TYPICAL_TOKENS]), *self._shape)[0]) / TYPICAL_TOKENS,
        )
        self.ledger = Ledger(policy.name, model, wafer, precision)

    @property
    def excess_bytes(self) -> float:
        """By how much weights and copies exceed the usable HBM: never, here."""
        return 0.0

    def run(self, kernel: Kernel) -> None:
        """Plan the kernel, decide what to copy, simulate it, and enter it in the ledger."""
        view = KernelView(
            layer=kernel.layer,
            counts=_sealed(kernel.counts),
            order=_sealed(kernel.order),
            home=_sealed(self._home[kernel.layer]),
            holders=_sealed(self._copies.holders(kernel.layer)),
            hops=self._wafer.hops,
            costs=self._costs,
        )
        plan = self._policy.allocation.allocate(view)
        check_plan(plan, view, self._policy.name)
        wanted = self._policy.prediction.wanted(_sealed(kernel.heat), plan) & plan.remote
        before = self._copies.evictions
        plan = Plan(
            expert=plan.expert,
            die=plan.die,
            tokens=plan.tokens,
            source=plan.source,
            copy=self._copies.admit(kernel.layer, plan, wanted),
        )
        compute = self._gemm.seconds(plan.tokens.astype(np.float64), *self._shape)
        compute[np.unique(plan.die, return_index=True)[1]] += self._gemm.launch()
        outcome = simulate_kernel(self._network, self._wafer.num_dies, plan, self._bytes, compute, self._window)
        evicted = self._copies.evictions - before
        self.ledger.enter(kernel.step, self._layers[kernel.layer], kernel.counts, plan, compute, outcome, evicted)


def _sealed(array: Any) -> Any:
    """Return a view of *array* that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view


def check_plan(plan: Plan, view: KernelView, policy: str) -> None:
    """Check that a plan computes every token once, on dies that exist, from dies that hold the weights.

    Raises
    ------
    ConfigError
        If not; a user's own policy can be at fault.
    """
    faults = []
    dies = (plan.die >= 0) & (plan.die < view.num_dies) & (plan.source >= 0) & (plan.source < view.num_dies)
    if not dies.all():
        faults.append(f"uses dies that do not exist; there are 0..{view.num_dies - 1}")
    elif not view.holders[plan.expert, plan.source].all():
        faults.append("reads an expert from a die that does not hold it; use view.holders")
    if (plan.tokens <= 0).any():
        faults.append("has a task without tokens; leave it out")
    if not np.array_equal(np.bincount(plan.expert, plan.tokens, len(view.counts)).astype(np.int64), view.counts):
        faults.append("does not compute every token once; hand out view.counts")
    if len(np.unique(plan.expert * view.num_dies + plan.die)) != len(plan.expert):
        faults.append("has an (expert, die) twice; merge the tasks")
    if faults:
        raise ConfigError(*(f"policy {policy}: its plan of layer {view.layer} {fault}" for fault in faults))


def _room(placed: BoolArray, experiment: Experiment, wafer: Wafer) -> FloatArray:
    """Return the bytes each die has left for copies, [dies]; placed experts of all layers count, run or not."""
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
        if need.max() * experiment.model.expert_bytes(name) / expert_bytes <= wafer.usable_hbm  # type: ignore[arg-type]
    ]
    advice = f"precision {' or '.join(fitting)} fits" if fitting else "no precision of this die fits"
    dies = int(np.ceil(total / wafer.usable_hbm))
    raise CapacityError(
        f"{experiment.model.name} in {experiment.precision} does not fit {experiment.wafer.name}: its routed experts "
        f"are {total:.0f} bytes ({BYTES_PER_WEIGHT[experiment.precision]:g} B a weight), "
        f"usable HBM is {usable:.0f} bytes, "
        f"short by {max(total - usable, 0):.0f} bytes in all and {short:.0f} bytes on the fullest die; {advice}, "
        f"or at least {dies} such dies"
    )


def layer_indices(experiment: Experiment) -> tuple[int, ...]:
    """Return the places, among all MoE layers, of those that are run."""
    place = {layer: i for i, layer in enumerate(experiment.model.moe_layers)}
    return tuple(place[layer] for layer in experiment.layers_run)
