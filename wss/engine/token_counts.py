"""How many tokens a die, or a node of dies, is sent: those of which it computes anything.

A token is sent once to where several of its experts are computed, so it matters which experts tokens have together.
From the counts of experts alone that is an expected number, `expected_unique_tokens`; from the experts of every token
it is counted, `exact_unique_tokens`.
"""

from __future__ import annotations

import numba
import numpy as np

from wss.records import FloatArray, IntArray, Plan, Routed


def at_nodes(plan: Plan, node: IntArray) -> Plan:
    """Return *plan* as if each node were one die; *node* is which one each die belongs to, [dies]."""
    (expert, at), part = np.unique(np.stack([plan.expert, node[plan.die]]), axis=1, return_inverse=True)
    tokens = np.bincount(part.ravel(), plan.tokens, len(at)).astype(np.int64)
    return Plan(expert=expert, die=at, tokens=tokens, source=at, copy=np.zeros(len(at), np.bool_))


def expected_unique_tokens(plan: Plan, top_k: int, num_dies: int, zero_choices: int = 0) -> FloatArray:
    """Return of how many different tokens each die computes anything, as expected from the counts alone, [dies].

    Of N tokens a share p_i is in part i of the die, an expert's tokens there. A token has top_k different experts, so
    of those that are in none of the parts before i, a share p_i · k / (k - p_1 - ... - p_(i-1)) is in i: what is left
    of its k choices falls on the experts that are left. Parts are taken with most tokens first. This is exact if every
    expert is as likely (the hypergeometric distribution), if top_k is 1, and for one die; it is never less than the
    largest part nor more than all parts together, and over all dies never less than N. Which experts a token has
    together is taken to be chance. Of all choices *zero_choices* fell on experts that nobody computes, as if these were
    on a die of their own.
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
    """Return of how many different tokens each die computes anything, by the experts that each token has, [dies].

    Which of its tokens go where an expert is computed on several dies is taken to be chance, in the proportions of the
    plan: then this is an expected number too, over that alone.
    """
    order = np.argsort(plan.expert, kind="stable")
    expert, die, tokens = plan.expert[order], plan.die[order], plan.tokens[order]
    first = np.searchsorted(expert, np.arange(expert[-1] + 2))
    share = tokens / np.bincount(expert, tokens)[expert]
    received: FloatArray = _count_met(routed.experts, routed.times, first, die, share, num_dies)
    return received


@numba.njit(cache=True, nogil=True)
def _count_met(experts, times, first, die, share, num_dies):  # type: ignore[no-untyped-def]
    """Return the tokens that each die meets, [dies].

    *experts* [tokens, top_k] and *times* [tokens] are `Routed`; the parts of expert e, from first[e] to first[e + 1],
    are on *die* and have a *share* of its tokens, [parts].
    """
    received = np.zeros(num_dies)
    none_of = np.ones(num_dies)
    for token in range(times.size):
        if times[token] == 0:
            continue
        for expert in experts[token]:
            if expert + 1 >= first.size:
                continue  # a zero-computation expert: nobody computes it
            for part in range(first[expert], first[expert + 1]):
                none_of[die[part]] *= 1.0 - share[part]
        for expert in experts[token]:
            if expert + 1 >= first.size:
                continue
            for part in range(first[expert], first[expert + 1]):
                received[die[part]] += times[token] * (1.0 - none_of[die[part]])
                none_of[die[part]] = 1.0
    return received
