"""Copies of remote experts on the dies: free bytes, last use, and holders.

Caching policies work on this state. A copy is a whole expert of one layer. The bytes for copies are the die's usable
HBM less its own experts, less the activation buffers of the layer run. Alternatively the HBM's reserve is set aside for
copies, and buffers do not compete with them.
"""

from __future__ import annotations

import numpy as np

from wss.errors import CapacityError
from wss.policies.caching import Caching, Pool
from wss.records import BoolArray, FloatArray, IntArray, Plan


class ExpertCopies:
    """Copies on all dies, within capacity.

    Parameters
    ----------
    placed
        Dies with a replica of each expert, [layers, experts, dies].
    room
        Bytes each die has for copies and activation buffers, [dies].
    expert_bytes
        Bytes of one expert, times the number of layers that a sampled layer stands for.
    caching
        Selects the copies to evict.
    reserve
        Bytes of each die that are set aside for copies; None if copies and buffers share *room*.
    """

    def __init__(
        self,
        placed: BoolArray,
        room: FloatArray,
        expert_bytes: float,
        caching: Caching,
        reserve: float | None = None,
    ) -> None:
        self._placed = placed.copy()
        self._caching = caching
        self._pins = bool(getattr(caching, "pins", True))
        layers, experts, dies = placed.shape
        self._last_use: IntArray = np.full((dies, layers * experts), -1, np.int64)
        self._uses: IntArray = np.zeros((dies, layers * experts), np.int64)
        self._foreseen: FloatArray = np.zeros((dies, layers * experts))
        self._kept: list[IntArray] = [np.zeros(0, np.int64)] * dies  # per die: its copies' indices, ascending
        self._holds: BoolArray = placed.copy()
        self._held: IntArray = np.zeros(placed.shape[2], np.int64)
        self._layer_run = 0
        self._room, self._expert_bytes, self._reserve = room, expert_bytes, reserve
        self._slots: IntArray = self._slots_beside(np.zeros(dies))
        self.evictions = 0

    @property
    def held(self) -> IntArray:
        """Number of copies on each die, [dies]."""
        return self._held.copy()

    def holders(self, layer: int) -> BoolArray:
        """Return which dies hold each expert of *layer*, as a replica or a copy, [experts, dies]."""
        holders: BoolArray = self._holds[layer].copy()
        return holders

    @property
    def slots(self) -> IntArray:
        """Number of copies that fit on each die beside the buffers of the last layer run, [dies]."""
        return self._slots.copy()

    def _slots_beside(self, buffers: FloatArray) -> IntArray:
        """Return how many copies fit on each die beside *buffers* bytes, [dies]; negative if the buffers do not fit."""
        room = self._room - buffers
        if self._reserve is not None:
            room = np.where(room >= 0, self._reserve, room)
        slots: IntArray = np.floor(room / self._expert_bytes).astype(np.int64)
        return slots

    def rehome(self, layer: int, placed: BoolArray, room: FloatArray) -> None:
        """Update the placement of *layer* to *placed* [experts, dies], between two layer runs.

        Copies on dies that now have a replica stop counting as copies. *room* [dies] is the bytes left for copies;
        copies that no longer fit are evicted.
        """
        self._layer_run += 1
        freed = placed & self._holds[layer] & ~self._placed[layer]
        self._holds[layer] = placed | (self._holds[layer] & ~self._placed[layer])
        self._placed[layer] = placed
        for die in np.flatnonzero(freed.any(axis=0)).tolist():
            self._last_use[die, layer * len(placed) + np.flatnonzero(freed[:, die])] = -1
            self._kept[die] = self._kept[die][self._last_use[die, self._kept[die]] >= 0]
            self._held[die] = len(self._kept[die])
        self._room = room
        self._slots = self._slots_beside(np.zeros(len(room)))
        for die in np.flatnonzero(self._held > self._slots).tolist():
            self._choose(die, np.zeros(0, np.int64))

    def admit(
        self, layer: int, plan: Plan, wanted: BoolArray, buffers: FloatArray, foreseen: FloatArray | None = None
    ) -> BoolArray:
        """Record the uses of layer run *plan*, evict as needed, and return which tasks may keep a copy, [tasks].

        New copies count as held at once. As each layer runs once per step, they are used from the next step on. If
        they do not all fit, the caching rule selects which copies to evict or not to write. Copies that this layer run
        reads are never evicted for the experts it fetches. Activation *buffers* (bytes, [dies]) evict copies too.
        *foreseen* [dies, experts] is the signal that the caching rule `needs` for this layer's experts.

        Raises
        ------
        CapacityError
            If the buffers do not fit beside the die's own experts and the copies that this layer run reads.
        """
        self._layer_run += 1
        experts = self._placed.shape[1]
        used = ~self._placed[layer, plan.expert, plan.source]
        place = layer * experts + plan.expert
        self._last_use[plan.source[used], place[used]] = self._layer_run
        self._uses[np.concatenate([plan.die, plan.source]), np.tile(place, 2)] += (
            1  # one use, even if both are the same die
        )
        if foreseen is not None:
            self._foreseen[:, layer * experts : (layer + 1) * experts] = foreseen
        wanted = wanted & ~self._holds[layer, plan.expert, plan.die]
        self._slots = self._slots_beside(buffers)
        nothing = np.zeros(0, np.int64)
        for die in np.flatnonzero(self._held > self._slots).tolist():
            self._choose(die, nothing)
            if self._held[die] > self._slots[die]:
                taken = self._held[die] * self._expert_bytes
                raise CapacityError(
                    f"die {die}: {buffers[die]:.0f} bytes of activation buffers and {taken:.0f} bytes of copies that "
                    f"the layer run reads do not fit the {self._room[die]:.0f} bytes that experts and reserve leave of "
                    "its HBM; give a smaller batch, or a policy that spreads tokens more evenly"
                )
        admitted = np.zeros(len(plan.expert), np.bool_)
        asking = np.flatnonzero(wanted)
        die_of = plan.die[asking]
        for die in np.flatnonzero(np.bincount(die_of)).tolist():
            tasks = asking[die_of == die]
            kept = tasks[self._choose(die, place[tasks])]
            admitted[kept] = True
            self._keep(die, place[kept])
        return admitted

    def _keep(self, die: int, places: IntArray) -> None:
        """Add copies of the experts with indices *places* to *die*, used now."""
        self._last_use[die, places] = self._layer_run
        self._holds.reshape(-1, len(self._held))[places, die] = True
        self._kept[die] = np.sort(np.concatenate([self._kept[die], places]))
        self._held[die] += len(places)

    def _choose(self, die: int, new: IntArray) -> BoolArray:
        """Evict copies of *die* to fit those with indices *new*, and return which of the new ones are kept, [new]."""
        admitted = np.ones(len(new), np.bool_)
        short = int(self._held[die] + len(new) - self._slots[die])
        if short <= 0:
            return admitted
        kept, ages = self._kept[die], self._last_use[die]
        may_go = kept[ages[kept] < self._layer_run] if self._pins else kept
        places = np.concatenate([may_go, new[::-1]])
        count = min(short, len(places))
        victims = np.asarray(self._caching.victims(self._pool(die, places, len(may_go)), count))
        is_places = victims.ndim == 1 and (victims.dtype.kind in "iu" or not victims.size)
        if not is_places or len(victims) != count or len(set(victims.tolist()) & set(range(len(places)))) != count:
            right = f"{count} different indices, whole numbers in 0..{len(places) - 1}"
            raise ValueError(f"evicts {victims.tolist()!r}; it should be {right}")
        stays = np.ones(len(places), np.bool_)
        stays[victims] = False
        self._drop(die, may_go[~stays[: len(may_go)]])
        admitted[:] = stays[len(may_go) :][::-1]
        return admitted

    def _pool(self, die: int, places: IntArray, held: int) -> Pool:
        """Return the eviction candidates of *die* with indices *places*, read-only; the first *held* are not new."""
        new = np.arange(len(places)) >= held
        pool = Pool(
            new=new,
            last_use=np.where(new, self._layer_run, self._last_use[die, places]),
            uses=self._uses[die, places],
            foreseen=self._foreseen[die, places],
        )
        for array in (pool.new, pool.last_use, pool.uses, pool.foreseen):
            array.flags.writeable = False
        return pool

    def _drop(self, die: int, gone: IntArray) -> None:
        """Remove the copies with indices *gone* from *die*."""
        ages, kept = self._last_use[die], self._kept[die]
        ages[gone] = -1
        self._holds.reshape(-1, len(self._held))[gone, die] = False
        self._kept[die] = kept[ages[kept] >= 0]
        self._held[die] -= len(gone)
        self.evictions += len(gone)
