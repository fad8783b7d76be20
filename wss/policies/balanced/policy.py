"""Balanced: experts stay at home and only surplus tokens move, under budgets of HBM and links; see `surplus`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from wss.errors import CHECKED
from wss.policies.balanced.surplus import surplus
from wss.policies.balanced.task_order import reorder
from wss.policies.views import LayerView
from wss.records import FloatArray, IntArray, Plan

ENOUGH = 1.01  # an order that takes so little more than the goal is not made better


@dataclass(frozen=True, kw_only=True)
class Balanced:
    """Whole experts where they are held; what a die cannot finish in time moves in whole tiles.

    A die takes its tasks in turn from both ends, the one with most tokens, the one with fewest, and so on: what
    computes long hides the read of what computes briefly. Of an HBM that is busy most of the layer run, the remote
    readers take turns instead: the one with most tokens reads first, the j-th of k when its die has done j/k of its
    tasks. From there, a better order is looked for by forecasts (`ordering`), for the plan of the tightest goal first,
    then for the others, as long as *budget* lasts; the plan of the least forecast time is taken.

    Parameters
    ----------
    busy
        Share of the estimated time from which an HBM counts as busy.
    late
        Dies that end from this share of the time on are given another order.
    budget
        Tasks that may be forecast a layer run, all trials together; 0 leaves the order as it is.
    """

    __pydantic_config__ = CHECKED

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
        assert best is not None  # the first goal is always met
        return best

    def _plan(self, tokens: IntArray, source: IntArray, seconds: float, view: LayerView) -> Plan:
        """Return the tasks of each die by the rule above, die after die; *tokens* and *source* are [dies, experts]."""
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
    """Return the place of each task in its *group*, most tokens first, and how many the group has, [tasks]."""
    order = np.lexsort((-tokens, group))
    sizes = np.bincount(group)
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - (np.cumsum(sizes) - sizes)[group[order]]
    return rank, sizes[group]


def in_turn_from_both_ends(die: IntArray, tokens: IntArray) -> FloatArray:
    """Return where each task stands among those of its die, from 0 to below 1: most tokens, fewest, second most, ..."""
    rank, size = _ranks(die, tokens)
    from_end = size - 1 - rank
    at: FloatArray = np.where(rank <= from_end, 2 * rank, 2 * from_end + 1) / size
    return at


def turns(source: IntArray, tokens: IntArray) -> FloatArray:
    """Return when each remote task reads, as a share of its die's tasks: those of one source spread out evenly."""
    rank, size = _ranks(source, tokens)
    at: FloatArray = rank / size
    return at
