"""Current and target placement of experts during migration, within the HBM of each die.

A new replica is *missing* until the die has free bytes for it, then *incoming* until its last byte has arrived. The
weights are sent to a die once, whatever its number of replicas; further replicas are copied inside its HBM at no cost.
An expert's old replicas are dropped once none of its new ones is missing or incoming, so every expert always has a die.
"""

from __future__ import annotations

import numpy as np

from wss.memory.copies import ExpertCopies
from wss.records import BoolArray, IntArray


class ExpertMap:
    """Placement of the experts in the layers that are run.

    Parameters
    ----------
    placed
        Initial replicas of each expert on each die, [layers, experts, dies].
    copies
        Copies on the dies: updated at every change, and evicted for incoming experts. Their account of each HBM has the
        placed experts of all layers, run or not.
    """

    def __init__(self, placed: IntArray, copies: ExpertCopies) -> None:
        self._placed: IntArray = placed.astype(np.int64)
        self._target: IntArray = self._placed.copy()
        self._incoming: BoolArray = np.zeros(placed.shape, np.bool_)
        self._primary_dies: IntArray = (placed > 0).argmax(axis=2)
        self.copies, self.budget = copies, copies.budget
        self._slots: IntArray = self._placed.sum(axis=1)  # slots of each layer on each die, [layers, dies]

    @property
    def placed(self) -> IntArray:
        """Current replicas of each expert on each die, [layers, experts, dies]; changes during migration."""
        return self._placed

    @property
    def incoming(self) -> BoolArray:
        """Which experts are in transfer to which dies, [layers, experts, dies]; changes during migration."""
        return self._incoming

    @property
    def missing(self) -> BoolArray:
        """Which experts wait for free bytes on which dies, [layers, experts, dies]."""
        missing: BoolArray = (self._target > self._placed) & ~self._incoming
        return missing

    def primary_dies(self, layer: int) -> IntArray:
        """Return the home of each expert of *layer*, the lowest die with a replica, [experts]."""
        primary_dies: IntArray = self._primary_dies[layer]
        return primary_dies

    def set_target(self, target: IntArray) -> None:
        """Set the target placement, [layers, experts, dies]; cancel transfers that are no longer needed. Start none.

        A transfer continues if the die still needs the expert, with no more replicas than before.
        """
        self._incoming &= (target > self._placed) & (target <= self._target)
        self._target = target.copy()
        for layer in range(len(target)):
            self._settle(layer)

    def start_transfers(self, layer: int, spare: float) -> None:
        """Start the transfers of *layer* that fit, lowest expert index first; *spare* bytes of each die stay free.

        A die that already holds a copy or a replica of the expert needs no transfer: its replicas are placed at once.
        """
        target, placed = self._target[layer], self._placed[layer]
        missing = np.where(self._incoming[layer], 0, np.clip(target - placed, 0, None))
        fits = (missing > 0) & (np.cumsum(missing, axis=0) <= self.budget.fitting_experts(spare))
        here = fits & self.copies.holders(layer)
        placed[here] = target[here]
        self._incoming[layer] |= fits & ~here
        self._settle(layer)

    def complete_transfers(self, layer: int, experts: IntArray, dies: IntArray) -> None:
        """Place *experts* of *layer* on *dies*, where their transfers are complete, [arrived] each."""
        self._placed[layer, experts, dies] = self._target[layer, experts, dies]
        self._incoming[layer, experts, dies] = False
        self._settle(layer)

    def _settle(self, layer: int) -> None:
        """Drop old replicas of experts in *layer* whose new replicas have all arrived; update the HBM account."""
        placed, target = self._placed[layer], self._target[layer]
        done = ~(target > placed).any(axis=1)
        placed[done] = target[done]
        self._primary_dies[layer] = (placed > 0).argmax(axis=1)
        slots = np.where(self._incoming[layer], target, placed).sum(axis=0)
        self.budget.reserve_experts(slots - self._slots[layer])
        self._slots[layer] = slots
        self.copies.update_placement(layer, placed > 0)
