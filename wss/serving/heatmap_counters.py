"""Counters of the heatmap that the paper's hardware could not hold."""

from __future__ import annotations

import numpy as np

from wss.records import FloatArray, IntArray

FULL_COUNTER = 2**16 - 1  # of 16 bits (the paper's table II)


class FullCounters:
    """How many counters of one policy's heatmaps have passed 16 bits, layer by layer."""

    def __init__(self) -> None:
        self._full: dict[int, int] = {}

    def take(self, layer: int, heat: IntArray | FloatArray) -> None:
        """Note the counters of *layer* as they stand, [experts, experts]."""
        self._full[layer] = int(np.count_nonzero(heat > FULL_COUNTER))

    def notes(self, policy: str) -> list[str]:
        """Return what a reader should know, if there are any."""
        full = sum(self._full.values())
        if not full:
            return []
        return [
            f"{policy}: {full} counters of the heatmap are beyond {FULL_COUNTER}, where the paper's, of 16 bits, are "
            "full; here they count on"
        ]
