"""Tokens of each die if every replica of an expert gets an equal part, as engines split them."""

from __future__ import annotations

import numpy as np

from wss.compiling import compiled


@compiled
def equal_parts(counts, replicas):  # type: ignore[no-untyped-def]
    """Return the tokens of each expert on each die, [experts, dies]; parts differ by at most one token.

    The tokens of the remainder go, one by one, to a replica on the die that is furthest below its exact share of all
    experts so far (ties: the lowest die). Experts are processed by index. So the total of each die is within about one
    token of its exact share.

    Parameters
    ----------
    counts
        Tokens of each expert, [experts].
    replicas
        Replicas of each expert on each die, [experts, dies]; experts with tokens have at least one.
    """
    num_experts, num_dies = replicas.shape
    tokens = np.zeros((num_experts, num_dies), np.int64)
    behind = np.zeros(num_dies)  # tokens below the exact share
    for expert in range(num_experts):
        if counts[expert] == 0:
            continue
        total = replicas[expert].sum()
        each, left = divmod(counts[expert], total)
        free = np.zeros(num_dies, np.int64)  # replicas without a token of the remainder
        for die in range(num_dies):
            free[die] = replicas[expert, die]
            tokens[expert, die] = each * free[die]
            behind[die] += left * free[die] / total
        for _ in range(left):
            best = -1
            for die in range(num_dies):
                if free[die] > 0 and (best < 0 or behind[die] > behind[best]):
                    best = die
            tokens[expert, best] += 1
            free[best] -= 1
            behind[best] -= 1.0
    return tokens
