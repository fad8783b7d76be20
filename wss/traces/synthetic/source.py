"""Replay of a synthetic trace while it is generated, in time order; the trace is never stored.

A token's routing depends only on the previous token and the previous layer. So only the last token's cluster and
experts are stored for every request and layer, independent of the number of steps. The layer runs equal those of
`Replay` of the whole trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numba
import numpy as np
import numpy.typing as npt

from wss.models import ModelShape
from wss.records import IntArray, Routed
from wss.traces.recorded import LayerTokens, heat_up
from wss.traces.synthetic.sampler import advance
from wss.traces.synthetic.spec import SynthSpec, draws_of

_ROWS = 4096  # tokens generated at a time, to stay in the CPU's caches; more if one request has more


@dataclass(frozen=True, eq=False)
class _Step:
    """The tokens of one step, the same in every layer; a request's rows are the previous token, and its own.

    Attributes
    ----------
    offsets
        The first row of each request, and the end, [requests + 1].
    parts
        First request and end of each chunk.
    times, pairs
        How often a row counts as a token, and as a successor of the previous row, [rows].
    """

    offsets: IntArray
    parts: tuple[tuple[int, int], ...]
    times: IntArray
    pairs: IntArray


def _step_of(tokens: IntArray, repeats: IntArray, *, paired: bool) -> _Step:
    """Lay out a step of *tokens* of each request, [requests]; *paired* is whether the first has a predecessor."""
    offsets = np.concatenate([[0], np.cumsum(tokens + 1)])
    cuts = np.searchsorted(offsets[:-1], np.arange(0, offsets[-1], _ROWS))
    bounds = np.unique(np.append(cuts, len(tokens))).tolist()
    times = np.repeat(repeats, tokens + 1)
    times[offsets[:-1]] = 0
    pairs = times.copy()
    if not paired:
        pairs[offsets[:-1] + 1] = 0
    return _Step(offsets, tuple(pairwise(bounds)), times, pairs)


class _Past:
    """The state that the next token depends on: each request's last token.

    Attributes
    ----------
    clusters
        Its clusters, [layers up to the last requested, requests].
    experts
        Its experts in the requested layers, [layers, requests, k].
    nothing
        Stands for experts in other layers, [requests, 0].
    """

    def __init__(self, num_requests: int, layers: Sequence[int], top_k: int) -> None:
        self.clusters = np.zeros((layers[-1] + 1, num_requests), np.int16)
        self.experts = np.zeros((len(layers), num_requests, top_k), np.uint16)
        self.nothing = np.zeros((num_requests, 0), np.uint16)


@numba.njit(cache=True, nogil=True)
def _count(rows, times, counts, first, place):  # type: ignore[no-untyped-def]
    """Add tokens per expert to *counts*, set *first* to where each is first used, from *place* on; return the end."""
    for row in range(times.size):
        if times[row] == 0:
            continue
        for expert in rows[row]:
            if counts[expert] == 0:
                first[expert] = place
            counts[expert] += times[row]
            place += 1
    return place


@numba.njit(cache=True, nogil=True)
def _heat_up(rows, pairs, heat, queue):  # type: ignore[no-untyped-def]
    """Add each row and the previous one to *heat*, expert by expert, so that one row of *heat* is in use at a time.

    *queue* is a scratch array for the rows that follow each expert in turn, [rows · k or more].
    """
    ends = np.zeros(heat.shape[0] + 1, np.int64)
    for row in range(1, pairs.size):
        if pairs[row] != 0:
            for expert in rows[row - 1]:
                ends[expert + 1] += 1
    ends = np.cumsum(ends)
    at = ends[:-1].copy()
    for row in range(1, pairs.size):
        if pairs[row] != 0:
            for expert in rows[row - 1]:
                queue[at[expert]] = row
                at[expert] += 1
    for expert in range(heat.shape[0]):
        own = heat[expert]
        for place in range(ends[expert], ends[expert + 1]):
            row = queue[place]
            for after in rows[row]:
                own[after] += pairs[row]


class SynthReplay:
    """The layer runs of a batch of synthetic requests.

    Parameters
    ----------
    spec, model, seed
        These determine the trace.
    num_requests
        Number of its requests that take part, from the first on, each with *steps* decode tokens.
    batch, steps, layers, across_phases
        As for `Replay`.
    heat, layer_heat
        Whether `LayerTokens.heat` is counted, else it is zero; whether `LayerTokens.next_heat` is.
    routed
        Whether `LayerTokens.routed` is set.
    """

    def __init__(
        self,
        spec: SynthSpec,
        model: ModelShape,
        seed: int,
        num_requests: int,
        batch: int,
        steps: int,
        layers: Sequence[int],
        *,
        across_phases: bool = True,
        heat: bool = True,
        layer_heat: bool = False,
        routed: bool = False,
    ) -> None:
        self.steps, self.layers, self.num_requests = steps, tuple(layers), num_requests
        self._place_of = {layer: place for place, layer in enumerate(self.layers)}
        self._num_experts, self._top_k = model.num_choices, model.top_k
        self._draws = draws_of(spec, model, seed, num_requests)
        self._across, self._with_heat, self._with_layers, self._with_tokens = across_phases, heat, layer_heat, routed
        self._repeats: IntArray = batch // num_requests + (np.arange(num_requests) < batch % num_requests)

    @property
    def has_prefill(self) -> bool:
        """Whether any request has prefill tokens: all have."""
        return True

    def tokens(self, step: int) -> int:
        """Return the number of tokens of the batch in *step*."""
        return int((self._repeats * self._draws.prompt).sum() if step == 0 else self._repeats.sum())

    def layer_runs(self) -> Iterator[LayerTokens]:
        """Yield every layer run in time order, as `Replay.layer_runs`."""
        size, depth = self._num_experts, len(self.layers)
        heat = np.zeros((depth if self._with_heat else 1, size, size), np.int64)
        below = np.zeros((depth if self._with_layers else 0, size, size), np.int64)
        seen = np.zeros((depth, size), np.int64)
        past = _Past(self._draws.prompt.size, self.layers, self._top_k)
        for step in range(self.steps + 1):
            tokens = np.ones_like(self._draws.prompt) if step else self._draws.prompt
            paired = step > 1 or (step == 1 and self._across)
            now = _step_of(tokens, self._repeats, paired=paired)
            start = self._draws.prompt + step - 1 if step else np.zeros_like(tokens)
            for layer, (counts, order, made) in enumerate(self._layers(now, start, past, heat, below)):
                seen[layer] += counts
                then = (layer + 1) % depth
                yield LayerTokens(
                    step=step,
                    layer=layer,
                    counts=counts,
                    order=order,
                    heat=heat[layer if self._with_heat else 0],
                    next_layer=then,
                    next_seen=seen[then],
                    next_heat=below[layer] if self._with_layers else None,
                    routed=Routed(made, now.times) if self._with_tokens else None,
                )

    def _layers(
        self, now: _Step, start: IntArray, past: _Past, heat: IntArray, below: IntArray
    ) -> Iterator[tuple[IntArray, IntArray, npt.NDArray[np.uint16]]]:
        """Generate one step layer by layer, and add to *heat* and *below*.

        Yield counts, order and, if needed, the experts of each row for the requested layers.
        """
        draws = self._draws
        above = np.zeros(now.times.size, np.int16)
        most = max(int(now.offsets[high] - now.offsets[low]) for low, high in now.parts)
        nothing = np.empty((most, 0), np.uint16)
        rows, queue = np.empty((most, self._top_k), np.uint16), np.empty(most * self._top_k, np.int32)
        is_kept = self._with_layers or self._with_tokens
        whole = np.zeros((now.times.size if is_kept else 0, self._top_k), np.uint16)  # of the previous layer
        for place in range(self.layers[-1] + 1):
            kept = self._place_of.get(place)
            last = past.nothing if kept is None else past.experts[kept]
            made = nothing if kept is None else rows
            counts, first, seen = np.zeros(self._num_experts, np.int64), np.zeros(self._num_experts, np.int64), 0
            for low, high in now.parts:
                offsets = now.offsets[low : high + 1]
                advance(draws, low, offsets, start, place, above, past.clusters[place], last, made)
                if kept is None:
                    continue
                these = slice(int(offsets[0]), int(offsets[-1]))
                seen = _count(rows, now.times[these], counts, first, seen)
                if self._with_heat:
                    _heat_up(rows, now.pairs[these], heat[kept], queue)
                own = rows[: these.stop - these.start]
                if self._with_layers and kept > 0:
                    heat_up(below[kept - 1], whole[these], own, now.times[these])
                if is_kept:
                    whole[these] = own
            if kept is not None:
                active = np.flatnonzero(counts)
                yield counts, active[np.argsort(first[active], kind="stable")], whole
