"""Caching: which copies of remote experts a die does without when the HBM left for them is full.

Held copies and those about to be written are one pool. A rule that gives up what is about to be written does not admit
it: nothing is written, and what is held stays.
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
    """The copies that one die can keep or do without, [copies] each.

    Those that it holds come first, by layer, then expert; then those it is about to write, its last task first.

    Attributes
    ----------
    new
        Which are about to be written.
    last_use
        The number of the layer run that last used it; of new ones that of the layer run at hand.
    uses
        How many layer runs have used the expert on this die, fetched or held, since the run began.
    foreseen
        What the rule `needs` to know, as it was told when the expert's layer last ran: with ``needs = "expected"`` what
        the prediction expects of the layer's next layer run; with ``needs = "next"`` the number of the layer run in
        which the die will compute the expert next, infinite for never, which only an oracle knows; else zero.
    """

    new: BoolArray
    last_use: IntArray
    uses: IntArray
    foreseen: FloatArray


class Caching(Protocol):
    """Chooses among the copies of one die; a pure function.

    What the layer run at hand reads is in no pool: it cannot be overwritten meanwhile. A rule that is no policy but a
    bound may have it there, with a class attribute `pins` of False.
    """

    def victims(self, pool: Pool, count: int) -> IntArray:
        """Return the places in the *pool* of *count* copies to give up, or not to write."""
        ...


@dataclass(frozen=True, kw_only=True)
class Lru:
    """Least recently used first; of equals the lower layer, then the lower expert. All that is new is admitted."""

    __pydantic_config__ = CHECKED

    def victims(self, pool: Pool, count: int) -> IntArray:
        """Return the *count* places of smallest last use."""
        return np.argsort(pool.last_use, kind="stable")[:count]


@dataclass(frozen=True, kw_only=True)
class Lfu:
    """Least frequently used on the die first; of equals what is new, then the least recently used."""

    __pydantic_config__ = CHECKED

    def victims(self, pool: Pool, count: int) -> IntArray:
        """Return the *count* places of fewest uses."""
        return np.lexsort((pool.last_use, ~pool.new, pool.uses))[:count]


@dataclass(frozen=True, kw_only=True)
class Heatmap:
    """What the prediction expects least of first; of equals what is new, then the least recently used."""

    __pydantic_config__ = CHECKED

    needs: ClassVar[str] = "expected"

    def victims(self, pool: Pool, count: int) -> IntArray:
        """Return the *count* places of which least is expected."""
        return np.lexsort((pool.last_use, ~pool.new, pool.foreseen))[:count]


@dataclass(frozen=True, kw_only=True)
class Belady:
    """What is used again last first; of equals what is new. An oracle: it knows the decode steps to come.

    Where a die's use of experts does not depend on who holds copies, and all that is fetched is offered, no rule
    fetches less often. A copy from one use to the next saves a fetch and takes a slot meanwhile: when more meet than
    fit, giving up the one that ends last leaves most room to the others (Belady, 1966). For that it may give up what
    the layer run at hand reads, which other rules must not.
    """

    __pydantic_config__ = CHECKED

    needs: ClassVar[str] = "next"
    pins: ClassVar[bool] = False

    def victims(self, pool: Pool, count: int) -> IntArray:
        """Return the *count* places of latest next use."""
        return np.lexsort((~pool.new, -pool.foreseen))[:count]


CACHINGS: dict[str, type[Caching]] = {"lru": Lru, "lfu": Lfu, "heatmap": Heatmap, "belady": Belady}
