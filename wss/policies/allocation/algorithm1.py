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

`algorithm1` makes the arrays, and compiled functions fill them.
"""

from __future__ import annotations

import numpy as np

from wss.compiling import borrowing
from wss.records import BoolArray, FloatArray, IntArray


@borrowing
def nearest_source(die, home, sources, hops):  # type: ignore[no-untyped-def]
    """Return the source with the fewest hops to *die*; *sources* [dies]; ties: the home, then the lower die."""
    best = home
    for other in range(sources.size):
        if sources[other] and (hops[other, die] < hops[best, die] or not sources[best]):
            best = other
    return best


@borrowing
def _least(estimate, among):  # type: ignore[no-untyped-def]
    """Return the lowest of the dies with the least estimated time *among* some, [dies]; -1 if there is none."""
    least = -1
    for die in range(estimate.size):
        if among[die] and (least < 0 or estimate[die] < estimate[least]):
            least = die
    return least


@borrowing
def keep_candidates(kept, left, expert_holders, centres, hops, estimate, keep, radius):  # type: ignore[no-untyped-def]
    """Write the candidate dies of an expert, least estimated time first, to *kept*, [dies]; return their number.

    Candidates are its holders and the dies within *radius* of its *centres*, [dies] each. *left* is overwritten.
    """
    num_dies, num_kept = expert_holders.size, 0
    for die in range(num_dies):
        left[die] = expert_holders[die]
    for holder in range(num_dies):
        if centres[holder]:
            for die in range(num_dies):
                left[die] |= hops[holder, die] <= radius
    has_holder = False
    while num_kept < keep:
        die = _least(estimate, left)
        if die < 0:
            break
        left[die] = False
        kept[num_kept] = die
        num_kept += 1
        has_holder |= expert_holders[die]
    if not has_holder:
        for die in range(num_dies):
            left[die] = expert_holders[die]
        kept[num_kept - 1] = _least(estimate, left)
    return num_kept


@borrowing
def _best(chunk, home, charged, number, candidates, load, hops, costs):  # type: ignore[no-untyped-def]
    """Return which of the *number* candidates gets *chunk* tokens; *charged*: the home carries the advance charge."""
    (kept, source, given), (computing, reading, receiving), (hbm_read, token, transfers) = candidates, load, costs
    best, least, least_tie = -1, np.inf, 0
    for i in range(number):
        die, origin = kept[i], source[i]
        first = given[i] == 0
        new_read = hbm_read if first and not (charged and origin == home) else 0.0
        new_receipt = transfers[origin, die] if first and origin != die else 0.0
        own_reading = reading[die] + (new_read if origin == die else 0.0)
        own = max(computing[die] + chunk * token, own_reading, receiving[die] + new_receipt)
        far = max(computing[origin], reading[origin] + new_read, receiving[origin])
        score = own if origin == die else max(own, far)
        tie = 0 if die == home else 1 + hops[origin, die] * computing.size + die
        if best < 0 or score < least or (score == least and tie < least_tie):
            best, least, least_tie = i, score, tie
    return best


@borrowing
def _assign(left, block, home, number, candidates, load, hops, costs):  # type: ignore[no-untyped-def]
    """Assign the *left* tokens of one expert in blocks; update what candidates are given, and the load of dies."""
    (kept, source, given), (computing, reading, receiving), (hbm_read, token, transfers) = candidates, load, costs
    charged = True  # the home still carries the advance charge
    while left > 0:
        chunk = min(block, left)
        best = _best(chunk, home, charged, number, candidates, load, hops, costs)
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


@borrowing
def _allocate(tasks, ascending, counts, home, where, hops, costs, limits, scratch):  # type: ignore[no-untyped-def]
    """Write the tasks of one layer run to *tasks* and return their number; arguments as in `algorithm1`.

    *scratch* is arrays of dies: load, candidates, estimate and left.
    """
    (holders, sources, centres), (block, min_candidates, radius) = where, limits
    load, candidates, estimate, left = scratch
    (computing, reading, receiving), (kept, source, given) = load, candidates
    total = 0
    for expert in ascending:
        reading[home[expert]] += costs[0]
        total += counts[expert]
    mean, num_tasks = total / max(1, ascending.size), 0
    for expert in ascending:
        held, at, serve = holders[expert], home[expert], sources[expert]
        for die in range(estimate.size):
            estimate[die] = max(computing[die], reading[die], receiving[die])
        keep = max(min_candidates, int(counts[expert] // max(mean, block)))
        number = keep_candidates(kept, left, held, centres[expert], hops, estimate, keep, radius)
        for i in range(number):
            source[i] = kept[i] if held[kept[i]] else nearest_source(kept[i], at, serve, hops)
            given[i] = 0
        _assign(counts[expert], block, at, number, candidates, load, hops, costs)
        for i in range(number):
            if given[i] > 0:
                tasks[num_tasks, 0], tasks[num_tasks, 1] = expert, kept[i]
                tasks[num_tasks, 2], tasks[num_tasks, 3] = given[i], source[i]
                num_tasks += 1
    return num_tasks


def algorithm1(
    ascending: IntArray,
    counts: IntArray,
    home: IntArray,
    where: tuple[BoolArray, BoolArray, BoolArray],
    hops: IntArray,
    costs: tuple[float, float, FloatArray],
    limits: tuple[int, int, int],
) -> IntArray:
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
    dies = hops.shape[0]
    tasks = np.empty((len(ascending) * dies, 4), np.int64)
    load = tuple(np.zeros((3, dies)))
    candidates = tuple(np.zeros((3, dies), np.int64))
    scratch = (load, candidates, np.zeros(dies), np.zeros(dies, np.bool_))
    return tasks[: _allocate(tasks, ascending, counts, home, where, hops, costs, limits, scratch)]
