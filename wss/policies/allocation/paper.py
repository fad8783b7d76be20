"""The paper's policies as its own simulator plans them; only for ``physics: paper``.

Tasks are (expert, die, tokens), [tasks, 3], sorted by expert, then die. The allocator works with whole experts and with
its own utilisations (0.7 of compute, 0.9 of DRAM and links). It differs from `wss.policies.allocation.algorithm1` in
its blocks (512 tokens; the last block takes all of a remainder below 1,024), in charging links for every block, and in
its estimate for a die: max(local compute, DRAM, links in) + remote compute.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np

from wss.policies.allocation.basic import even_stretches
from wss.records import BoolArray, FloatArray, IntArray

BLOCK = 512  # tokens


def in_turn(order: IntArray, counts: IntArray, num_dies: int, offset: int) -> IntArray:
    """Return the tasks of `base`: the i-th first-seen expert on die (i + offset) mod D."""
    turn = np.argsort(order)
    experts = order[turn]
    return np.stack((experts, (turn + offset) % num_dies, counts[experts]), axis=1)


def by_tokens(order: IntArray, counts: IntArray, num_dies: int) -> IntArray:
    """Return the tasks of the paper text's `base`: an equal stretch of the tokens on each die."""
    tasks = np.stack(even_stretches(order, counts, num_dies), axis=1)
    return tasks[np.lexsort((tasks[:, 1], tasks[:, 0]))]


def at_home(order: IntArray, counts: IntArray, home: IntArray) -> IntArray:
    """Return the tasks of expert parallelism."""
    experts = np.sort(order)
    return np.stack((experts, home[experts], counts[experts]), axis=1)


class Prices(NamedTuple):
    """The allocator's costs in ns: compute of a token, DRAM read and transfer of a whole expert, and one hop."""

    token: float
    dram: float
    transfer: float
    hop: float


class _Load(NamedTuple):
    """The allocator's time estimates, [dies] each."""

    compute_local: FloatArray
    compute_remote: FloatArray
    dram: FloatArray
    links_in: FloatArray


class Cut(NamedTuple):
    """Block size in tokens, minimum number of candidates, and whether dies near any holder are candidates."""

    block: int
    min_candidates: int
    near_holders: bool


def allocate(
    order: IntArray, counts: IntArray, home: IntArray, hops: IntArray, copies: BoolArray, prices: Prices, cut: Cut
) -> IntArray:
    """Return the allocator's tasks; *copies* marks the slices of this layer on each die, [experts, slices, dies]."""
    experts = np.sort(order)
    experts = experts[np.argsort(counts[experts], kind="stable")]
    given = _hand_out_all(experts, counts, home, hops, copies, prices, cut)
    expert, die = np.nonzero(given)
    return np.stack((expert, die, given[expert, die]), axis=1)


