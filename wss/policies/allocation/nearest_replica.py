"""Nearest replica: if an expert is on several dies, each die sends its tokens to the closest of them.

A layer run's view does not say where tokens are when the layer begins. Attention is spread over the dies, so each die
is assumed to send an equal share of every expert's tokens: of the n tokens of expert e, die (k + e) mod D sends those
from k·n/D to (k+1)·n/D, rounded down. The dies that send one token of the remainder thus differ between experts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wss.compiling import compiled
from wss.policies.parts import Allocation
from wss.policies.views import LayerView
from wss.records import Plan


@dataclass(frozen=True, kw_only=True)
class Nearest(Allocation):
    """Expert parallelism with replicas: each die's tokens go to the nearest replica.

    A die has an equal share of an expert's tokens; distance is in hops. Ties go to the holder with the fewest tokens so
    far in this layer run per replica of the expert, then to the lower die. Experts are processed as first seen, sending
    dies by index. No weights move. SGLang's static dispatch for EPLB's replicas is similar: a GPU's own replica, else
    one in its node, else any (`sglang/srt/eplb/expert_location.py`, 2025).
    """

    local = True

    def allocate(self, view: LayerView) -> Plan:
        """Return one task per (expert, holder) with tokens: experts as first seen, dies by index."""
        tokens = to_nearest(view.order, view.counts, view.replicas, view.hops)
        place, die = np.nonzero(tokens)
        copy = np.zeros(len(die), np.bool_)
        return Plan(expert=view.order[place], die=die, tokens=tokens[place, die], source=die, copy=copy)


@compiled
def to_nearest(order, counts, replicas, hops):  # type: ignore[no-untyped-def]
    """Return the tokens of each expert in *order* on each die, [active experts, dies]; rest as in `LayerView`.

    Compiled; ``to_nearest.py_func`` is the same code as plain Python.
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
