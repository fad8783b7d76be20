"""Allocation: which die computes how many tokens of which expert, and from where it reads the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import numpy as np
from annotated_types import Ge, Le

from wss.errors import CHECKED
from wss.policies.allocation.algorithm1 import algorithm1
from wss.policies.allocation.nearest_replica import Nearest
from wss.policies.balanced.policy import Balanced
from wss.policies.replicas import equal_parts
from wss.policies.views import LayerView
from wss.records import IntArray, Plan

BLOCK = 50  # tokens


class Allocation(Protocol):
    """Hands out the tokens of one layer run; a pure function of what it sees."""

    def allocate(self, view: LayerView) -> Plan:
        """Return tasks that compute every token once, no (expert, die) twice; nothing is copied yet."""
        ...


def _plan(view: LayerView, expert: IntArray, die: IntArray, tokens: IntArray, source: IntArray) -> Plan:
    """Make a plan that copies nothing; a die that holds the expert reads its own."""
    own = view.holders[expert, die]
    return Plan(
        expert=expert,
        die=die,
        tokens=tokens,
        source=np.where(own, die, source),
        copy=np.zeros(len(expert), np.bool_),
    )


def even_stretches(order: IntArray, counts: IntArray, num_dies: int) -> tuple[IntArray, IntArray, IntArray]:
    """Cut all tokens, in the *order* of their experts, into an equal stretch a die.

    Returns
    -------
    tuple
        Expert, die and tokens of each piece, [pieces] each. *counts* is tokens of each expert, [experts].
    """
    ends = np.cumsum(counts[order])
    cuts = np.arange(1, num_dies + 1) * ends[-1] // num_dies
    stops = np.union1d(ends, cuts[cuts > 0])
    tokens = np.diff(stops, prepend=0)
    return order[np.searchsorted(ends, stops)], np.searchsorted(cuts, stops), tokens


@dataclass(frozen=True, kw_only=True)
class Home:
    """Expert parallelism: every expert is computed where it was placed, and no weights move."""

    __pydantic_config__ = CHECKED

    def allocate(self, view: LayerView) -> Plan:
        """Return one task an expert."""
        die = view.home[view.order]
        return _plan(view, view.order, die, view.counts[view.order], die)


@dataclass(frozen=True, kw_only=True)
class Even:
    """Expert parallelism with replicas: an expert's tokens split evenly over its replicas, as engines split them.

    A die with two replicas of an expert computes two parts of its tokens, as one task. Where tokens that do not divide
    go is told in `replicas`; no weights move.
    """

    __pydantic_config__ = CHECKED

    def allocate(self, view: LayerView) -> Plan:
        """Return a task for each holder that has tokens."""
        tokens = equal_parts(view.counts, view.replicas)[view.order]
        place, die = np.nonzero(tokens)
        return _plan(view, view.order[place], die, tokens[place, die], die)


@dataclass(frozen=True, kw_only=True)
class InTurn:
    """The location-oblivious GPU: whole experts in turn, the i-th first-seen expert on die (i + offset) mod D.

    A die without the expert reads it from its home.
    """

    __pydantic_config__ = CHECKED

    offset: Annotated[int, Ge(0), Le(10**6)] = 7

    def allocate(self, view: LayerView) -> Plan:
        """Return one task an expert."""
        die = (np.arange(len(view.order)) + self.offset) % view.num_dies
        return _plan(view, view.order, die, view.counts[view.order], view.home[view.order])


@dataclass(frozen=True, kw_only=True)
class Chunked:
    """The location-oblivious GPU, cut by tokens: all tokens in first-seen expert order, an equal stretch a die.

    Die d gets tokens d·T/D to (d+1)·T/D (rounded down) of T, and reads each expert in them from its home.
    """

    __pydantic_config__ = CHECKED

    def allocate(self, view: LayerView) -> Plan:
        """Return a task for each expert that a die's stretch touches."""
        expert, die, tokens = even_stretches(view.order, view.counts, view.num_dies)
        return _plan(view, expert, die, tokens, view.home[expert])


@dataclass(frozen=True, kw_only=True)
class Algorithm1:
    """The paper's placement-aware allocator; see `wss.policies.allocation.algorithm1`.

    Parameters
    ----------
    block
        Tokens handed out at a time; None for 50, as in the paper's text, or under the paper's physics 512, as in the
        authors' simulator.
    min_candidates
        At least so many dies are considered for an expert, if so many are near.
    radius
        Dies up to this many times as far from a holder as the nearest die are candidates: with 1, the neighbours on a
        mesh, all GPUs of a node behind a switch.
    near
        Whether those near any holder are candidates, as in the paper's text, or those near the home alone, as in the
        authors' simulator; None for what the physics has: the text's, or the simulator's.
    """

    __pydantic_config__ = CHECKED

    block: Annotated[int, Ge(1), Le(10**9)] | None = None
    min_candidates: Annotated[int, Ge(1), Le(10**6)] = 5
    radius: Annotated[int, Ge(0), Le(10**6)] = 1
    near: Literal["holders", "home"] | None = None

    def allocate(self, view: LayerView) -> Plan:
        """Return the tasks in first-seen order of their experts, in which every policy's dies run them."""
        ascending = np.sort(view.order)
        ascending = ascending[np.argsort(view.counts[ascending], kind="stable")]
        costs = view.costs
        centres = view.holders
        if self.near == "home":
            centres = view.home[:, None] == np.arange(view.num_dies)
            centres.flags.writeable = False  # as those of a view: so the allocator is compiled once
        tasks = algorithm1(
            ascending,
            view.counts,
            view.home,
            (view.holders, view.sources, centres),
            view.hops,
            view.transfers,
            np.array([costs.hbm_read, costs.token]),
            self.block or BLOCK,
            self.min_candidates,
            self.radius * view.nearest,
        )
        first_seen = np.empty(len(view.counts), np.int64)
        first_seen[view.order] = np.arange(len(view.order))
        return _plan(view, *tasks[np.argsort(first_seen[tasks[:, 0]], kind="stable")].T.copy())


FIXED = (Home, Even, Nearest, InTurn, Chunked)  # rules by which each die finds its own part; others plan in one place

ALLOCATIONS: dict[str, type[Allocation]] = {
    "home": Home,
    "even": Even,
    "nearest": Nearest,
    "in_turn": InTurn,
    "chunked": Chunked,
    "algorithm1": Algorithm1,
    "balanced": Balanced,
}
