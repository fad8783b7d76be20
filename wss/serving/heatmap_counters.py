"""Heatmap counters that would overflow in the paper's hardware."""

from __future__ import annotations

import numpy as np

from wss.records import FloatArray, IntArray

FULL_COUNTER = 2**16 - 1  # largest value of a 16-bit counter (the paper's table II)


class FullCounters:
    """Number of counters of one policy's heatmaps that exceed 16 bits, per layer."""

    def __init__(self) -> None:
        self._full: dict[int, int] = {}

    def take(self, layer: int, counts: IntArray | FloatArray) -> None:
        """Record the current *counts* of *layer*, [experts, experts]."""
        self._full[layer] = int(np.count_nonzero(counts > FULL_COUNTER))

    def notes(self, policy: str) -> list[str]:
        """Return a note on counters that exceed 16 bits, if there are any."""
        full = sum(self._full.values())
        if not full:
            return []
        are = "counter of the heatmap is" if full == 1 else "counters of the heatmap are"
        return [
            f"{policy}: {full} {are} beyond {FULL_COUNTER}, where the paper's 16-bit counters are full; here they are "
            "not limited"
        ]
