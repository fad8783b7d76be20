"""Surplus: whole experts stay where they are held; only what a die cannot finish by a goal moves to other dies.

The time of a die is estimated from its tasks alone. Tasks run in pairs: the one that computes longest with the one that
computes least, and so on. A pair takes its computing time, or the time of its two HBM reads if that is longer.
Computing is counted in whole tiles of tokens. In addition, two kinds of resources must end by the goal: each HBM, with
all reads from it, and each link, with weights in one direction and requests in the other.

For a goal of G seconds, every die that would take longer sheds tokens until it no longer does. A move takes whole tiles
of one expert, or all its tokens on that die, to a die that still ends by G. It is allowed only if the HBM and the links
of the read it needs also end by G. If the receiver already computes the expert, no new read is needed. For each expert
of the giver, the receiver is the die that can take most; ties go to the die nearest to the source of the weights, then
to the least loaded die. The expert whose move shortens the giver's time most is selected.

Bisection finds the least feasible G, between an equal share of the work and the time with every expert whole. A gain
smaller than the time of one read over one link moves nothing. All feasible plans found are returned, because the
estimate ignores contention between reads.

The functions are compiled; `surplus.py_func` is plain Python that calls them. They share three tuples:

    state  tokens and source of each (die, expert), [dies, experts], source -1 if nothing is read; seconds of reading
           of each HBM [dies] and of each link [links]; estimated seconds of each die, and how many tiles of one more
           expert it has time for, [dies] each
    view   sources of each expert, ascending, padded with -1, [experts, most]; whether a die holds it,
           [experts, dies]; hops [dies, dies]; routes [dies, dies, longest]
    costs  seconds of an HBM read, of a read over each link [links], of a hop there and back, of latency before a read,
           and of a tile; tokens of a tile; bytes of requests per byte of weights
"""

from __future__ import annotations

import numpy as np

from wss.arrays import copy, largest, stable_order
from wss.compiling import borrowing, compiled

HALVINGS = 10
ROUNDING = 1e-9


