"""Placement: on which dies the experts of each layer are put before the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from wss.errors import CHECKED
from wss.records import BoolArray, IntArray


class Placement(Protocol):
    """Puts every expert of every layer on at least one die."""

    def place(self, num_layers: int, num_experts: int, hops: IntArray) -> BoolArray:
        """Return which dies hold each expert, [layers, experts, dies]; *hops* is [dies, dies]."""
        ...


@dataclass(frozen=True, kw_only=True)
class Contiguous:
    """Equal numbers of experts a die, neighbours in number together, the same in every layer.

    Expert e lives on die e // floor(E/D); the experts left over go to die e mod D, one each. This is
    the layout of expert parallelism and of the paper's simulator.
    """

    __pydantic_config__ = CHECKED

    def place(self, num_layers: int, num_experts: int, hops: IntArray) -> BoolArray:
        """Return the layout, [layers, experts, dies]."""
        num_dies = len(hops)
        each = num_experts // num_dies
        expert = np.arange(num_experts)
        home = np.where(expert < each * num_dies, expert // max(each, 1), expert % num_dies)
        holders = np.zeros((num_layers, num_experts, num_dies), np.bool_)
        holders[:, expert, home] = True
        return holders


PLACEMENTS: dict[str, type[Placement]] = {"contiguous": Contiguous}
