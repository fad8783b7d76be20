"""Surplus: whole experts stay where they are held, and only what a die cannot finish by a goal moves to others.

What a die takes is estimated from its tasks alone: they are run in pairs, the one that computes longest with the one
that computes least, and so on; a pair takes its computing, or its two reads from HBM if that is longer. An expert's
computing goes by whole tiles of tokens. To this come, as ends of their own, what each HBM reads for whoever asks, and
what each link carries: weights one way, requests the other.

For a goal G in seconds, every die that would take longer sheds tokens until it would not. A move takes whole tiles of
one expert, or all it has there, to a die that still ends by G, and is allowed only if the HBM and the links of the read
that it needs end by G too. Nothing is read anew for an expert that the receiver computes already. For each expert of
the giver, the receiver is the one that can take most; of equals, the nearest to where the weights come from; of these,
the one with least to do. The expert is the one whose move shortens the giver's time most.

The least G that can be reached is found by bisection, between an equal share of the work and what keeping every expert
whole takes. Nothing moves for a gain below what reading over one link takes. All plans met on the way are returned, as
the estimate does not know how long reads wait for one another.

Written once: the functions are compiled, `surplus.py_func` is plain Python that calls them. They share three tuples:

    state  tokens and source of each (die, expert), [dies, experts], -1 where nothing is read; seconds that each HBM
           reads and that each link carries, [dies], [links]; estimated seconds, and tiles of one more expert that fit
    view   sources of each expert, ascending, -1 after the last, [experts, most]; whether a die holds it,
           [experts, dies]; hops [dies, dies]; routes [dies, dies, longest]
    costs  seconds of an HBM read, of a read over each link [links], of a hop there and back, before a read, of a tile;
           tokens of a tile; bytes of requests for a byte of weights
"""

from __future__ import annotations

import numba
import numpy as np

from wss.arrays import copy, stable_order

HALVINGS = 10
ROUNDING = 1e-9


