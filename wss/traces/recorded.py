"""Replay: a batch of requests decoding together, as one count of tokens per expert for each (step, layer).

Step 0 is the prefill of the whole batch; step i >= 1 is the i-th decode token of every request that has one. A request
that has ended contributes nothing further. If the batch exceeds the number of requests, the list is repeated
cyclically: a request then counts as often as it occurs.

`LayerTokens.heat` has only routing that has happened when the layer run starts: that of its own layer in this step, and
everything before.
"""

from __future__ import annotations

import heapq
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numba
import numpy as np
import numpy.typing as npt

from wss.records import IntArray, Routed
from wss.traces.schema import RequestRouting


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


class RoutingSource(Protocol):
    """The layer runs of a batch, from any source; *steps* decode steps of *layers* (see `Replay`)."""

    steps: int
    layers: tuple[int, ...]

    @property
    def has_prefill(self) -> bool:
        """Whether any request has prefill tokens."""
        ...

    def tokens(self, step: int) -> int:
        """Return the number of tokens of the batch in *step*."""
        ...

    def layer_runs(self) -> Iterator[LayerTokens]:
        """Yield every layer run in time order: by step, then by layer; step 0 only if there is prefill."""
        ...


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
