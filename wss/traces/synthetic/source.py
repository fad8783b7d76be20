"""Synthetic routing, drawn while it is used; the trace is never stored.

A token's routing depends only on the previous token and the previous layer. So only the last token's cluster and
experts are stored for every request and layer, independent of the number of steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from wss.models import ModelShape
from wss.records import Batch, IntArray
from wss.traces.source import Chunk
from wss.traces.synthetic.sampler import NEVER, NextTokens, advance
from wss.traces.synthetic.spec import SynthSpec, draws_of

_ROWS = 4096  # tokens generated at a time, to stay in the CPU's caches; more if one request has more


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of one step, the same in every layer: of each request the previous token, and its own.

    Attributes
    ----------
    offsets
        The first row of each request, and the end, [requests + 1].
    start
        The position of each request's first own token, [requests]; tokens that were not drawn before come with it.
    parts
        First request and end of each chunk.
    multiplicity, pairs
        As in `Chunk`, [rows].
    """

    offsets: IntArray
    start: IntArray
    parts: tuple[tuple[int, int], ...]
    multiplicity: IntArray
    pairs: IntArray


def _rows_of(batch: Batch, drawn: IntArray) -> _Rows:
    """Lay out the rows of *batch*; *drawn* tokens of each of its requests were drawn before, [slots]."""
    start = np.where(drawn <= batch.context, drawn, 0)
    before = batch.context - start + 1  # rows that only precede the new tokens
    size = before + batch.new_tokens
    offsets = np.concatenate([[0], np.cumsum(size)])
    cuts = np.searchsorted(offsets[:-1], np.arange(0, offsets[-1], _ROWS))
    bounds = np.unique(np.append(cuts, len(size))).tolist()
    multiplicity = np.repeat(batch.multiplicity, size)
    multiplicity[np.arange(offsets[-1]) < np.repeat(offsets[:-1] + before, size)] = 0
    pairs = multiplicity.copy()
    pairs[(offsets[:-1] + before)[batch.context == 0]] = 0
    return _Rows(offsets, start, tuple(pairwise(bounds)), multiplicity, pairs)


class SyntheticRouting:
    """The experts of the tokens of synthetic requests.

    Parameters
    ----------
    spec, model, seed
        These determine the trace.
    num_requests
        Number of its requests that take part, from the first on.
    layers
        As for `RoutingSource`.
    """

    def __init__(self, spec: SynthSpec, model: ModelShape, seed: int, num_requests: int, layers: Sequence[int]) -> None:
        self.layers = tuple(layers)
        self._index = {layer: index for index, layer in enumerate(self.layers)}
        self._draws = draws_of(spec, model, seed, num_requests, self.layers)
        # Of each request: how many tokens are drawn; the last one's clusters, and its experts in the layers that are
        # run. No experts are drawn in other layers.
        self._drawn: IntArray = np.zeros(num_requests, np.int64)
        self._clusters = np.zeros((self.layers[-1] + 1, num_requests), np.int16)
        self._experts = np.zeros((len(self.layers), num_requests, model.top_k), np.uint16)
        self._nothing = np.zeros((num_requests, 0), np.uint16)

    def tokens(self, batch: Batch, *, pairs: bool) -> Iterator[Chunk]:
        """Yield the tokens of *batch*, and those that precede them, as `RoutingSource.tokens`."""
        now = _rows_of(batch, self._drawn[batch.request])
        self._drawn[batch.request] = NEVER  # until all layers are drawn
        above = np.zeros(now.multiplicity.size, np.int16)
        most = max(int(now.offsets[high] - now.offsets[low]) for low, high in now.parts)
        rows, nothing = np.empty((most, self._experts.shape[2]), np.uint16), np.empty((most, 0), np.uint16)
        for layer in range(self.layers[-1] + 1):
            index = self._index.get(layer)
            last, made = (self._nothing, nothing) if index is None else (self._experts[index], rows)
            for low, high in now.parts:
                offsets = now.offsets[low : high + 1]
                following = NextTokens(batch.request[low:high], now.start[low:high], offsets)
                advance(self._draws, following, layer, above, self._clusters[layer], last, made)
                if index is not None:
                    these = slice(int(offsets[0]), int(offsets[-1]))
                    own = rows[: these.stop - these.start]
                    yield Chunk(index, own, now.multiplicity[these], now.pairs[these])
        self._drawn[batch.request] = batch.context + batch.new_tokens
