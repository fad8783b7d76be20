"""Current and target placement of experts during migration, within the HBM of each die.

A new replica is *missing* until the die has free bytes for it, then *coming* until its last byte has arrived. The
weights are sent to a die once, whatever its number of replicas; further replicas are copied inside its HBM at no cost.
An expert's old replicas are dropped once none of its new ones is missing or coming, so every expert always has a die.
"""

from __future__ import annotations

import numpy as np

from wss.memory.copies import ExpertCopies
from wss.records import BoolArray, FloatArray, IntArray


class ExpertMap:
    """Placement of the experts in the layers that are run.

    Parameters
    ----------
    placed
        Initial replicas of each expert on each die, [layers, experts, dies].
    usable
        Bytes per die for weights and copies.
    room
        Bytes that the placed experts of all layers, run or not, leave of *usable*, [dies].
    expert_bytes
        Bytes of one expert, times the number of layers that a sampled layer stands for.
    copies
        Copies on the dies: updated at every change, and evicted for incoming experts.
    """

    def __init__(
        self, placed: IntArray, usable: float, room: FloatArray, expert_bytes: float, copies: ExpertCopies
    ) -> None:
        self._placed: IntArray = placed.astype(np.int64)
        self._target: IntArray = self._placed.copy()
        self._coming: BoolArray = np.zeros(placed.shape, np.bool_)
        self._first: IntArray = (placed > 0).argmax(axis=2)
        self._usable, self._room, self._expert_bytes, self._copies = usable, room, expert_bytes, copies
        self._taken: IntArray = self._placed.sum(axis=1)  # slots of each layer on each die, [layers, dies]

    @property
    def placed(self) -> IntArray:
        """Current replicas of each expert on each die, [layers, experts, dies]; changes during migration."""
        return self._placed

    @property
    def coming(self) -> BoolArray:
        """Which experts are in transfer to which dies, [layers, experts, dies]; changes during migration."""
        return self._coming

    @property
    def missing(self) -> BoolArray:
        """Which experts wait for free bytes on which dies, [layers, experts, dies]."""
        missing: BoolArray = (self._target > self._placed) & ~self._coming
        return missing

    @property
    def taken(self) -> FloatArray:
        """Bytes on each die of placed and coming experts, all layers, [dies]."""
        taken: FloatArray = self._usable - self._room
        return taken

    def first(self, layer: int) -> IntArray:
        """Return the home of each expert of *layer*, the lowest die with a replica, [experts]."""
        first: IntArray = self._first[layer]
        return first

    def head_for(self, target: IntArray) -> None:
        """Set the target placement, [layers, experts, dies]; cancel transfers that are no longer needed. Start none.

        A transfer continues if the die still needs the expert, with no more replicas than before.
        """
        self._coming &= (target > self._placed) & (target <= self._target)
        self._target = target.copy()
        for layer in range(len(target)):
            self._settle(layer)

    def set_out(self, layer: int, reserve: float) -> None:
        """Start the transfers of *layer* that fit, lowest expert index first; *reserve* bytes of each die stay free.

        A die that already holds a copy or a replica of the expert needs no transfer: its replicas are placed at once.
        """
        target, placed = self._target[layer], self._placed[layer]
        missing = np.where(self._coming[layer], 0, np.clip(target - placed, 0, None))
        free = np.floor((self._room - reserve) / self._expert_bytes)
        fits = (missing > 0) & (np.cumsum(missing, axis=0) <= free)
        here = fits & self._copies.holders(layer)
        placed[here] = target[here]
        self._coming[layer] |= fits & ~here
        self._settle(layer)

    def land(self, layer: int, experts: IntArray, dies: IntArray) -> None:
        """Place *experts* of *layer* on *dies*, where their transfers are complete, [arrived] each."""
        self._placed[layer, experts, dies] = self._target[layer, experts, dies]
        self._coming[layer, experts, dies] = False
        self._settle(layer)

    def _settle(self, layer: int) -> None:
        """Drop old replicas of experts in *layer* whose new replicas have all arrived; update the HBM account."""
        placed, target = self._placed[layer], self._target[layer]
        done = ~(target > placed).any(axis=1)
        placed[done] = target[done]
        self._first[layer] = (placed > 0).argmax(axis=1)
        taken = np.where(self._coming[layer], target, placed).sum(axis=0)
        self._room = self._room - (taken - self._taken[layer]) * self._expert_bytes
        self._taken[layer] = taken
        self._copies.rehome(layer, placed > 0, self._room)
