"""Where experts are placed now, and where they are on their way to, within every die's HBM.

An expert that is to lie elsewhere is *missing* there until a die has room for its replicas beside all that it holds,
then *coming* until its last byte is there. Weights come once to a die, however many replicas it is to hold; the further
ones are copied inside its HBM, at no charge. What an expert leaves, it leaves when none of its new homes is missing or
coming, so every expert lies on a die at any time.
"""

from __future__ import annotations

import numpy as np

from wss.memory.copies import ExpertCopies
from wss.records import BoolArray, FloatArray, IntArray


class ExpertMap:
    """The homes of the experts in the layers that are run.

    Parameters
    ----------
    placed
        Replicas of each expert on each die at first, [layers, experts, dies].
    usable, room
        Bytes for weights and copies, of a die, and what all experts placed, run or not, leave of it, [dies].
    expert_bytes
        Bytes of one expert, times the layers that each layer here stands for, if they are a sample.
    copies
        Gives way to experts that come, and is told of changes.
    """

    def __init__(
        self, placed: IntArray, usable: float, room: FloatArray, expert_bytes: float, copies: ExpertCopies
    ) -> None:
        self._placed: IntArray = placed.astype(np.int64)
        self._target: IntArray = self._placed.copy()
        self._coming: BoolArray = np.zeros(placed.shape, np.bool_)
        self._first: IntArray = (placed > 0).argmax(axis=2)
        self._usable, self._room, self._expert_bytes, self._copies = usable, room, expert_bytes, copies
        self._taken: IntArray = self._placed.sum(axis=1)  # slots that each layer takes on each die, [layers, dies]

    @property
    def placed(self) -> IntArray:
        """Replicas of each expert on each die now, [layers, experts, dies]; changes as they move."""
        return self._placed

    @property
    def coming(self) -> BoolArray:
        """Which experts are on their way to which dies, [layers, experts, dies]; changes as they move."""
        return self._coming

    @property
    def missing(self) -> BoolArray:
        """Which experts wait for room for replicas on which dies, [layers, experts, dies]."""
        missing: BoolArray = (self._target > self._placed) & ~self._coming
        return missing

    @property
    def taken(self) -> FloatArray:
        """Bytes on each die of experts placed there or coming, of all layers, [dies]."""
        taken: FloatArray = self._usable - self._room
        return taken

    def first(self, layer: int) -> IntArray:
        """Return the die of each expert of *layer*, the first where there are several, [experts]."""
        first: IntArray = self._first[layer]
        return first

    def head_for(self, target: IntArray) -> None:
        """Let replicas be placed as in *target*, [layers, experts, dies]; what need not come any more stops.

        What is on its way goes on if it has room for its replicas, as many as before or fewer. Nothing new sets out
        yet.
        """
        self._coming &= (target > self._placed) & (target <= self._target)
        self._target = target.copy()
        for layer in range(len(target)):
            self._settle(layer)

    def set_out(self, layer: int, reserve: float) -> None:
        """Let experts of *layer* set out for dies with room for them, the lower expert first.

        Where a die has a copy or a replica, that is the expert's new home at once. *reserve* bytes of each die stay
        free.
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
        """Take note that *experts* of *layer* have come to *dies*, [arrived] each."""
        self._placed[layer, experts, dies] = self._target[layer, experts, dies]
        self._coming[layer, experts, dies] = False
        self._settle(layer)

    def _settle(self, layer: int) -> None:
        """Let experts of *layer* that are where they should be leave where they need not be, and count anew."""
        placed, target = self._placed[layer], self._target[layer]
        done = ~(target > placed).any(axis=1)
        placed[done] = target[done]
        self._first[layer] = (placed > 0).argmax(axis=1)
        taken = np.where(self._coming[layer], target, placed).sum(axis=0)
        self._room = self._room - (taken - self._taken[layer]) * self._expert_bytes
        self._taken[layer] = taken
        self._copies.rehome(layer, placed > 0, self._room)
