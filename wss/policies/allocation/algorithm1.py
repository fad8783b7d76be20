"""The paper's Algorithm 1: assign tokens in blocks to the die near the weights whose estimated time grows least.

Experts are processed in ascending token count. For one expert with n tokens:

1. The candidates are its holders and the dies up to `radius` links from any holder, or from its home only.
2. Candidates are sorted by estimated time (ties: lower die), and the first max(min_candidates, n // max(mean, block))
   are kept. mean is the mean count of the experts that have tokens. If no holder is kept, the holder with the least
   estimated time replaces the last candidate.
3. Blocks of `block` tokens are assigned one by one. Each goes to the candidate that minimises the larger of its own
   and its source's estimated time (ties: the home, another holder, fewer hops, the lower die).

The estimated time of a die is max(computing, reading from its HBM, receiving over its links). Each active expert is
charged one read at its home in advance. Its first read from the home uses up this charge; if it is never read there,
the charge is refunded. A die without the expert reads it from the nearest source (ties: the home, then the lower die).
The published description leaves the cost open ("DRAM + compute + D2D"); the larger-of-two rule and the advance charge
follow the authors' simulator.

The functions are compiled; `algorithm1.py_func` is plain Python that calls the others.
"""

from __future__ import annotations

import numba
import numpy as np

from wss.arrays import stable_order


@numba.njit(cache=True, nogil=True)
def nearest_source(die, home, sources, hops):  # type: ignore[no-untyped-def]
    """Return the source with the fewest hops to *die*; *sources* [dies]; ties: the home, then the lower die."""
    best = home
    for other in range(sources.size):
        if sources[other] and (hops[other, die] < hops[best, die] or not sources[best]):
            best = other
    return best


@numba.njit(cache=True, nogil=True)
def candidates_of(expert_holders, centres, hops, estimate, keep, radius):  # type: ignore[no-untyped-def]
    """Return the candidate dies of an expert, least estimated time first, [candidates].

    Candidates are its holders and the dies within *radius* of its *centres*, [dies] each.
    """
    num_dies = expert_holders.size
    near = expert_holders.copy()
    for holder in range(num_dies):
        if centres[holder]:
            for die in range(num_dies):
                if hops[holder, die] <= radius:
                    near[die] = True
    found = np.flatnonzero(near)
    found = found[stable_order(estimate[found])]
    kept = found[:keep].copy()
    if not expert_holders[kept].any():
        kept[-1] = found[expert_holders[found]][0]
    return kept


@numba.njit(cache=True, nogil=True)
def _best(chunk, home, charged, candidates, load, hops, costs):  # type: ignore[no-untyped-def]
    """Return the index of the candidate that *chunk* tokens go to; *charged*: the home carries the advance charge."""
    (kept, source, given), (computing, reading, receiving), (hbm_read, token, transfers) = candidates, load, costs
    best, best_rank = -1, (np.inf, True, 0, 0)
    for i in range(kept.size):
        die, origin = kept[i], source[i]
        first = given[i] == 0
        new_read = hbm_read if first and not (charged and origin == home) else 0.0
        new_receipt = transfers[origin, die] if first and origin != die else 0.0
        own_reading = reading[die] + (new_read if origin == die else 0.0)
        own = max(computing[die] + chunk * token, own_reading, receiving[die] + new_receipt)
        far = max(computing[origin], reading[origin] + new_read, receiving[origin])
        score = own if origin == die else max(own, far)
        rank = (score, die != home, hops[origin, die], die)
        if best < 0 or rank < best_rank:
            best, best_rank = i, rank
    return best


@numba.njit(cache=True, nogil=True)
def _assign(left, block, home, candidates, load, hops, costs):  # type: ignore[no-untyped-def]
    """Assign the *left* tokens of one expert in blocks; update what candidates are given, and the load of dies."""
    (kept, source, given), (computing, reading, receiving), (hbm_read, token, transfers) = candidates, load, costs
    charged = True  # the home still carries the advance charge
    while left > 0:
        chunk = min(block, left)
        best = _best(chunk, home, charged, candidates, load, hops, costs)
        die, origin = kept[best], source[best]
        if given[best] == 0:
            if charged and origin == home:
                charged = False
            else:
                reading[origin] += hbm_read
            if origin != die:
                receiving[die] += transfers[origin, die]
        computing[die] += chunk * token
        given[best] += chunk
        left -= chunk
    if charged:
        reading[home] -= hbm_read


@numba.njit(cache=True, nogil=True)
def algorithm1(ascending, counts, home, where, hops, costs, limits):  # type: ignore[no-untyped-def]
    """Allocate one layer run.

    Parameters
    ----------
    ascending
        The experts with tokens, in the order of assignment, [active experts].
    counts, home, hops
        As in `LayerView`.
    where
        Holders and sources as in `LayerView`, and the dies whose neighbours are candidates, [experts, dies] each.
    costs
        Seconds of one HBM read and of one token, and transfers as in `LayerView`.
    limits
        block and min_candidates as in `Algorithm1`, and the radius in links.

    Returns
    -------
    array
        Expert, die, tokens and source of each task, [tasks, 4].
    """
    (holders, sources, centres), (block, min_candidates, radius) = where, limits
    num_dies = hops.shape[0]
    computing, reading, receiving = np.zeros(num_dies), np.zeros(num_dies), np.zeros(num_dies)
    for expert in ascending:
        reading[home[expert]] += costs[0]
    mean = counts[ascending].sum() / max(1, ascending.size)

    tasks = np.empty((ascending.size * num_dies, 4), np.int64)
    num_tasks = 0
    for expert in ascending:
        held, at, serve = holders[expert], home[expert], sources[expert]
        estimate = np.maximum(np.maximum(computing, reading), receiving)
        keep = max(min_candidates, int(counts[expert] // max(mean, block)))
        kept = candidates_of(held, centres[expert], hops, estimate, keep, radius)
        source = np.array([die if held[die] else nearest_source(die, at, serve, hops) for die in kept])
        given = np.zeros(kept.size, np.int64)
        _assign(counts[expert], block, at, (kept, source, given), (computing, reading, receiving), hops, costs)
        for i in range(kept.size):
            if given[i] > 0:
                task = (expert, kept[i], given[i], source[i])
                for column in range(4):  # numba takes seconds to compile a whole-row assignment
                    tasks[num_tasks, column] = task[column]
                num_tasks += 1
    return tasks[:num_tasks]
