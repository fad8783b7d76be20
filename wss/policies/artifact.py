"""The five policies as the paper's own simulator plans them; for ``physics: paper_artifact`` alone.

Tasks are (expert, die, tokens), sorted by expert. The allocator works with whole experts and with utilisations of its
own (0.7 of compute, 0.9 of DRAM and links). It differs from `wss.policies.algorithm1` in its blocks (512 tokens; below
1,024 left all go together), in charging links for every block, and in its estimate of a die: max(local compute, DRAM,
links in) + remote compute.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from wss.policies.prediction import top_of_rows
from wss.records import IntArray

Task = tuple[int, int, int]

OFFSET = 7
BLOCK = 512
MIN_CANDIDATES = 5
TOP_SHARE = 0.2


def in_turn(order: Sequence[int], counts: IntArray, num_dies: int) -> list[Task]:
    """Return base's tasks: the i-th first-seen expert on die (i + 7) mod D."""
    return sorted((int(e), (i + OFFSET) % num_dies, int(counts[e])) for i, e in enumerate(order))


def at_home(order: Sequence[int], counts: IntArray, home: Sequence[int]) -> list[Task]:
    """Return expert parallelism's tasks."""
    return sorted((int(e), home[int(e)], int(counts[e])) for e in order)


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What the allocator reckons with, in ns: a token's compute, a whole expert's DRAM read and transfer, a hop."""

    token: float
    dram: float
    transfer: float
    hop: float


class _Load:
    """The allocator's estimate of every die."""

    def __init__(self, num_dies: int) -> None:
        self.compute_local, self.compute_remote = [0.0] * num_dies, [0.0] * num_dies
        self.dram, self.links_in = [0.0] * num_dies, [0.0] * num_dies

    def of(self, die: int, local: float = 0.0, remote: float = 0.0, dram: float = 0.0, links: float = 0.0) -> float:
        """Return the estimate of *die* with something added."""
        return (
            max(self.compute_local[die] + local, self.dram[die] + dram, self.links_in[die] + links)
            + self.compute_remote[die]
            + remote
        )


def allocate(
    order: Sequence[int],
    counts: IntArray,
    home: Sequence[int],
    hops: IntArray,
    copies: Collection[tuple[int, int]],
    prices: Prices,
) -> list[Task]:
    """Return the allocator's tasks; *copies* holds the (expert, die) of which a die has any slice."""
    load = _Load(len(hops))
    active = [int(e) for e in order]
    for expert in active:
        load.dram[home[expert]] += prices.dram
    mean = counts[active].sum() / len(active)
    tasks: list[Task] = []
    for expert in sorted(active, key=lambda e: (counts[e], e)):
        holders = {home[expert]} | {die for e, die in copies if e == expert}
        tasks += _hand_out(expert, int(counts[expert]), mean, home[expert], holders, hops, load, prices)
    return sorted(tasks)


def _hand_out(
    expert: int,
    count: int,
    mean: float,
    home: int,
    holders: set[int],
    hops: IntArray,
    load: _Load,
    prices: Prices,
) -> list[Task]:
    """Hand out one expert's tokens in blocks, each to the candidate that it delays least."""

    def transfer(die: int) -> float:
        return prices.hop * float(hops[home, die]) + prices.transfer

    near = [die for die in range(len(hops)) if die in holders or hops[home, die] == 1]
    near.sort(key=lambda die: (load.of(die) + (0.0 if die in holders else transfer(die)), die))
    kept = near[: max(MIN_CANDIDATES, int(count // max(mean, BLOCK)))]
    given: dict[int, int] = {}
    left = count
    while left > 0:
        block = left if left < 2 * BLOCK else BLOCK
        work = block * prices.token

        def score(die: int, work: float = work) -> tuple[float, bool]:
            read = 0.0 if die in given else prices.dram
            if die in holders:
                return load.of(die, local=work, dram=0.0 if die == home else read), False
            own = load.of(die, remote=work, links=transfer(die))
            return max(own, load.of(home, dram=read)), True

        die = min(kept, key=score)
        first = die not in given
        if die in holders:
            load.compute_local[die] += work
            load.dram[die] += prices.dram if first and die != home else 0.0
        else:
            load.compute_remote[die] += work
            load.links_in[die] += transfer(die)
            load.dram[home] += prices.dram if first else 0.0
        given[die] = given.get(die, 0) + block
        left -= block
    return [(expert, die, tokens) for die, tokens in given.items()]


def wanted_copies(heat: IntArray, tasks: Sequence[Task]) -> set[tuple[int, int]]:
    """Return the (die, expert) worth a copy: in the top 20% of the row of any expert that the die computes now."""
    top = top_of_rows(heat, math.ceil(TOP_SHARE * len(heat)), only_seen=False)
    by_die: dict[int, list[int]] = {}
    for expert, die, _ in tasks:
        by_die.setdefault(die, []).append(expert)
    return {
        (die, int(expert)) for die, experts in by_die.items() for expert in np.flatnonzero(top[experts].any(axis=0))
    }
