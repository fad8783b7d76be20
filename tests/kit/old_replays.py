"""The three replays that `wss.serving.routing_stream` stands for: each mixes scheduling, look-up, counts, transitions.

They are the reference that the scheduler, the routing sources and the running counts are compared with.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numba
import numpy as np
import numpy.typing as npt

from wss.models import ModelShape
from wss.records import IntArray, Routed
from wss.traces.schema import RequestRouting
from wss.traces.synthetic.sampler import Tokens, advance
from wss.traces.synthetic.spec import SynthSpec, draws_of

_ROWS = 4096  # tokens generated at a time, to stay in the CPU's caches; more if one request has more


@dataclass(frozen=True, eq=False, kw_only=True)
class LayerTokens:
    """A layer run: one MoE layer of one step.

    Attributes
    ----------
    step, layer
        Its indices; *layer* is an index into the trace's MoE layers.
    counts
        Tokens routed to each expert, [experts].
    order
        Experts with tokens in order of first appearance (request by request, token by token, rank by rank),
        [active experts].
    heat
        How often expert i was followed by expert j in the next token of the same request, in this layer, up to and
        including this step, [experts, experts]. A view that the next step of the layer changes.
    next_layer, next_seen
        The layer of the next layer run, and the tokens of each of its experts so far, [experts]. Also a view.
    next_heat
        How often a token sent to expert i of this layer was sent to expert j of the next one, up to the step before,
        [experts, experts]; nothing follows the last layer. Also a view; None if it is not counted.
    routed
        The experts of each token, a view that the next layer run changes; None if not available.
    zero_choices
        How often the router chose a zero-computation expert; none of the counts above include these choices.
    """

    step: int
    layer: int
    counts: IntArray
    order: IntArray
    heat: IntArray
    next_layer: int
    next_seen: IntArray
    next_heat: IntArray | None = None
    routed: Routed | None = None
    zero_choices: int = 0


class Replay:
    """The layer runs of a batch.

    Parameters
    ----------
    requests
        The requests of the batch, each once, in order; only their first *steps* decode tokens are used.
    batch
        Number of requests that decode together, at least ``len(requests)``.
    steps
        Number of decode steps to replay.
    layers
        The trace's MoE layers to replay, ascending indices.
    num_experts
        Experts per layer.
    across_phases
        Whether the last prompt token and the first decode token count as a pair for `LayerTokens.heat`.
    continuous
        If there are more requests than the batch holds, start the next one as soon as one ends. The prefill of the
        later ones is assumed to run elsewhere: it is neither run nor counted.
    layer_heat
        Whether `LayerTokens.next_heat` is counted.
    """

    def __init__(
        self,
        requests: Sequence[RequestRouting],
        batch: int,
        steps: int,
        layers: Sequence[int],
        num_experts: int,
        *,
        across_phases: bool = True,
        continuous: bool = False,
        layer_heat: bool = False,
    ) -> None:
        self.steps = steps
        self._with_layers = layer_heat
        self.layers = tuple(layers)
        self._num_experts = num_experts
        starts = _starts(requests, batch, steps) if continuous else np.zeros(len(requests), np.int64)
        requests, starts = requests[: len(starts)], starts[: len(requests)]
        self.num_requests = len(requests)
        repeats = np.full(len(requests), max(1, batch // len(requests)), np.int64)
        if batch > len(requests):
            repeats[: batch % len(requests)] += 1

        keep = np.array(self.layers)
        rows = [r.experts[: r.num_prefill + steps - s, keep] for r, s in zip(requests, starts.tolist(), strict=True)]
        lengths = np.array([len(r) for r in rows])
        self._experts: npt.NDArray[np.int16] = np.concatenate(rows)
        self._times: IntArray = np.repeat(repeats, lengths)
        self._step: IntArray = np.concatenate(
            [_steps_of(int(n), r.num_prefill, s) for n, r, s in zip(lengths, requests, starts.tolist(), strict=True)]
        )
        positions = np.concatenate([r.position[:n] for n, r in zip(lengths, requests, strict=True)])
        owner = np.repeat(np.arange(len(requests)), lengths)
        self._follows = np.zeros(len(owner), np.bool_)
        self._follows[1:] = (np.diff(positions) == 1) & (np.diff(owner) == 0)
        if not across_phases:
            self._follows[1:] &= (self._step[1:] != 1) | (self._step[:-1] != 0)

    @property
    def has_prefill(self) -> bool:
        """Whether any request has prefill tokens."""
        return bool((self._step == 0).any())

    def tokens(self, step: int) -> int:
        """Return the number of tokens of the batch in *step*."""
        return int(self._times[self._step == step].sum())

    def layer_runs(self) -> Iterator[LayerTokens]:
        """Yield every layer run in time order: by step, then by layer; step 0 only if there is prefill."""
        heat = np.zeros((len(self.layers), self._num_experts, self._num_experts), np.int64)
        below = np.zeros((len(self.layers) if self._with_layers else 0, *heat.shape[1:]), np.int64)
        seen = np.zeros((len(self.layers), self._num_experts), np.int64)
        for step in range(0 if self.has_prefill else 1, self.steps + 1):
            now = np.flatnonzero(self._step == step)
            times, experts = self._times[now], self._experts[now]
            later = now[self._follows[now]]
            before, after, pair_times = self._experts[later - 1], self._experts[later], self._times[later]
            for layer in range(len(self.layers)):
                heat_up(heat[layer], before[:, layer], after[:, layer], pair_times)
                if self._with_layers and layer > 0:
                    heat_up(below[layer - 1], experts[:, layer - 1], experts[:, layer], times)
                counts, order = _count(experts[:, layer], times, self._num_experts)
                seen[layer] += counts
                then = (layer + 1) % len(self.layers)
                yield LayerTokens(
                    step=step,
                    layer=layer,
                    counts=counts,
                    order=order,
                    heat=heat[layer],
                    next_layer=then,
                    next_seen=seen[then],
                    next_heat=below[layer] if self._with_layers else None,
                    routed=Routed(experts[:, layer], times),
                )


def last_step(requests: Sequence[RequestRouting], batch: int) -> int:
    """Return the step in which the last request ends, if each request starts when another ends."""
    starts = _starts(requests, batch, sys.maxsize)
    return int(max(start + r.num_decode for start, r in zip(starts.tolist(), requests, strict=True)))


def _starts(requests: Sequence[RequestRouting], batch: int, steps: int) -> IntArray:
    """Return the step after which each request starts, in order, for those that start within *steps*."""
    ends: list[int] = []
    starts: list[int] = []
    for request in requests:
        start = 0 if len(ends) < batch else heapq.heappop(ends)
        if start >= steps:
            break
        starts.append(start)
        heapq.heappush(ends, start + request.num_decode)
    return np.array(starts, np.int64)


def _steps_of(rows: int, num_prefill: int, start: int) -> IntArray:
    """Return the step in which each of a request's rows is run, -1 for never."""
    step = np.arange(rows) - num_prefill + 1
    return np.where(step > 0, step + start, 0 if start == 0 else -1)