@borrowing
def span(seconds, hbm_read):  # type: ignore[no-untyped-def]
    """Return the estimated time of a die for tasks with *seconds* of computing each, descending, [tasks]."""
    total, last = 0.0, seconds.size - 1
    for i in range((seconds.size + 1) // 2):
        if i == last - i:
            total += max(seconds[i], hbm_read)
        else:
            total += max(seconds[i] + seconds[last - i], 2 * hbm_read)
    return total


@compiled
def _descending(tokens):  # type: ignore[no-untyped-def]
    """Return the experts that have *tokens* [experts], those with most first."""
    order, active = stable_order(-tokens), 0
    while active < order.size and tokens[order[active]] > 0:
        active += 1
    return order[:active]


@compiled
def _computing(row, costs):  # type: ignore[no-untyped-def]
    """Return the experts of a die, longest computing first, and their seconds; *row* is the die's tokens, [experts]."""
    tile_s, tile = costs[4], costs[5]
    experts = _descending(row)
    seconds = np.empty(experts.size)
    for i in range(experts.size):
        seconds[i] = np.ceil(row[experts[i]] / tile) * tile_s
    return experts, seconds


@compiled
def _changed(seconds, without, extra):  # type: ignore[no-untyped-def]
    """Return *seconds* without the entry at *without* (-1: keep all) and with *extra* (0: none), descending."""
    changed = np.empty(seconds.size + 1)
    size = 0
    waits = extra > 0.0
    for i in range(seconds.size):
        if waits and seconds[i] < extra:
            changed[size] = extra
            size += 1
            waits = False
        if i != without:
            changed[size] = seconds[i]
            size += 1
    if waits:
        changed[size] = extra
        size += 1
    return changed[:size]


@compiled
def _estimate(die, goal, state, costs):  # type: ignore[no-untyped-def]
    """Update the time estimate of *die*, and how many tiles of one more expert it could compute by *goal*."""
    tokens, _, _, _, takes, room = state
    _, seconds = _computing(tokens[die], costs)
    takes[die] = span(seconds, costs[0])
    low, high = 0, max(0, int((goal - seconds.sum()) / costs[4] + ROUNDING))
    tiles = high  # if no read is waited for, all that computing leaves
    while low < high:
        if span(_changed(seconds, -1, tiles * costs[4]), costs[0]) <= goal * (1 + ROUNDING):
            low = tiles
        else:
            high = tiles - 1
        tiles = (low + high + 1) // 2
    room[die] = low


@compiled
def _listed(dies_of):  # type: ignore[no-untyped-def]
    """Return the dies marked for each expert, ascending, padded with -1, [experts, most]."""
    where = np.full(dies_of.shape, -1, np.int64)
    most = 0
    for expert in range(len(dies_of)):
        found = 0
        for die in range(dies_of.shape[1]):
            if dies_of[expert, die]:
                where[expert, found] = die
                found += 1
        most = max(most, found)
    return where[:, :most].copy()


@compiled
def _start(counts, holders, costs):  # type: ignore[no-untyped-def]
    """Return the state with every expert whole: on its only holder, or on its least loaded holder so far."""
    where, num_dies = _listed(holders), holders.shape[1]
    order = _descending(counts)
    several = np.empty(order.size, np.int64)  # whether dies hold the expert beside the first
    for i in range(order.size):
        several[i] = where.shape[1] > 1 and where[order[i], 1] >= 0
    order = order[stable_order(several)]
    tokens = np.zeros((num_dies, counts.size), np.int64)
    source = np.full((num_dies, counts.size), -1, np.int64)
    computing, reading = np.zeros(num_dies), np.full(num_dies, costs[3])
    for expert in order:
        best = -1
        for die in where[expert]:
            if die >= 0 and (best < 0 or computing[die] < computing[best]):
                best = die
        tokens[best, expert], source[best, expert] = counts[expert], best
        computing[best] += max(costs[0], np.ceil(counts[expert] / costs[5]) * costs[4])
        reading[best] += costs[0]
    state = tokens, source, reading, np.zeros(costs[1].size), np.zeros(num_dies), np.zeros(num_dies, np.int64)
    for die in range(num_dies):
        _estimate(die, 0.0, state, costs)
    return state


@borrowing
def _origin(expert, die, state, view):  # type: ignore[no-untyped-def]
    """Return the die whose HBM *die* would read *expert* from: itself, else the least busy source (ties: nearest)."""
    reading, (where, holds, hops, _) = state[2], view
    if holds[expert, die]:
        return die
    best = where[expert, 0]
    for i in range(1, where.shape[1]):
        other = where[expert, i]
        if other >= 0 and (reading[other], hops[other, die]) < (reading[best], hops[best, die]):
            best = other
    return best


@borrowing
def _links_fit(origin, die, goal, state, view, costs):  # type: ignore[no-untyped-def]
    """Whether all links could carry one more read by *goal*."""
    load, hops, routes = state[3], view[2], view[3]
    ends = goal - costs[3] - costs[2] * hops[origin, die]
    for i in range(routes.shape[2]):
        there, back = routes[origin, die, i], routes[die, origin, i]
        if there >= 0 and load[there] + costs[1][there] > ends:
            return False
        if back >= 0 and load[back] + costs[6] * costs[1][back] > ends:
            return False
    return True


@borrowing
def _book(origin, die, times, state, view, costs):  # type: ignore[no-untyped-def]
    """Add a read (*times* 1) to the load of its HBM and links, or remove it (-1)."""
    state[2][origin] += times * costs[0]
    for link in view[3][origin, die]:
        if link >= 0:
            state[3][link] += times * costs[1][link]
    for link in view[3][die, origin]:
        if link >= 0:
            state[3][link] += times * costs[6] * costs[1][link]


@borrowing
def _receiver(giver, expert, need, goal, state, view, costs):  # type: ignore[no-untyped-def]
    """Return the best receiver of up to *need* tiles (-1: none), the tiles it takes, and how far it reads."""
    tokens, source, reading, _, takes, room = state
    here = int(np.ceil(tokens[giver, expert] / costs[5]))
    best, rank = -1, (0, 0, 0.0)
    for die in range(takes.size):
        reads = source[die, expert] < 0
        space = room[die] if reads else int((goal - takes[die]) / costs[4] + ROUNDING)
        amount = min(need, space, here)
        if die == giver or amount <= 0 or amount < rank[0]:
            continue
        distance = 0
        if reads:
            origin = _origin(expert, die, state, view)
            distance = view[2][origin, die] + 1
        if best >= 0 and (amount, -distance, -takes[die]) <= rank:
            continue
        if reads:
            freed = costs[0] if amount == here and source[giver, expert] == origin else 0.0
            if reading[origin] + costs[0] - freed > goal:
                continue
            if origin != die and not _links_fit(origin, die, goal, state, view, costs):
                continue
        best, rank = die, (amount, -distance, -takes[die])
    return best, rank[0], -rank[1]


@borrowing
def _move(giver, expert, die, tiles, state, view, costs):  # type: ignore[no-untyped-def]
    """Move *tiles* of *expert* from *giver* to *die*."""
    tokens, source = state[0], state[1]
    if source[die, expert] < 0:
        source[die, expert] = _origin(expert, die, state, view)
        _book(source[die, expert], die, 1, state, view, costs)
    moved = min(tokens[giver, expert], tiles * costs[5])
    tokens[giver, expert] -= moved
    tokens[die, expert] += moved
    if tokens[giver, expert] == 0:
        _book(source[giver, expert], giver, -1, state, view, costs)
        source[giver, expert] = -1


@compiled
def _shed(giver, goal, state, view, costs):  # type: ignore[no-untyped-def]
    """Make the best single move away from *giver*; return whether a move that helps it exists."""
    takes = state[4]
    need = max(1, int(np.ceil((takes[giver] - goal) / costs[4] - ROUNDING)))
    experts, seconds = _computing(state[0][giver], costs)
    chosen, rank = (-1, -1, 0), (0.0, 0, 0)
    for i in range(experts.size):
        die, amount, distance = _receiver(giver, experts[i], need, goal, state, view, costs)
        if die < 0:
            continue
        left = seconds[i] - amount * costs[4]
        gain = takes[giver] - span(_changed(seconds, i, left if left > 0.5 * costs[4] else 0.0), costs[0])
        if gain > ROUNDING * goal and (chosen[0] < 0 or (gain, amount, -distance) > rank):
            chosen, rank = (experts[i], die, amount), (gain, amount, -distance)
    if chosen[0] < 0:
        return False
    _move(giver, chosen[0], chosen[1], chosen[2], state, view, costs)
    _estimate(giver, goal, state, costs)
    _estimate(chosen[1], goal, state, costs)
    return True


@compiled
def _reach(goal, state, view, costs):  # type: ignore[no-untyped-def]
    """Shed until every die ends by *goal*; return whether this is possible."""
    takes = state[4]
    for die in range(takes.size):
        _estimate(die, goal, state, costs)
    for giver in stable_order(-takes):
        while takes[giver] > goal * (1 + ROUNDING):
            if not _shed(giver, goal, state, view, costs):
                return False
    return True


@borrowing
def _keep(state, plan, tokens, origins):  # type: ignore[no-untyped-def]
    """Store the tokens and sources of *state* as those of the plan with index *plan*."""
    for die in range(tokens.shape[1]):
        copy(state[0][die], tokens[plan, die])
        copy(state[1][die], origins[plan, die])


@compiled
def surplus(counts, holders, sources, hops, routes, costs):  # type: ignore[no-untyped-def]
    """Distribute the tokens of one layer run.

    Parameters
    ----------
    counts
        Tokens of each expert, [experts].
    holders, sources
        The dies that hold each expert, and those from which others may read it, [experts, dies] each.
    hops, routes, costs
        As in the module docstring.

    Returns
    -------
    tuple
        Tokens and source of each (die, expert) in each plan found, [plans, dies, experts] each, and the estimated
        seconds of each plan, descending, [plans]. The first plan keeps every expert whole.
    """
    view = _listed(sources), holders, hops, routes
    start = _start(counts, holders, costs)
    reading, takes = largest(start[2]), largest(start[4])
    low, high = max(reading, counts.sum() / costs[5] * costs[4] / hops.shape[0]), max(reading, takes)
    worth = high - ((costs[1].min() if costs[1].size else 0.0) + costs[2] + costs[3])
    shape = (HALVINGS + 1, *start[0].shape)
    tokens, origins = np.empty(shape, np.int64), np.empty(shape, np.int64)
    goals = np.empty(HALVINGS + 1)
    plans = np.int64(0)  # a literal would make numba compile the callee twice
    _keep(start, plans, tokens, origins)
    goals[0], plans = high, plans + 1
    for _ in range(HALVINGS):
        goal = min((low + high) / 2, worth)
        if goal <= low:
            break
        trial = (start[0].copy(), start[1].copy(), start[2].copy(), start[3].copy(), start[4].copy(), start[5].copy())
        if _reach(goal, trial, view, costs):
            _keep(trial, plans, tokens, origins)
            goals[plans], plans, high = goal, plans + 1, goal
        else:
            low = goal
    return tokens[:plans], origins[:plans], goals[:plans]
