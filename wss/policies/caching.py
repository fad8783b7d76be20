"""Caching: which copies of remote experts a die evicts when the HBM left for copies is full.

The copies a die holds and those it is about to write form one pool. If the rule selects a copy that is about to be
written, the copy is not admitted: nothing is written, and the held copies stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from wss.errors import CHECKED
from wss.records import BoolArray, FloatArray, IntArray

CACHING_NEEDS = ("nothing", "expected", "next")


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool:
    """The copies that one die can keep or evict, [copies] each.

    Held copies come first, by layer, then expert; then those about to be written, the die's last task first.

    Attributes
    ----------
    new
        Whether the copy is about to be written.
    last_use
        Index of the layer run that last used it; for new copies, that of the current layer run.
    uses
        How many layer runs have used the expert on this die, fetched or held, since the run began.
    foreseen
        What the rule `needs`, as of the last layer run of the expert's layer. With ``needs = "expected"``: the
        predicted use in the layer's next layer run. With ``needs = "next"``, for oracles only: the index of the layer
        run in which the die computes the expert next, infinite for never. Otherwise zero.
    """

    new: BoolArray
    last_use: IntArray
    uses: IntArray
    foreseen: FloatArray


class Caching(Protocol):
    """Selects copies of one die to evict; a pure function.

    No pool contains an expert that the current layer run reads, because its copy must not be overwritten meanwhile. A
    rule that is a bound, not a policy, may include such copies: it sets the class attribute `pins` to False.
    """

    def victims(self, pool: Pool, count: int) -> IntArray:
        """Return the indices in the *pool* of *count* copies to evict, or not to write."""
        ...


@dataclass(frozen=True, kw_only=True)
class Lru:
    """Least recently used first; ties: the lower layer, then the lower expert. All new copies are admitted."""

    __pydantic_config__ = CHECKED

    def victims(self, pool: Pool, count: int) -> IntArray:
        """Return the indices of the *count* least recently used copies."""
        return np.argsort(pool.last_use, kind="stable")[:count]


@dataclass(frozen=True, kw_only=True)
class Lfu:
    """Least frequently used on the die first; ties: new copies, then the least recently used."""

    __pydantic_config__ = CHECKED

    def victims(self, pool: Pool, count: int) -> IntArray:
        """Return the indices of the *count* least used copies."""
        return np.lexsort((pool.last_use, ~pool.new, pool.uses))[:count]


@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """The least predicted use first; ties: new copies, then the least recently used."""

    __pydantic_config__ = CHECKED

    needs: ClassVar[str] = "expected"

    def victims(self, pool: Pool, count: int) -> IntArray:
        """Return the indices of the *count* copies with the least predicted use."""
        return np.lexsort((pool.last_use, ~pool.new, pool.foreseen))[:count]


@dataclass(frozen=True, kw_only=True)
class Belady:
    """The latest next use first; ties: new copies. An oracle: it uses the decode steps to come.

    No rule fetches less often if a die's use of experts does not depend on who holds copies, and if all fetched experts
    are offered. A copy kept from one use to the next saves a fetch and takes a slot for that interval. If more
    intervals overlap than slots exist, dropping the one that ends last leaves the most room for the others (Belady,
    1966). For this, the rule may evict an expert that the current layer run reads; other rules must not.
    """

    __pydantic_config__ = CHECKED

    needs: ClassVar[str] = "next"
    pins: ClassVar[bool] = False

    def victims(self, pool: Pool, count: int) -> IntArray:
        """Return the indices of the *count* copies with the latest next use."""
        return np.lexsort((~pool.new, -pool.foreseen))[:count]


CACHINGS: dict[str, type[Caching]] = {"lru": Lru, "lfu": Lfu, "heatmap": Heatmap, "belady": Belady}
