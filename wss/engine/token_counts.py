"""Unique tokens of a die, or of a node of dies: the tokens with any expert computed there.

A token is sent once to a place that computes several of its experts, so the result depends on which experts tokens
share. `expected_unique_tokens` gives the expected number from the counts of experts alone; `exact_unique_tokens` counts
from the experts of every token.
"""

from __future__ import annotations

import numpy as np

from wss.compiling import compiled
from wss.records import FloatArray, IntArray, Plan, Routed


def at_nodes(plan: Plan, node: IntArray) -> Plan:
    """Return *plan* as if each node were one die; *node* is the node of each die, [dies]."""
    (expert, at), part = np.unique(np.stack([plan.expert, node[plan.die]]), axis=1, return_inverse=True)
    tokens = np.bincount(part.ravel(), plan.tokens, len(at)).astype(np.int64)
    return Plan(expert=expert, die=at, tokens=tokens, source=at, copy=np.zeros(len(at), np.bool_))


def expected_unique_tokens(plan: Plan, top_k: int, num_dies: int, zero_choices: int = 0) -> FloatArray:
    """Return the expected number of unique tokens of each die, from the counts of experts alone, [dies].

    A part is an expert's tokens on the die. Of N tokens, a share p_i is in part i. A token has k = top_k different
    experts. So of the tokens in none of the parts before i, a share p_i · k / (k - p_1 - ... - p_(i-1)) is in i: the
    remaining choices of a token fall on the remaining experts. Parts are taken in descending order of tokens. The
    result is exact if all experts are equally likely (the hypergeometric distribution), if top_k is 1, and for a single
    die. It is never less than the largest part, never more than all parts together, and its sum over dies is never less
    than N. Combinations of experts are assumed random. *zero_choices* of all choices fell on experts that no die
    computes; they count as if on a die of their own.
    """
    order, choices = np.lexsort((-plan.tokens, plan.die)), plan.tokens.sum() + zero_choices
    die, share = plan.die[order], plan.tokens[order] * (top_k / choices)
    before = np.cumsum(share) - share
    before -= before[np.searchsorted(die, die)]
    none_of = np.ones(num_dies)
    np.multiply.at(none_of, die, np.clip(1.0 - share * top_k / np.maximum(top_k - before, share), 0.0, 1.0))
    received: FloatArray = choices / top_k * (1.0 - none_of)
    return received


def exact_unique_tokens(plan: Plan, routed: Routed, num_dies: int) -> FloatArray:
    """Return the number of unique tokens of each die, from the experts of each token, [dies].

    If an expert is computed on several dies, its tokens are assigned to them at random, in the plan's proportions; the
    result is the expected number over this assignment.
    """
    order = np.argsort(plan.expert, kind="stable")
    expert, die, tokens = plan.expert[order], plan.die[order], plan.tokens[order]
    first = np.searchsorted(expert, np.arange(expert[-1] + 2))
    share = tokens / np.bincount(expert, tokens)[expert]
    received: FloatArray = _count_met(routed.experts, routed.multiplicity, first, die, share, num_dies)
    return received


@compiled
def _count_met(experts, times, first, die, share, num_dies):  # type: ignore[no-untyped-def]
    """Return the unique tokens of each die, [dies].

    *experts* [tokens, top_k] and *times* [tokens] are those of `Routed`. The parts of expert e, from first[e] to
    first[e + 1], are on *die* and have a *share* of its tokens, [parts] each.
    """
    received = np.zeros(num_dies)
    none_of = np.ones(num_dies)
    for token in range(times.size):
        if times[token] == 0:
            continue
        for expert in experts[token]:
            if expert + 1 >= first.size:
                continue  # a zero-computation expert: no die computes it
            for part in range(first[expert], first[expert + 1]):
                none_of[die[part]] *= 1.0 - share[part]
        for expert in experts[token]:
            if expert + 1 >= first.size:
                continue
            for part in range(first[expert], first[expert + 1]):
                received[die[part]] += times[token] * (1.0 - none_of[die[part]])
                none_of[die[part]] = 1.0
    return received
