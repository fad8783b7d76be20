"""Task order: a local search, with forecasts, for the order in which each die runs its tasks.

For the die that ends last, each of its tasks is tried at each other position of its order, then the tasks of the dies
that read from the same HBM as it does. A change is kept if it makes the last of these dies end earlier; only these dies
are forecast. Then the die that now ends last is searched. Dies that end within a few percent of the last are searched
too: if several end together, all have to become earlier.
"""

from __future__ import annotations

import numpy as np

from wss.arrays import copy, largest
from wss.compiling import borrowing, compiled
from wss.policies.balanced.estimate import forecast

GAIN = 1e-6  # a smaller relative gain is ignored
NEAR_FLOOR = 1.005  # a die within this factor of its minimum time in any order is skipped


@borrowing
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
    routes, hbm_read, link_reads, window = wafer
    seconds, sources = np.empty(order.size), np.empty(order.size, np.int64)
    for i in range(order.size):
        seconds[i], sources[i] = tasks[0][order[i]], tasks[1][order[i]]
    end = forecast(dies, begin, seconds, sources, routes, hbm_read, link_reads, window)
    ends = np.zeros(dies.size)
    for i in range(dies.size):
        if begin[i] < begin[i + 1]:
            ends[i] = end[begin[i + 1] - 1]
    return ends


@compiled
def _sharing(die, begin, order, sources):  # type: ignore[no-untyped-def]
    """Return *die*, followed by the other dies that read from any HBM from which it reads."""
    read, dies, found = np.zeros(begin.size - 1, np.bool_), np.empty(begin.size - 1, np.int64), 1
    for i in range(begin[die], begin[die + 1]):
        read[sources[order[i]]] = True
    dies[0] = die
    for other in range(dies.size):
        shares = False
        for i in range(begin[other], begin[other + 1]):
            shares |= read[sources[order[i]]]
        if shares and other != die:
            dies[found] = other
            found += 1
    return dies[:found]


@compiled
def moves_of(begin):  # type: ignore[no-untyped-def]
    """Return all moves of a task within its die, as (from, to) indices, [moves, 2]."""
    most = 0
    for i in range(begin.size - 1):
        most += (begin[i + 1] - begin[i]) * (begin[i + 1] - begin[i] - 1)
    moves = np.empty((most, 2), np.int64)
    found = 0
    for i in range(begin.size - 1):
        for place in range(begin[i], begin[i + 1]):
            for to in range(begin[i], begin[i + 1]):
                if to != place and to != place - 1:  # the latter equals moving the task before to here
                    moves[found, 0], moves[found, 1] = place, to
                    found += 1
    return moves[:found]


@borrowing
def _floor(die, begin, order, tasks, wafer):  # type: ignore[no-untyped-def]
    """Return the minimum time of *die* over all orders."""
    computing, reads = 0.0, 0
    for i in range(begin[die], begin[die + 1]):
        computing += tasks[0][order[i]]
        reads += tasks[1][order[i]] == die
    return max(computing, reads * wafer[1])


@borrowing
def _differ(order, other):  # type: ignore[no-untyped-def]
    """Whether two orders differ, [tasks] each."""
    moved = 0
    for i in range(order.size):
        moved += order[i] != other[i]
    return moved > 0


@compiled
def _search(die, begin, order, tasks, wafer, budget):  # type: ignore[no-untyped-def]
    """Return *order* after a search over *die* and the dies that share an HBM with it, and the tasks forecast."""
    dies = _sharing(die, begin, order, tasks[1])
    part = np.zeros(dies.size + 1, np.int64)
    for i in range(dies.size):
        part[i + 1] = part[i] + begin[dies[i] + 1] - begin[dies[i]]
    near = np.empty(part[-1], np.int64)
    for i in range(dies.size):
        copy(order[begin[dies[i]] : begin[dies[i] + 1]], near[part[i] : part[i + 1]])
    moves = moves_of(part)
    best = largest(_die_ends(dies, part, near, tasks, wafer))
    floor = NEAR_FLOOR * _floor(die, begin, order, tasks, wafer)
    spent, trial, since = near.size, 0, 0
    while since < len(moves) and spent < budget and best > floor:
        place, to = moves[trial % len(moves)]
        trial += 1
        since += 1
        _move(near, place, to)
        latest = largest(_die_ends(dies, part, near, tasks, wafer))
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
    last = largest(ends)
    while left > 0 and last > enough:
        die = dies[0]  # the last to end of those not searched; a literal 0 would make numba compile the callees twice
        for other in range(dies.size):
            if not looked_at[other] and (looked_at[die] or ends[other] > ends[die]):
                die = other
        if looked_at[die] or ends[die] < late * last:
            break
        looked_at[die] = True
        if ends[die] <= NEAR_FLOOR * _floor(die, begin, order, tasks, wafer):
            continue
        trial, spent = _search(die, begin, order, tasks, wafer, min(left, budget // 4))
        left -= spent
        if not _differ(trial, order):
            continue
        after = _die_ends(dies, begin, trial, tasks, wafer)
        left -= order.size
        if largest(after) <= last and after[die] < ends[die]:
            if largest(after) < last * (1 - GAIN):
                looked_at = np.zeros(dies.size, np.bool_)
            order, ends, last = trial, after, largest(after)
    return order, last, left
