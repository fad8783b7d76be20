"""Balanced: experts stay at home; only surplus tokens move, within budgets of HBM and links; see `surplus`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from wss.policies.balanced.surplus import surplus
from wss.policies.balanced.task_order import reorder
from wss.policies.parts import Allocation
from wss.policies.views import LayerView
from wss.records import FloatArray, IntArray, Plan

ENOUGH = 1.01  # no better order is searched for within this factor of the goal


@dataclass(frozen=True, kw_only=True)
class Balanced(Allocation):
    """Experts are computed where they are held; late dies hand tokens to others.

    Tokens move in whole tiles. A die runs its tasks alternately from both ends: the one with the most tokens, the one
    with the fewest, and so on. A task that computes for long hides the read of one that computes briefly. If an HBM is
    busy for most of the layer run, its remote readers take turns instead: the one with the most tokens reads first, and
    the j-th of k reads when its die has done j/k of its tasks. A local search with forecasts then improves this order
    (`task_order`), first for the plan with the tightest goal, then for the others while *budget* lasts. The plan with
    the least forecast time is selected.

    Parameters
    ----------
    busy
        Share of the estimated time from which an HBM counts as busy.
    late
        Dies that end after this share of the time are reordered.
    budget
        Maximum tasks to forecast per layer run, over all trials; 0 keeps the initial order.
    """

    busy: Annotated[float, Ge(0), Le(1)] = 0.8
    late: Annotated[float, Ge(0), Le(1)] = 0.97
    budget: Annotated[int, Ge(0), Le(10**6)] = 2500

    def allocate(self, view: LayerView) -> Plan:
        """Return the tasks of each die in the order in which it runs them."""
        costs = view.costs
        tile_s = costs.token * costs.tile
        numbers = (costs.hbm_read, view.link_reads, costs.hop, costs.latency, tile_s, costs.tile, costs.request)
        tokens, source, goals = surplus(view.counts, view.holders, view.sources, view.hops, view.routes, numbers)
        wafer = view.routes, costs.hbm_read, view.link_reads, costs.window
        best, least, budget = None, np.inf, self.budget
        for i in reversed(range(len(goals))):
            if best is not None and (budget <= 0 or goals[i] >= least):
                break
            plan = self._plan(tokens[i], source[i], goals[i], view)
            begin = np.concatenate(([0], np.cumsum(np.bincount(plan.die, minlength=view.num_dies))))
            tasks = -(-plan.tokens // costs.tile) * tile_s, plan.source
            order, seconds, budget = reorder(begin, tasks, wafer, self.late, goals[i] * ENOUGH, budget)
            if seconds < least:
                best, least = _in_order(plan, order), seconds
        assert best is not None  # the first goal can always be reached
        return best

    def _plan(self, tokens: IntArray, source: IntArray, seconds: float, view: LayerView) -> Plan:
        """Return the tasks of each die by the rule above, by die; *tokens* and *source* are [dies, experts]."""
        die, expert = np.nonzero(tokens)
        tokens, source = tokens[die, expert], source[die, expert]
        is_busy = np.bincount(source, minlength=view.num_dies) * view.costs.hbm_read > self.busy * seconds
        at = in_turn_from_both_ends(die, tokens)
        waits = (source != die) & is_busy[source]
        at[waits] = turns(source[waits], tokens[waits])
        plan = Plan(expert=expert, die=die, tokens=tokens, source=source, copy=np.zeros(len(die), np.bool_))
        return _in_order(plan, np.lexsort((~waits, at, die)))


def _in_order(plan: Plan, order: IntArray) -> Plan:
    """Return the tasks of *plan* in *order*."""
    return Plan(**{name: getattr(plan, name)[order] for name in ("expert", "die", "tokens", "source", "copy")})


def _ranks(group: IntArray, tokens: IntArray) -> tuple[IntArray, IntArray]:
    """Return the rank of each task in its *group*, most tokens first, and the size of the group, [tasks] each."""
    order = np.lexsort((-tokens, group))
    sizes = np.bincount(group)
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - (np.cumsum(sizes) - sizes)[group[order]]
    return rank, sizes[group]


def in_turn_from_both_ends(die: IntArray, tokens: IntArray) -> FloatArray:
    """Return the position of each task in its die's order, in [0, 1): most tokens, fewest, second most, ... [tasks]."""
    rank, size = _ranks(die, tokens)
    from_end = size - 1 - rank
    return np.where(rank <= from_end, 2 * rank, 2 * from_end + 1) / size


def turns(source: IntArray, tokens: IntArray) -> FloatArray:
    """Return when each remote task reads, as a share of its die's tasks; reads of one source are spread evenly."""
    rank, size = _ranks(source, tokens)
    return rank / size
