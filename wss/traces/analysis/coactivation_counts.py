"""Co-activation counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from wss.compiling import compiled
from wss.records import IntArray
from wss.traces.schema import RequestRouting


@compiled
def _count(experts, layers, rows, times, pairs):  # type: ignore[no-untyped-def]
    """Add the first *rows* of one request, *times* times: experts [tokens, all layers, k]."""
    for t in range(rows):
        for at in range(layers.size):
            chosen = experts[t, layers[at]]
            for a in range(chosen.size):
                for b in range(a):
                    pairs[at, chosen[a], chosen[b]] += times
                    pairs[at, chosen[b], chosen[a]] += times


def prefill_pairs(
    requests: Iterable[RequestRouting], num_requests: int, batch: int, layers: Sequence[int], num_experts: int
) -> IntArray:
    """Return how often two experts share a prefill token, [layers, experts, experts], symmetric.

    The first *batch* of the *num_requests* *requests* count; if fewer, they repeat cyclically.
    """
    pairs = np.zeros((len(layers), num_experts, num_experts), np.int64)
    for number, request in enumerate(requests):
        times = batch // num_requests + (number < batch % num_requests)
        _count(request.experts, np.array(layers), request.num_prefill, times, pairs)
    return pairs
