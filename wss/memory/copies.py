"""The copies of remote experts that the dies hold: room for them, age, and who holds what.

This is the state that caching policies work on. A copy is a whole expert of one layer. Room is what is left of a die's
usable HBM when its own experts are in it; the activation buffers of a layer run come out of it first. Or the HBM's
reserve is set aside for copies, and buffers have that room to themselves.
"""

from __future__ import annotations

import numpy as np

from wss.errors import CapacityError
from wss.policies.caching import Caching, Pool
from wss.records import BoolArray, FloatArray, IntArray, Plan


class ExpertCopies:
    """Who holds what, within capacity.

    Parameters
    ----------
    placed
        Which dies hold each expert from the start, [layers, experts, dies].
    room
        Bytes each die has for copies and activation buffers, [dies].
    expert_bytes
        Bytes of one expert, times the layers that each layer here stands for, if they are a sample.
    caching
        Chooses what to give up.
    reserve
        Bytes of each die that are set aside for copies; None if they lie in the room.
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
        self._kept: list[IntArray] = [np.zeros(0, np.int64)] * dies  # places in the row of last uses, ascending
        self._holds: BoolArray = placed.copy()
        self._held: IntArray = np.zeros(placed.shape[2], np.int64)
        self._layer_run = 0
        self._room, self._expert_bytes, self._reserve = room, expert_bytes, reserve
        self._slots: IntArray = self._slots_beside(np.zeros(dies))
        self.evictions = 0

    @property
    def held(self) -> IntArray:
        """How many copies each die holds, [dies]."""
        return self._held.copy()

    def holders(self, layer: int) -> BoolArray:
        """Return which dies hold each expert of *layer*, placed or copied, [experts, dies]."""
        holders: BoolArray = self._holds[layer].copy()
        return holders

    @property
    def slots(self) -> IntArray:
        """How many copies each die has room for beside the buffers of the last layer run, [dies]."""
        return self._slots.copy()

    def _slots_beside(self, buffers: FloatArray) -> IntArray:
        """Return how many copies each die has room for beside *buffers* bytes, [dies]; below 0 if not even for them."""
        room = self._room - buffers
        if self._reserve is not None:
            room = np.where(room >= 0, self._reserve, room)
        slots: IntArray = np.floor(room / self._expert_bytes).astype(np.int64)
        return slots

    def rehome(self, layer: int, placed: BoolArray, room: FloatArray) -> None:
        """Take note, between two layer runs, that experts of *layer* are *placed* elsewhere now, [experts, dies].

        A copy of what is placed on the die now is none any more. *room* [dies] is what is left for copies; those for
        which it is too small are given up.
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
        """Note what the layer run *plan* of *layer* uses, make room, and return which tasks may keep a copy, [tasks].

        The copies count as held at once; as a layer has one layer run a step, they serve from the next step on. What
        this layer run reads is never given up for what it fetches: where room is short, the caching rule says which
        copies go, or are not written. Its activation *buffers* (bytes, [dies]) push copies out. *foreseen* is what the
        rule `needs` to know of this layer's experts, [dies, experts].

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
        self._uses[np.concatenate([plan.die, plan.source]), np.tile(place, 2)] += 1  # once, also where both are one
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
        """Note that *die* holds copies of the experts at *places*, used now."""
        self._last_use[die, places] = self._layer_run
        self._holds.reshape(-1, len(self._held))[places, die] = True
        self._kept[die] = np.sort(np.concatenate([self._kept[die], places]))
        self._held[die] += len(places)

    def _choose(self, die: int, new: IntArray) -> BoolArray:
        """Give up copies of *die* as room is short for those at the places *new*, and return which of these fit."""
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
            right = f"{count} different places, whole numbers in 0..{len(places) - 1}"
            raise ValueError(f"gave up {victims.tolist()!r}; it should be {right}")
        stays = np.ones(len(places), np.bool_)
        stays[victims] = False
        self._drop(die, may_go[~stays[: len(may_go)]])
        admitted[:] = stays[len(may_go) :][::-1]
        return admitted

    def _pool(self, die: int, places: IntArray, held: int) -> Pool:
        """Show what *die* may do without: copies at *places*, of which the first *held* are there, the others new."""
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
        """Note that *die* gives up the copies at the places *gone*."""
        ages, kept = self._last_use[die], self._kept[die]
        ages[gone] = -1
        self._holds.reshape(-1, len(self._held))[gone, die] = False
        self._kept[die] = kept[ages[kept] >= 0]
        self._held[die] -= len(gone)
        self.evictions += len(gone)
