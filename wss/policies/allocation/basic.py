"""Allocation: which die computes how many tokens of which expert, and where it reads the weights from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Le

from wss.policies.allocation.algorithm1 import algorithm1
from wss.policies.parts import Allocation
from wss.policies.replicas import equal_parts
from wss.policies.views import LayerView
from wss.records import IntArray, Plan

BLOCK = 50  # tokens


def build_plan(view: LayerView, expert: IntArray, die: IntArray, tokens: IntArray, source: IntArray) -> Plan:
    """Return a plan without copies in which holders read their own replica or copy."""
    own = view.holders[expert, die]
    copy = np.zeros(len(expert), np.bool_)
    return Plan(expert=expert, die=die, tokens=tokens, source=np.where(own, die, source), copy=copy)


def even_stretches(order: IntArray, counts: IntArray, num_dies: int) -> tuple[IntArray, IntArray, IntArray]:
    """Order all tokens by expert, as in *order*, and cut them into one equal stretch per die.

    *counts* is the tokens of each expert, [experts].

    Returns
    -------
    tuple
        Expert, die and tokens of each piece, [pieces] each.
    """
    ends = np.cumsum(counts[order])
    cuts = np.arange(1, num_dies + 1) * ends[-1] // num_dies
    stops = np.union1d(ends, cuts[cuts > 0])
    tokens = np.diff(stops, prepend=0)
    return order[np.searchsorted(ends, stops)], np.searchsorted(cuts, stops), tokens


@dataclass(frozen=True, kw_only=True)
class Home(Allocation):
    """Expert parallelism: every expert is computed at its home, and no weights move."""

    local = True

    def allocate(self, view: LayerView) -> Plan:
        """Return one task per expert."""
        die = view.primary_die[view.order]
        return build_plan(view, view.order, die, view.counts[view.order], die)


@dataclass(frozen=True, kw_only=True)
class Even(Allocation):
    """Expert parallelism with replicas: an expert's tokens split evenly over its replicas.

    A die with two replicas of an expert computes two parts of its tokens, as one task. `replicas` defines which
    replicas get the remainder. No weights move.
    """

    local = True

    def allocate(self, view: LayerView) -> Plan:
        """Return one task per (expert, holder) with tokens."""
        tokens = equal_parts(view.counts, view.replicas)[view.order]
        index, die = np.nonzero(tokens)
        return build_plan(view, view.order[index], die, tokens[index, die], die)


@dataclass(frozen=True, kw_only=True)
class InTurn(Allocation):
    """Whole experts dealt to the dies in turn, wherever their weights are.

    The i-th first-seen expert is computed on die (i + offset) mod D: the paper's location-oblivious GPU. A die without
    the expert reads it from its home.
    """

    local = True

    offset: Annotated[int, Ge(0), Le(10**6)] = 7

    def allocate(self, view: LayerView) -> Plan:
        """Return one task per expert."""
        die = (np.arange(len(view.order)) + self.offset) % view.num_dies
        return build_plan(view, view.order, die, view.counts[view.order], view.primary_die[view.order])


@dataclass(frozen=True, kw_only=True)
class Chunked(Allocation):
    """Tokens sorted by expert and cut into equal stretches, one per die.

    Experts are in first-seen order: the paper's location-oblivious GPU, split by tokens. Of T tokens, die d computes
    d·T/D to (d+1)·T/D (rounded down) and reads the experts of that stretch from their homes.
    """

    local = True

    def allocate(self, view: LayerView) -> Plan:
        """Return one task for each expert in each die's stretch."""
        expert, die, tokens = even_stretches(view.order, view.counts, view.num_dies)
        return build_plan(view, expert, die, tokens, view.primary_die[expert])


@dataclass(frozen=True, kw_only=True)
class Algorithm1(Allocation):
    """The paper's: tokens go, in blocks, to the die near the weights that ends first.

    See `wss.policies.allocation.algorithm1`.

    Parameters
    ----------
    block
        Tokens assigned at a time. None: 50, as in the paper's text, or 512 under the paper's physics, as in the
        authors' simulator.
    min_candidates
        Minimum number of candidate dies per expert, if that many are near.
    radius
        Maximum distance of a candidate from a holder, as a multiple of the distance of the nearest die. With 1,
        candidates are the neighbours on a mesh, or all GPUs of a node behind a switch.
    near
        "holders": dies near any holder are candidates, as in the paper's text. "home": only those near the home, as in
        the authors' simulator. None: "holders", or "home" under the paper's physics.
    """

    block: Annotated[int, Ge(1), Le(10**9)] | None = None
    min_candidates: Annotated[int, Ge(1), Le(10**6)] = 5
    radius: Annotated[int, Ge(0), Le(10**6)] = 1
    near: Literal["holders", "home"] | None = None

    def allocate(self, view: LayerView) -> Plan:
        """Return the tasks in first-seen order of their experts, the order in which dies run them."""
        ascending = np.sort(view.order)
        ascending = ascending[np.argsort(view.counts[ascending], kind="stable")]
        costs = view.costs
        centres = view.holders
        if self.near == "home":
            centres = view.primary_die[:, None] == np.arange(view.num_dies)
            centres.flags.writeable = False  # like the arrays of a view, so that numba compiles the allocator only once
        tasks = algorithm1(
            ascending,
            view.counts,
            view.primary_die,
            (view.holders, view.sources, centres),
            view.hops,
            (costs.hbm_read, costs.token, view.transfers),
            (self.block or BLOCK, self.min_candidates, self.radius * view.nearest),
        )
        first_seen = np.empty(len(view.counts), np.int64)
        first_seen[view.order] = np.arange(len(view.order))
        return build_plan(view, *tasks[np.argsort(first_seen[tasks[:, 0]], kind="stable")].T.copy())