@numba.njit(cache=True, nogil=True)
def span(seconds, hbm_read):  # type: ignore[no-untyped-def]
    """Return what a die takes for tasks of *seconds* of computing each, falling, [tasks]."""
    total, last = 0.0, seconds.size - 1
    for i in range((seconds.size + 1) // 2):
        if i == last - i:
            total += max(seconds[i], hbm_read)
        else:
            total += max(seconds[i] + seconds[last - i], 2 * hbm_read)
    return total


@numba.njit(cache=True, nogil=True)
def _computing(row, costs):  # type: ignore[no-untyped-def]
    """Return the experts of a die, longest computing first, and their seconds; *row* is its tokens, [experts]."""
    tile_s, tile = costs[4], costs[5]
    experts = np.flatnonzero(row)
    experts = experts[stable_order(-row[experts])]
    return experts, np.ceil(row[experts] / tile) * tile_s


@numba.njit(cache=True, nogil=True)
def _changed(seconds, without, extra):  # type: ignore[no-untyped-def]
    """Return falling *seconds* without the one at *without* (-1: all) and with *extra* (0: no other), falling."""
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


@numba.njit(cache=True, nogil=True)
def _estimate(die, goal, state, costs):  # type: ignore[no-untyped-def]
    """Note anew what *die* takes, and how many tiles of one more expert it could compute by *goal*."""
    tokens, _, _, _, takes, room = state
    _, seconds = _computing(tokens[die], costs)
    takes[die] = span(seconds, costs[0])
    low, high = 0, max(0, int((goal - seconds.sum()) / costs[4] + ROUNDING))
    tiles = high  # where no read is waited for, all that computing leaves
    while low < high:
        if span(_changed(seconds, -1, tiles * costs[4]), costs[0]) <= goal * (1 + ROUNDING):
            low = tiles
        else:
            high = tiles - 1
        tiles = (low + high + 1) // 2
    room[die] = low


@numba.njit(cache=True, nogil=True)
def _listed(dies_of):  # type: ignore[no-untyped-def]
    """Return which dies are marked for each expert, ascending, -1 after the last, [experts, most]."""
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


@numba.njit(cache=True, nogil=True)
def _start(counts, holders, costs):  # type: ignore[no-untyped-def]
    """Return the state with every expert whole: those with one holder there, the others where least is to do so far."""
    where, num_dies = _listed(holders), holders.shape[1]
    descending = stable_order(-counts)[: np.count_nonzero(counts)]
    replicas = np.array([np.count_nonzero(where[expert] >= 0) for expert in descending])
    order = descending[stable_order(replicas > 1)]
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


@numba.njit(cache=True, nogil=True)
def _origin(expert, die, state, view):  # type: ignore[no-untyped-def]
    """Return whose HBM *die* would read *expert* from: its own, else the least busy source's; of equals the nearest."""
    reading, (where, holds, hops, _) = state[2], view
    if holds[expert, die]:
        return die
    best = where[expert, 0]
    for i in range(1, where.shape[1]):
        other = where[expert, i]
        if other >= 0 and (reading[other], hops[other, die]) < (reading[best], hops[best, die]):
            best = other
    return best


@numba.njit(cache=True, nogil=True)
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


@numba.njit(cache=True, nogil=True)
def _book(origin, die, times, state, view, costs):  # type: ignore[no-untyped-def]
    """Add *times* (1 or -1) a read to what an HBM reads and links carry."""
    state[2][origin] += times * costs[0]
    for link in view[3][origin, die]:
        if link >= 0:
            state[3][link] += times * costs[1][link]
    for link in view[3][die, origin]:
        if link >= 0:
            state[3][link] += times * costs[6] * costs[1][link]


@numba.njit(cache=True, nogil=True)
def _receiver(giver, expert, need, goal, state, view, costs):  # type: ignore[no-untyped-def]
    """Return the best die for up to *need* tiles of an expert of *giver*, -1 for none; how many; how far it reads."""
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


@numba.njit(cache=True, nogil=True)
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


@numba.njit(cache=True, nogil=True)
def _shed(giver, goal, state, view, costs):  # type: ignore[no-untyped-def]
    """Make the best single move away from *giver*; return whether there was one that helps it."""
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


@numba.njit(cache=True, nogil=True)
def _reach(goal, state, view, costs):  # type: ignore[no-untyped-def]
    """Shed until every die ends by *goal*; return whether that is possible."""
    takes = state[4]
    for die in range(takes.size):
        _estimate(die, goal, state, costs)
    for giver in stable_order(-takes):
        while takes[giver] > goal * (1 + ROUNDING):
            if not _shed(giver, goal, state, view, costs):
                return False
    return True


@numba.njit(cache=True, nogil=True)
def _keep(state, plan, tokens, origins):  # type: ignore[no-untyped-def]
    """Copy tokens and sources of *state* to those of the plan with this number."""
    for die in range(tokens.shape[1]):
        copy(state[0][die], tokens[plan, die])
        copy(state[1][die], origins[plan, die])


@numba.njit(cache=True, nogil=True)
def surplus(counts, holders, sources, hops, routes, costs):  # type: ignore[no-untyped-def]
    """Share out one layer run.

    Parameters
    ----------
    counts
        Tokens of each expert, [experts].
    holders, sources
        Which dies hold each expert, and from which others may read it, [experts, dies] each.
    hops, routes, costs
        As in the module's head.

    Returns
    -------
    tuple
        Tokens and source of each (die, expert) in each plan found, [plans, dies, experts] each, and the seconds that
        it should take, falling, [plans]. The first keeps every expert whole.
    """
    view = _listed(sources), holders, hops, routes
    start = _start(counts, holders, costs)
    reading, takes = start[2].max(), start[4].max()
    low, high = max(reading, counts.sum() / costs[5] * costs[4] / hops.shape[0]), max(reading, takes)
    worth = high - ((costs[1].min() if costs[1].size else 0.0) + costs[2] + costs[3])
    tokens, origins = (
        np.empty((HALVINGS + 1, *start[0].shape), np.int64),
        np.empty((HALVINGS + 1, *start[0].shape), np.int64),
    )
    goals = np.empty(HALVINGS + 1)
    plans = np.int64(0)  # a literal would compile what takes it twice
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
