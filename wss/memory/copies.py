"""Copies of remote experts on the dies: who holds them, what is admitted and evicted. A copy is a whole expert."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from wss.errors import CapacityError
from wss.memory.hbm import HbmBudget
from wss.policies import Caching, Pool, Signal
from wss.records import BoolArray, FloatArray, IntArray, Plan


class ExpertCopies:
    """Copies on all dies, within capacity.

    Parameters
    ----------
    placed
        Dies with a replica of each expert, [layers, experts, dies].
    budget
        The account of each HBM, in which copies and buffers are entered.
    rule, evict
        The caching rule, and how it is called: with a pool and a count, for the indices to evict.
    """

    def __init__(
        self, placed: BoolArray, budget: HbmBudget, rule: Caching, evict: Callable[[Pool, int], IntArray]
    ) -> None:
        self._placed = placed.copy()
        self.budget, self._rule, self._evict = budget, rule, evict
        layers, experts, dies = placed.shape
        self._last_use: IntArray = np.full((dies, layers * experts), -1, np.int64)
        self._uses: IntArray = np.zeros((dies, layers * experts), np.int64)
        self._signals: dict[Signal, FloatArray] = {s: np.zeros((dies, layers * experts)) for s in rule.signals}
        self._resident: list[IntArray] = [np.zeros(0, np.int64)] * dies  # per die: its copies' indices, ascending
        self._holds: BoolArray = placed.copy()
        self._layer_run = 0
        self._slots: IntArray = budget.fitting_copies()
        self.evictions = 0

    def holders(self, layer: int) -> BoolArray:
        """Return which dies hold each expert of *layer*, as a replica or a copy, [experts, dies]."""
        holders: BoolArray = self._holds[layer].copy()
        return holders

    def update_placement(self, layer: int, placed: BoolArray) -> None:
        """Update the placement of *layer* to *placed* [experts, dies], between two layer runs.

        Copies on dies that now have a replica stop counting as copies. Copies that no longer fit are evicted.
        """
        self._layer_run += 1
        freed = placed & self._holds[layer] & ~self._placed[layer]
        self._holds[layer] = placed | (self._holds[layer] & ~self._placed[layer])
        self._placed[layer] = placed
        for die in np.flatnonzero(freed.any(axis=0)).tolist():
            self._last_use[die, layer * len(placed) + np.flatnonzero(freed[:, die])] = -1
            self._resident[die] = self._resident[die][self._last_use[die, self._resident[die]] >= 0]
            self.budget.copies[die] = len(self._resident[die])
        self._slots = self.budget.fitting_copies()
        for die in np.flatnonzero(self.budget.copies > self._slots).tolist():
            self._choose(die, np.zeros(0, np.int64))

    def admit(
        self,
        layer: int,
        plan: Plan,
        selected: BoolArray,
        buffers: FloatArray,
        signals: Mapping[Signal, FloatArray] = MappingProxyType({}),
    ) -> BoolArray:
        """Record the uses of layer run *plan*, evict as needed, and return which tasks may keep a copy, [tasks].

        New copies count as held at once. As each layer runs once per step, they are used from the next step on. If
        they do not all fit, the caching rule selects which copies to evict or not to write. Copies that this layer run
        reads are never evicted for the experts it fetches. Activation *buffers* (bytes, [dies]) evict copies too.
        *signals* are those of the caching rule for this layer's experts, [dies, experts] each.

        Raises
        ------
        CapacityError
            If the buffers do not fit beside the die's own experts and the copies that this layer run reads.
        """
        self._layer_run += 1
        experts = self._placed.shape[1]
        used = ~self._placed[layer, plan.expert, plan.source]
        index = layer * experts + plan.expert
        self._last_use[plan.source[used], index[used]] = self._layer_run
        self._uses[np.concatenate([plan.die, plan.source]), np.tile(index, 2)] += (
            1  # one use, even if both are the same die
        )
        for signal, value in signals.items():
            self._signals[signal][:, layer * experts : (layer + 1) * experts] = value
        selected = selected & ~self._holds[layer, plan.expert, plan.die]
        self.budget.buffers = buffers
        self._slots = self.budget.fitting_copies()
        nothing = np.zeros(0, np.int64)
        for die in np.flatnonzero(self.budget.copies > self._slots).tolist():
            self._choose(die, nothing)
            if self.budget.copies[die] > self._slots[die]:
                taken = self.budget.copies[die] * self.budget.expert_bytes
                raise CapacityError(
                    f"die {die}: {buffers[die]:.0f} bytes of activation buffers and {taken:.0f} bytes of copies that "
                    f"the layer run reads do not fit the {self.budget.beside_experts[die]:.0f} bytes that experts and "
                    "reserve leave of its HBM; give a smaller batch, or a policy that spreads tokens more evenly"
                )
        admitted = np.zeros(len(plan.expert), np.bool_)
        chosen = np.flatnonzero(selected)
        die_of = plan.die[chosen]
        for die in np.flatnonzero(np.bincount(die_of)).tolist():
            tasks = chosen[die_of == die]
            kept = tasks[self._choose(die, index[tasks])]
            admitted[kept] = True
            self._keep(die, index[kept])
        return admitted

    def _keep(self, die: int, experts: IntArray) -> None:
        """Add copies of the experts with indices *experts* to *die*, used now."""
        self._last_use[die, experts] = self._layer_run
        self._holds.reshape(-1, self._placed.shape[2])[experts, die] = True
        self._resident[die] = np.sort(np.concatenate([self._resident[die], experts]))
        self.budget.copies[die] += len(experts)

    def _choose(self, die: int, new: IntArray) -> BoolArray:
        """Evict copies of *die* to fit those with indices *new*, and return which of the new ones are kept, [new]."""
        admitted = np.ones(len(new), np.bool_)
        short = int(self.budget.copies[die] + len(new) - self._slots[die])
        if short <= 0:
            return admitted
        resident, ages = self._resident[die], self._last_use[die]
        may_go = resident[ages[resident] < self._layer_run] if self._rule.pins_reads else resident
        candidates = np.concatenate([may_go, new[::-1]])
        count = min(short, len(candidates))
        stays = np.ones(len(candidates), np.bool_)
        stays[self._evict(self._pool(die, candidates, len(may_go)), count)] = False
        self._drop(die, may_go[~stays[: len(may_go)]])
        admitted[:] = stays[len(may_go) :][::-1]
        return admitted

    def _pool(self, die: int, candidates: IntArray, held: int) -> Pool:
        """Return the pool of *die* with the experts *candidates*, read-only; the first *held* are not new."""
        new = np.arange(len(candidates)) >= held
        pool = Pool(
            signals={signal: value[die, candidates] for signal, value in self._signals.items()},
            new=new,
            last_use=np.where(new, self._layer_run, self._last_use[die, candidates]),
            uses=self._uses[die, candidates],
        )
        for array in (pool.new, pool.last_use, pool.uses, *pool.signals.values()):
            array.flags.writeable = False
        return pool

    def _drop(self, die: int, gone: IntArray) -> None:
        """Remove the copies with indices *gone* from *die*."""
        ages, resident = self._last_use[die], self._resident[die]
        ages[gone] = -1
        self._holds.reshape(-1, self._placed.shape[2])[gone, die] = False
        self._resident[die] = resident[ages[resident] >= 0]
        self.budget.copies[die] -= len(gone)
        self.evictions += len(gone)