@numba.njit(cache=True, nogil=True)
def _hand_out_all(experts, counts, home, hops, copies, prices, cut):  # type: ignore[no-untyped-def]
    """Assign the tokens of *experts* one expert at a time; return the tokens on each die, [experts, dies]."""
    dies = len(hops)
    load = _Load(np.zeros(dies), np.zeros(dies), np.zeros(dies), np.zeros(dies))
    tokens = 0
    for e in experts:
        load.dram[home[e]] += prices.dram
        tokens += counts[e]
    mean = tokens / len(experts)
    given = np.zeros((len(counts), dies), np.int64)
    holds = np.zeros(dies, np.bool_)
    for e in experts:
        for die in range(dies):
            holds[die] = die == home[e]
            for part in range(copies.shape[1]):
                holds[die] |= copies[e, part, die]
        most = max(cut.min_candidates, int(counts[e] // max(mean, cut.block)))
        candidates = _candidates(home[e], holds, hops, load, prices, most, cut.near_holders)
        _hand_out(counts[e], home[e], holds, candidates, hops, load, prices, cut.block, given[e])
    return given


@numba.njit(cache=True, nogil=True)
def _estimate(load, die, local, remote, dram, links):  # type: ignore[no-untyped-def]
    """Return the estimate of *die* with the given work added."""
    busiest = max(load.compute_local[die] + local, load.dram[die] + dram, load.links_in[die] + links)
    return busiest + load.compute_remote[die] + remote


@numba.njit(cache=True, nogil=True)
def _transfer(prices, hops, home, die):  # type: ignore[no-untyped-def]
    """Return the time to bring an expert from *home* to *die*."""
    return prices.hop * hops[home, die] + prices.transfer


@numba.njit(cache=True, nogil=True)
def _is_near(die, home, holds, hops, near_holders):  # type: ignore[no-untyped-def]
    """Whether *die* is next to the *home* of an expert, or to any die marked in *holds*, [dies]."""
    if not near_holders:
        return hops[home, die] == 1
    return (holds & (hops[:, die] == 1)).any()


@numba.njit(cache=True, nogil=True)
def _candidates(home, holds, hops, load, prices, most, near_holders):  # type: ignore[no-untyped-def]
    """Return up to *most* candidates, least loaded first, among the dies that hold the expert or are near it."""
    near = np.empty(len(hops), np.int64)
    delay = np.empty(len(hops))
    found = 0
    for die in range(len(hops)):
        if holds[die] or _is_near(die, home, holds, hops, near_holders):
            own = _estimate(load, die, 0.0, 0.0, 0.0, 0.0)
            own += 0.0 if holds[die] else _transfer(prices, hops, home, die)
            place = found
            while place > 0 and delay[place - 1] > own:
                near[place], delay[place] = near[place - 1], delay[place - 1]
                place -= 1
            near[place], delay[place] = die, own
            found += 1
    return near[: min(found, most)]


@numba.njit(cache=True, nogil=True)
def _hand_out(count, home, holds, candidates, hops, load, prices, block, given):  # type: ignore[no-untyped-def]
    """Assign one expert's tokens in blocks, each to the candidate with the least resulting time; *given* is [dies].

    Ties go to a holder, then to the earlier candidate.
    """
    left = count
    while left > 0:
        tokens = left if left < 2 * block else block
        work = tokens * prices.token
        best, least, away = -1, np.inf, True
        for die in candidates:
            read = 0.0 if given[die] > 0 else prices.dram
            if holds[die]:
                score = _estimate(load, die, work, 0.0, 0.0 if die == home else read, 0.0)
            else:
                own = _estimate(load, die, 0.0, work, 0.0, _transfer(prices, hops, home, die))
                score = max(own, _estimate(load, home, 0.0, 0.0, read, 0.0))
            if best < 0 or score < least or (score == least and away and holds[die]):
                best, least, away = die, score, not holds[die]
        read = 0.0 if given[best] > 0 else prices.dram
        if holds[best]:
            load.compute_local[best] += work
            load.dram[best] += 0.0 if best == home else read
        else:
            load.compute_remote[best] += work
            load.links_in[best] += _transfer(prices, hops, home, best)
            load.dram[home] += read
        given[best] += tokens
        left -= tokens


def wanted_copies(
    heat: IntArray, tasks: IntArray, num_dies: int, share: float, fetched: BoolArray | None = None
) -> BoolArray:
    """Mark tasks whose expert is worth a copy: it is at the top of the row of an expert that the die computes now.

    Parameters
    ----------
    heat
        How often an expert was followed by another, [experts, experts]. Ties: the lower expert first.
    tasks, num_dies
        The tasks, and the number of dies.
    share
        Size of a row's top, as a share of all experts (rounded up).
    fetched
        The tasks to consider, [tasks]; others are not marked. Default: all.
    """
    asked = np.ones(len(tasks), np.bool_) if fetched is None else fetched
    wanted: BoolArray = _wanted(heat, tasks[:, 0], tasks[:, 1], asked, num_dies, math.ceil(share * len(heat)))
    return wanted


@numba.njit(cache=True, nogil=True)
def _wanted(heat, expert, die, asked, num_dies, count):  # type: ignore[no-untyped-def]
    """Mark the tasks in *asked* whose expert is among the *count* first of a row of their die, [tasks]."""
    before = np.empty(len(die), np.int64)  # the previous task of the same die, -1 if none
    last = np.full(num_dies, -1)
    for k in range(len(die)):
        before[k] = last[die[k]]
        last[die[k]] = k
    wanted = np.zeros(len(die), np.bool_)
    for k in range(len(die)):
        other = last[die[k]] if asked[k] else -1
        while other >= 0 and not wanted[k]:
            wanted[k] = _rank(heat[expert[other]], expert[k]) < count
            other = before[other]
    return wanted


@numba.njit(cache=True, nogil=True)
def _rank(row, place):  # type: ignore[no-untyped-def]
    """Return how many entries of *row* rank before the one at *place*: larger ones, and equal ones to its left."""
    value, rank = row[place], 0
    for other in row[:place]:
        rank += other >= value
    for other in row[place:]:
        rank += other > value
    return rank
