"""Task order: a local search, with forecasts, for the order in which each die runs its tasks.

For the die that ends last, each of its tasks is tried at each other position of its order, then the tasks of the dies
that read from the same HBM as it does. A change is kept if it makes the last of these dies end earlier; only these dies
are forecast. Then the die that now ends last is searched. Dies that end within a few percent of the last are searched
too: if several end together, all have to become earlier.
"""

from __future__ import annotations

import numpy as np

from wss.arrays import copy
from wss.compiling import compiled
from wss.policies.balanced.estimate import forecast

GAIN = 1e-6  # a smaller relative gain is ignored
NEAR_FLOOR = 1.005  # a die within this factor of its minimum time in any order is skipped


@compiled
def _move(order, place, to):  # type: ignore[no-untyped-def]
    """Move the task at index *place* to index *to*, shifting those between."""
    task = order[place]
    for i in range(place, to):
        order[i] = order[i + 1]
    for i in range(place, to, -1):
        order[i] = order[i - 1]
    order[to] = task


@compiled
def _die_ends(dies, begin, order, tasks, wafer):  # type: ignore[no-untyped-def]
    """Return the end of each of *dies* if it runs its tasks in *order*, [dies]."""
    seconds, sources = tasks
    routes, hbm_read, link_reads, window = wafer
    end = forecast(dies, begin, seconds[order], sources[order], routes, hbm_read, link_reads, window)
    ends = np.zeros(dies.size)
    for i in range(dies.size):
        if begin[i] < begin[i + 1]:
            ends[i] = end[begin[i + 1] - 1]
    return ends


@compiled
def _sharing(die, begin, sources):  # type: ignore[no-untyped-def]
    """Return *die*, followed by the other dies that read from any HBM from which it reads."""
    read = np.zeros(begin.size - 1, np.bool_)
    read[sources[begin[die] : begin[die + 1]]] = True
    shares = np.zeros(begin.size - 1, np.bool_)
    for other in range(shares.size):
        for source in sources[begin[other] : begin[other + 1]]:
            shares[other] |= read[source]
    shares[die] = False
    return np.append(die, np.flatnonzero(shares))


@compiled
def moves_of(begin):  # type: ignore[no-untyped-def]
    """Return all moves of a task within its die, as (from, to) indices, [moves, 2]."""
    sizes = begin[1:] - begin[:-1]
    moves = np.empty(((sizes * (sizes - 1)).sum(), 2), np.int64)
    found = 0
    for i in range(sizes.size):
        for place in range(begin[i], begin[i + 1]):
            for to in range(begin[i], begin[i + 1]):
                if to != place and to != place - 1:  # the latter equals moving the task before to here
                    moves[found, 0], moves[found, 1] = place, to
                    found += 1
    return moves[:found]


@compiled
def _floor(die, begin, order, tasks, wafer):  # type: ignore[no-untyped-def]
    """Return the minimum time of *die* over all orders."""
    own = order[begin[die] : begin[die + 1]]
    return max(tasks[0][own].sum(), np.count_nonzero(tasks[1][own] == die) * wafer[1])


@compiled
def _search(die, begin, order, tasks, wafer, budget):  # type: ignore[no-untyped-def]
    """Return *order* after a search over *die* and the dies that share an HBM with it, and the tasks forecast."""
    dies = _sharing(die, begin, tasks[1][order])
    part = np.zeros(dies.size + 1, np.int64)
    for i in range(dies.size):
        part[i + 1] = part[i] + begin[dies[i] + 1] - begin[dies[i]]
    near = np.empty(part[-1], np.int64)
    for i in range(dies.size):
        copy(order[begin[dies[i]] : begin[dies[i] + 1]], near[part[i] : part[i + 1]])
    moves = moves_of(part)
    best = _die_ends(dies, part, near, tasks, wafer).max()
    floor = NEAR_FLOOR * _floor(die, begin, order, tasks, wafer)
    spent, trial, since = near.size, 0, 0
    while since < len(moves) and spent < budget and best > floor:
        place, to = moves[trial % len(moves)]
        trial += 1
        since += 1
        _move(near, place, to)
        latest = _die_ends(dies, part, near, tasks, wafer).max()
        spent += near.size
        if latest < best * (1 - GAIN):
            best, since = latest, 0
        else:
            _move(near, to, place)
    changed = order.copy()
    for i in range(dies.size):
        copy(near[part[i] : part[i + 1]], changed[begin[dies[i]] : begin[dies[i] + 1]])
    return changed, spent


@compiled
def reorder(begin, tasks, wafer, late, enough, budget):  # type: ignore[no-untyped-def]
    """Search for an order of each die's tasks in which the last die ends earlier.

    Parameters
    ----------
    begin
        First task of each die, and the end of the last die's tasks, [dies + 1].
    tasks
        Computing time in seconds and source of each task, in the initial order, [tasks] each.
    wafer
        routes, hbm_read, link_reads and window, as in `forecast`.
    late
        Dies that end after this share of the time are searched.
    enough
        Seconds; the search stops once the last die ends by then.
    budget
        Maximum tasks to forecast, over all trials.

    Returns
    -------
    tuple
        The new order, as indices in the initial one, [tasks]; the forecast time in seconds; the remaining budget.
    """
    dies = np.arange(begin.size - 1)
    order = np.arange(begin[-1])
    ends = _die_ends(dies, begin, order, tasks, wafer)
    left = budget - order.size
    looked_at = np.zeros(dies.size, np.bool_)
    while left > 0 and ends.max() > enough:
        die = dies[0]  # the last to end of those not searched; a literal 0 would make numba compile the callees twice
        for other in range(dies.size):
            if not looked_at[other] and (looked_at[die] or ends[other] > ends[die]):
                die = other
        if looked_at[die] or ends[die] < late * ends.max():
            break
        looked_at[die] = True
        if ends[die] <= NEAR_FLOOR * _floor(die, begin, order, tasks, wafer):
            continue
        trial, spent = _search(die, begin, order, tasks, wafer, min(left, budget // 4))
        left -= spent
        if (trial == order).all():
            continue
        after = _die_ends(dies, begin, trial, tasks, wafer)
        left -= order.size
        if after.max() <= ends.max() and after[die] < ends[die]:
            if after.max() < ends.max() * (1 - GAIN):
                looked_at[:] = False
            order, ends = trial, after
    return order, ends.max(), left
