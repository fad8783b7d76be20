"""Recorded routing: the experts of a token are looked up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wss.records import Batch, IntArray
from wss.traces.schema import RequestRouting
from wss.traces.source import Chunk


class RecordedRouting:
    """The experts of the tokens of recorded requests.

    Parameters
    ----------
    requests
        The requests, in the order of their numbers in a `Batch`; read once.
    lengths
        How many tokens of each are ever computed, [requests]; no others are held.
    layers, num_experts
        As for `RoutingSource`; experts per layer.
    """

    def __init__(
        self, requests: Iterable[RequestRouting], lengths: IntArray, layers: Sequence[int], num_experts: int
    ) -> None:
        self.layers = tuple(layers)
        self._offsets: IntArray = np.concatenate([[0], np.cumsum(lengths)])
        self._follows = np.zeros(self._offsets[-1], np.bool_)  # whether the token before precedes it in the sequence
        kind, keep = np.min_scalar_type(num_experts - 1), np.array(self.layers)
        self._experts: npt.NDArray[np.unsignedinteger[Any]] = np.empty((len(self.layers), 0, 0), kind)
        for request, low, high in zip(requests, self._offsets[:-1].tolist(), self._offsets[1:].tolist(), strict=True):
            if low == 0:
                top_k = request.experts.shape[2]
                self._experts = np.empty((len(self.layers), self._offsets[-1], top_k), kind)
            self._experts[:, low:high] = request.experts[: high - low, keep].swapaxes(0, 1)
            self._follows[low + 1 : high] = np.diff(request.position[: high - low]) == 1

    def tokens(self, batch: Batch, *, pairs: bool) -> Iterator[Chunk]:
        """Yield the tokens of *batch*, one chunk a layer."""
        size = batch.new_tokens + pairs
        ends = np.cumsum(size)
        first = self._offsets[batch.request] + batch.context - pairs
        rows = np.arange(ends[-1]) + np.repeat(first - ends + size, size)
        multiplicity = np.repeat(batch.multiplicity, size)
        follows = multiplicity * self._follows[rows]
        if pairs:
            multiplicity[ends - size] = 0
            follows[ends - size] = 0
        for layer in range(len(self.layers)):
            yield Chunk(layer, self._experts[layer].take(rows, axis=0), multiplicity, follows)