@numba.njit(cache=True, nogil=True)
def _counted(experts, times, counts, first):  # type: ignore[no-untyped-def]
    """Add tokens per expert to *counts*, and set *first* to the index of each expert's first use; both [experts]."""
    place = 0
    for t in range(experts.shape[0]):
        for k in range(experts.shape[1]):
            expert = experts[t, k]
            if counts[expert] == 0:
                first[expert] = place
            counts[expert] += times[t]
            place += 1


def _count(experts: npt.NDArray[np.int16], times: IntArray, num_experts: int) -> tuple[IntArray, IntArray]:
    """Count tokens per expert and list the experts in order of first appearance; *experts* is [tokens, top_k]."""
    counts = np.zeros(num_experts, np.int64)
    first = np.full(num_experts, experts.size)
    _counted(experts, times, counts, first)
    return counts, np.argsort(first, kind="stable")[: np.count_nonzero(counts)]


@numba.njit(cache=True, nogil=True)
def heat_up(heat, before, after, times):  # type: ignore[no-untyped-def]
    """Add the pairs of experts *before* and *after*, each [tokens, top_k], to *heat*, in place."""
    for t in range(before.shape[0]):
        for a in range(before.shape[1]):
            for b in range(after.shape[1]):
                heat[before[t, a], after[t, b]] += times[t]


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
def _count_rows(rows, times, counts, first, place):  # type: ignore[no-untyped-def]
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
                tokens = Tokens(np.arange(low, high), start[low:high], offsets)
                advance(draws, tokens, place, above, past.clusters[place], last, made)
                if kept is None:
                    continue
                these = slice(int(offsets[0]), int(offsets[-1]))
                seen = _count_rows(rows, now.times[these], counts, first, seen)
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
