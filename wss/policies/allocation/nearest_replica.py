"""Nearest replica: where an expert lives on several dies, each die sends its tokens to the closest of them.

Where a token is when its layer begins is not part of a layer run's view. Attention is spread over the dies, so each is
taken to send an equal share of every expert's tokens: of the n tokens of expert e, die (k + e) mod D sends those from
k·n/D to (k+1)·n/D, rounded down. Which dies send one more of what does not divide thus differs between experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from wss.errors import CHECKED
from wss.policies.views import LayerView
from wss.records import Plan


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """Expert parallelism with replicas: each die's share of an expert's tokens to the holder with fewest hops from it.

    Of equally near holders the one that has fewest tokens so far in this layer run for each of its replicas of the
    expert, then the lower die; experts are gone through as first seen, sending dies by number. No weights move.
    SGLang's static dispatch of EPLB's replicas is like it: a GPU's own replica, else one of its node, else any
    (`sglang/srt/eplb/expert_location.py`, 2025).
    """

    __pydantic_config__ = CHECKED

    def allocate(self, view: LayerView) -> Plan:
        """Return a task for each holder that has tokens, experts as first seen, dies by number."""
        tokens = to_nearest(view.order, view.counts, view.replicas, view.hops)
        place, die = np.nonzero(tokens)
        return Plan(
            expert=view.order[place],
            die=die,
            tokens=tokens[place, die],
            source=die,
            copy=np.zeros(len(die), np.bool_),
        )


@numba.njit(cache=True, nogil=True)
def to_nearest(order, counts, replicas, hops):  # type: ignore[no-untyped-def]
    """Return the tokens of each expert in *order* that each die gets, [active experts, dies]; rest as in `LayerView`.

    Compiled; ``to_nearest.py_func`` is the same lines as plain Python.
    """
    num_dies = hops.shape[0]
    given = np.zeros((order.size, num_dies), np.int64)
    load = np.zeros(num_dies, np.int64)
    for place in range(order.size):
        expert = order[place]
        own = replicas[expert]
        held = np.flatnonzero(own)
        for sender in range(num_dies):
            turn = (sender - expert) % num_dies
            sent = (turn + 1) * counts[expert] // num_dies - turn * counts[expert] // num_dies
            best = held[0]
            for holder in held[1:]:
                if (hops[sender, holder], load[holder] * own[best]) < (hops[sender, best], load[best] * own[holder]):
                    best = holder
            given[place, best] += sent
            load[best] += sent
    return given
