"""Caching: which copies of remote experts a die evicts when the HBM left for copies is full.

The copies a die holds and those it is about to write form one pool. If the rule selects a copy that is about to be
written, the copy is not admitted: nothing is written, and the held copies stay.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wss.policies.parts import Caching
from wss.policies.signals import Signal
from wss.policies.views import Pool
from wss.records import IntArray


@dataclass(frozen=True, kw_only=True)
class Lru(Caching):
    """Evict the copy used least recently; all new copies are admitted.

    Ties: the lower layer, then the lower expert.
    """

    def evict(self, pool: Pool, count: int) -> IntArray:
        """Return the indices of the *count* least recently used copies."""
        return np.argsort(pool.last_use, kind="stable")[:count]


@dataclass(frozen=True, kw_only=True)
class Lfu(Caching):
    """Evict the copy that its die has used least often.

    Ties: new copies, then the least recently used.
    """

    def evict(self, pool: Pool, count: int) -> IntArray:
        """Return the indices of the *count* least used copies."""
        return np.lexsort((pool.last_use, ~pool.new, pool.uses))[:count]


@dataclass(frozen=True, kw_only=True)
class Heatmap(Caching):
    """Evict the copy with the least predicted use.

    Ties: new copies, then the least recently used.
    """

    signals = frozenset({Signal.EXPECTED_TOKENS})

    def evict(self, pool: Pool, count: int) -> IntArray:
        """Return the indices of the *count* copies with the least predicted use."""
        return np.lexsort((pool.last_use, ~pool.new, pool.expected_tokens))[:count]


@dataclass(frozen=True, kw_only=True)
class Belady(Caching):
    """An oracle: evict the copy that is used again last.

    Ties: new copies. It uses the decode steps to come. No rule fetches less often if a die's use of experts does not
    depend on who holds copies, and if all fetched experts are offered. A copy kept from one use to the next saves a
    fetch and takes a slot for that interval. If more intervals overlap than slots exist, dropping the one that ends
    last leaves the most room for the others (Belady, 1966). For this, the rule may evict an expert that the current
    layer run reads; other rules must not.
    """

    signals = frozenset({Signal.NEXT_USE})
    pins_reads = False

    def evict(self, pool: Pool, count: int) -> IntArray:
        """Return the indices of the *count* copies with the latest next use."""
        return np.lexsort((~pool.new, -pool.next_use))[:count]
