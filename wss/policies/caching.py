"""Caching: which copies of remote experts a die gives up when the HBM left for them is full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from wss.errors import CHECKED
from wss.records import IntArray


class Caching(Protocol):
    """Chooses among the copies of one die; a pure function."""

    def victims(self, last_use: IntArray, count: int) -> IntArray:
        """Return the places of *count* copies to give up.

        *last_use* is, for each copy that may go, the number of the kernel that last used it, [copies].
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Lru:
    """Least recently used first; of equals the lower layer, then the lower expert."""

    __pydantic_config__ = CHECKED

    def victims(self, last_use: IntArray, count: int) -> IntArray:
        """Return the *count* places of smallest last use."""
        return np.argsort(last_use, kind="stable")[:count]


CACHINGS: dict[str, type[Caching]] = {"lru": Lru}
