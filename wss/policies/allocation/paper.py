"""The paper's allocator as its own simulator has it; only for ``physics: paper``.

It differs from `wss.policies.allocation.algorithm1` in its blocks (512 tokens; the last block takes all of a remainder
below 1,024), in charging links for every block, and in its estimate for a die: max(local compute, DRAM, links in) +
remote compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from wss.compiling import compiled
from wss.policies.allocation.basic import Algorithm1, build_plan
from wss.policies.views import LayerView
from wss.records import BoolArray, FloatArray, Plan

BLOCK = 512  # tokens


class _Load(NamedTuple):
    """The allocator's time estimates, [dies] each."""

    compute_local: FloatArray
    compute_remote: FloatArray
    dram: FloatArray
    links_in: FloatArray


class _Expert(NamedTuple):
    """An expert: its home, the dies that hold it, times of a token and a DRAM read, and to bring it to each die."""

    home: int
    holds: BoolArray
    token: float
    dram: float
    transfer: FloatArray


@dataclass(frozen=True, kw_only=True)
class PaperAlgorithm1(Algorithm1):
    """The allocator of the paper's simulator; its estimates are in ns, as the costs of its view are.

    By default its *block* is 512 tokens, and only dies near the home are candidates.
    """

    def allocate(self, view: LayerView) -> Plan:
        """Return the tasks by expert, then die."""
        experts = np.sort(view.order)
        experts = experts[np.argsort(view.counts[experts], kind="stable")]
        prices = view.costs.token, view.costs.hbm_read, view.costs.link_read, view.costs.hop
        cut = self.block or BLOCK, self.min_candidates, self.near == "holders"
        given = _hand_out_all(experts, view.counts, view.primary_die, view.hops, view.holders, prices, cut)
        expert, die = np.nonzero(given)
        return build_plan(view, expert, die, given[expert, die], view.primary_die[expert])


@compiled
def _hand_out_all(experts, counts, home, hops, holders, prices, cut):  # type: ignore[no-untyped-def]
    """Assign the tokens of *experts* one expert at a time; return the tokens on each die, [experts, dies].

    *prices* are those of a token, a DRAM read and a transfer of an expert, and a hop. *cut* is the block in tokens, the
    minimum number of candidates, and whether dies near any holder are candidates.
    """
    token, dram, transfer, hop = prices
    block, min_candidates, near_holders = cut
    dies = len(hops)
    load = _Load(np.zeros(dies), np.zeros(dies), np.zeros(dies), np.zeros(dies))
    tokens = 0
    for e in experts:
        load.dram[home[e]] += dram
        tokens += counts[e]
    mean = tokens / len(experts)
    given = np.zeros((len(counts), dies), np.int64)
    transfers = np.empty(dies)
    for e in experts:
        for die in range(dies):
            transfers[die] = hop * hops[home[e], die] + transfer
        expert = _Expert(home[e], holders[e], token, dram, transfers)
        most = max(min_candidates, int(counts[e] // max(mean, block)))
        candidates = _candidates(expert, hops, load, most, near_holders)
        _hand_out(expert, counts[e], candidates, load, block, given[e])
    return given


@compiled
def _estimate(load, die, local, remote, dram, links):  # type: ignore[no-untyped-def]
    """Return the estimate of *die* with the given work added."""
    busiest = max(load.compute_local[die] + local, load.dram[die] + dram, load.links_in[die] + links)
    return busiest + load.compute_remote[die] + remote


@compiled
def _is_near(die, home, holds, hops, near_holders):  # type: ignore[no-untyped-def]
    """Whether *die* is next to the *home* of an expert, or to any die marked in *holds*, [dies]."""
    if not near_holders:
        return hops[home, die] == 1
    return (holds & (hops[:, die] == 1)).any()


@compiled
def _candidates(expert, hops, load, most, near_holders):  # type: ignore[no-untyped-def]
    """Return up to *most* candidates, least loaded first, among the dies that hold the expert or are near it."""
    home, holds, _, _, transfer = expert
    near = np.empty(len(hops), np.int64)
    delay = np.empty(len(hops))
    found = 0
    for die in range(len(hops)):
        if holds[die] or _is_near(die, home, holds, hops, near_holders):
            own = _estimate(load, die, 0.0, 0.0, 0.0, 0.0)
            own += 0.0 if holds[die] else transfer[die]
            place = found
            while place > 0 and delay[place - 1] > own:
                near[place], delay[place] = near[place - 1], delay[place - 1]
                place -= 1
            near[place], delay[place] = die, own
            found += 1
    return near[: min(found, most)]


@compiled
def _hand_out(expert, count, candidates, load, block, given):  # type: ignore[no-untyped-def]
    """Assign one expert's tokens in blocks, each to the candidate with the least resulting time; *given* is [dies].

    Ties go to a holder, then to the earlier candidate.
    """
    home, holds, token, dram, transfer = expert
    left = count
    while left > 0:
        tokens = left if left < 2 * block else block
        work = tokens * token
        best, least, away = -1, np.inf, True
        for die in candidates:
            read = 0.0 if given[die] > 0 else dram
            if holds[die]:
                score = _estimate(load, die, work, 0.0, 0.0 if die == home else read, 0.0)
            else:
                own = _estimate(load, die, 0.0, work, 0.0, transfer[die])
                score = max(own, _estimate(load, home, 0.0, 0.0, read, 0.0))
            if best < 0 or score < least or (score == least and away and holds[die]):
                best, least, away = die, score, not holds[die]
        read = 0.0 if given[best] > 0 else dram
        if holds[best]:
            load.compute_local[best] += work
            load.dram[best] += 0.0 if best == home else read
        else:
            load.compute_remote[best] += work
            load.links_in[best] += transfer[best]
            load.dram[home] += read
        given[best] += tokens
        left -= tokens
