"""Replay of a batch from counts alone: requests are read as a stream, and none is retained.

If no policy predicts, transitions are not needed. A layer run is then its counts and the order in which experts first
appear. Both are stored for every (step, layer), independent of the number of requests. The layer runs equal those of
`Replay`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numba
import numpy as np

from wss.records import IntArray
from wss.traces.recorded import LayerTokens
from wss.traces.schema import RequestRouting


@numba.njit(cache=True, nogil=True)
def _take_in(experts, layers, step, times, counts, first, place):  # type: ignore[no-untyped-def]
    """Add one request, *times* times: experts [tokens, all layers, k], step of each token."""
    for t in range(step.size):
        s = step[t]
        for at in range(layers.size):
            for k in range(experts.shape[2]):
                expert = experts[t, layers[at], k]
                if counts[s, at, expert] == 0:
                    first[s, at, expert] = place[s, at]
                counts[s, at, expert] += times
                place[s, at] += 1


class CountedReplay:
    """The layer runs of a batch, counted.

    Parameters
    ----------
    requests
        The requests of the batch, each once, in order; read once.
    num_requests
        Number of requests.
    batch, steps, layers, num_experts
        As for `Replay`.
    """

    def __init__(
        self,
        requests: Iterable[RequestRouting],
        num_requests: int,
        batch: int,
        steps: int,
        layers: Sequence[int],
        num_experts: int,
    ) -> None:
        self.steps, self.layers = steps, tuple(layers)
        shape = (steps + 1, len(self.layers), num_experts)
        self._counts, self._first = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        self._tokens: IntArray = np.zeros(steps + 1, np.int64)
        place, keep = np.zeros(shape[:2], np.int64), np.array(self.layers)
        for number, request in enumerate(requests):
            times = batch // num_requests + (number < batch % num_requests)
            rows = min(len(request.position), request.num_prefill + steps)
            step = np.maximum(np.arange(rows) - request.num_prefill + 1, 0)
            _take_in(request.experts, keep, step, times, self._counts, self._first, place)
            self._tokens += np.bincount(step, minlength=steps + 1) * times

    @property
    def has_prefill(self) -> bool:
        """Whether any request has prefill tokens."""
        return bool(self._tokens[0] > 0)

    def tokens(self, step: int) -> int:
        """Return the number of tokens of the batch in *step*."""
        return int(self._tokens[step])

    def layer_runs(self) -> Iterator[LayerTokens]:
        """Yield every layer run in time order, as `Replay.layer_runs`; heat is zero."""
        num_layers, num_experts = self._counts.shape[1:]
        heat = np.zeros((num_experts, num_experts), np.int64)
        seen = np.zeros((num_layers, num_experts), np.int64)
        for step in range(0 if self.has_prefill else 1, self.steps + 1):
            for layer in range(num_layers):
                counts = self._counts[step, layer]
                active = np.flatnonzero(counts)
                seen[layer] += counts
                then = (layer + 1) % num_layers
                yield LayerTokens(
                    step=step,
                    layer=layer,
                    counts=counts.copy(),
                    order=active[np.argsort(self._first[step, layer, active], kind="stable")],
                    heat=heat,
                    next_layer=then,
                    next_seen=seen[then],
                )
