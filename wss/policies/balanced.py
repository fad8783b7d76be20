"""Balanced: experts stay at home and only surplus tokens move, under budgets of HBM and links; see `surplus`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from wss.errors import CHECKED
from wss.policies.surplus import surplus
from wss.policies.view import KernelView
from wss.records import FloatArray, IntArray, Plan


@dataclass(frozen=True, kw_only=True)
class Balanced:
    """Whole experts where they are held; what a die cannot finish in time moves in whole tiles.

    A die takes its tasks in turn from both ends, the one with most tokens, the one with fewest, and so on: what
    computes long hides the read of what computes briefly. Of an HBM that is busy most of the kernel, the remote readers
    take turns instead: the one with most tokens reads first, the j-th of k when its die has done j/k of its tasks.

    Parameters
    ----------
    busy
        Share of the estimated time from which an HBM counts as busy.
    """

    __pydantic_config__ = CHECKED

    busy: Annotated[float, Ge(0)] = 0.8

    def allocate(self, view: KernelView) -> Plan:
        """Return the tasks of each die in the order in which it runs them."""
        costs = view.costs
        tokens, source, seconds = surplus(
            view.counts,
            view.holders,
            view.hops,
            view.routes,
            (
                costs.hbm_read,
                view.link_reads,
                costs.hop,
                costs.latency,
                costs.token * costs.tile,
                costs.tile,
                costs.request,
            ),
        )
        die, expert = np.nonzero(tokens)
        tokens, source = tokens[die, expert], source[die, expert]
        is_busy = np.bincount(source, minlength=view.num_dies) * costs.hbm_read > self.busy * seconds
        at = in_turn_from_both_ends(die, tokens)
        waits = (source != die) & is_busy[source]
        at[waits] = turns(source[waits], tokens[waits])
        order = np.lexsort((~waits, at, die))
        return Plan(
            expert=expert[order],
            die=die[order],
            tokens=tokens[order],
            source=source[order],
            copy=np.zeros(len(order), np.bool_),
        )


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
