"""Filler at the edges of requests, found from the whole trace: a short cached prefix, or padding.

Where nothing was routed, one set of experts fills all layers of the first or last tokens. Its ids depend on the
recorder (0, 255, the last ids), and in one request of a small model a few such tokens may be chance. So the rest of the
trace decides: how often do its other tokens have this set, in each layer and in all layers? If all requests share a
prompt, all these runs are one coincidence, so that many equal runs count as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import log10

import msgspec
import numpy as np

from wss.errors import TraceError
from wss.records import BoolArray, FloatArray
from wss.traces.importers.filler import BEYOND, LEFT_OUT, REPEATS, kept, lost_all
from wss.traces.schema import RequestRouting, TraceMeta

Fill = tuple[int, ...]  # a set of experts, ascending


class Edges(msgspec.Struct):
    """Runs of one set of experts in all layers at the edges of requests."""

    requests: int = 0
    runs: list[tuple[Fill, int]] = []  # the set and the number of tokens of each

    def add(self, routing: RequestRouting, meta: TraceMeta) -> None:
        """Add a valid request."""
        self.requests += 1
        self.runs += _runs(routing, meta)

    def merge(self, other: Edges) -> None:
        """Add the counts of *other*."""
        self.requests += other.requests
        self.runs += other.runs


def _runs(routing: RequestRouting, meta: TraceMeta) -> list[tuple[Fill, int]]:
    """Return the runs at the beginning and at the end; none if one covers the whole request."""
    tokens, layers, top_k = routing.experts.shape
    if layers < 2 or top_k == meta.num_choices or not tokens:
        return []
    found: list[tuple[Fill, int]] = []
    for step in (1, -1):
        ordered = np.sort(routing.experts[::step], axis=2)
        if (ordered[0] == ordered[0, 0]).all():
            same = (ordered == ordered[0, 0]).all(axis=(1, 2))
            if same.all():
                return []
            found.append((tuple(ordered[0, 0].tolist()), int(same.argmin())))
    return found


def _matches(routing: RequestRouting, fill: Fill) -> tuple[BoolArray, int, int]:
    """Return which tokens have *fill*, [tokens, layers], and how many have it in all layers at either edge."""
    has: BoolArray = (np.sort(routing.experts, axis=2) == np.array(fill)).all(axis=2)
    same = np.asarray(has.all(axis=1))
    return has, *((len(same), 0) if same.all() else (int(same.argmin()), int(same[::-1].argmin())))


@dataclass
class _Others:
    """How often other tokens have a set: in each layer, and in all layers.

    Other tokens are those between the runs at both edges. The token that ends a run cannot have the set: not counted.
    """

    each: FloatArray
    all: int = 0
    tokens: int = 0


def fills_of(edges: Edges, requests: Iterable[RequestRouting], meta: TraceMeta) -> list[Fill]:
    """Return the sets that are filler at the edges of *requests*, counted in *edges*, most tokens first."""
    runs: dict[Fill, list[int]] = {}
    for fill, tokens in edges.runs:
        runs.setdefault(fill, []).append(tokens)
    others = {fill: _Others(np.zeros(len(meta.moe_layers))) for fill in runs}
    if not runs:
        return []
    for routing in requests:
        for fill, seen in others.items():
            has, first, last = _matches(routing, fill)
            inner = has if first == len(has) else has[first + 1 : len(has) - last - 1]
            seen.each += inner.sum(axis=0)
            seen.all += int(inner.all(axis=1).sum())
            seen.tokens += len(inner)
    found = [fill for fill in runs if _decades(runs[fill], others[fill], edges.requests) >= BEYOND]
    return sorted(found, key=lambda fill: -sum(runs[fill]))


def _decades(runs: list[int], others: _Others, requests: int) -> float:
    """Return -log10 of the probability that a router made *runs* at the edges of *requests* requests.

    The set costs nothing in the layer where it is rarest, as any other set could be there. Each further token repeats
    the previous one with probability `REPEATS`; all of them together count at most as much as the first, as a prompt
    may repeat one word. The more requests have such a run, the fewer distinct requests they are among. Shares are
    upper limits that the counts allow: 3 of n if none was counted.
    """
    share = np.minimum(1.0, (others.each + 2.0 * np.sqrt(others.each) + 3.0) / (others.tokens + 3.0))
    rarest = int(share.argmin())
    first = -float(np.log10(np.delete(share, rarest)).sum())
    if others.all:
        first = min(first, -log10(others.all / others.each[rarest]))
    more = -float(np.log10(np.maximum(share, REPEATS)).sum())
    return max(
        first + min(first, (tokens - 1) * more) - log10(2 * requests / sum(other >= tokens for other in runs))
        for tokens in set(runs)
    )


@dataclass
class Cut:
    """Removes filler at the edges of requests; *left_out* has a line for each, *tokens* is their number."""

    fills: list[Fill]
    where: str
    left_out: list[str] = field(default_factory=list)
    tokens: int = 0

    def apply(self, requests: Iterable[RequestRouting]) -> Iterator[RequestRouting]:
        """Yield *requests* without filler.

        Raises
        ------
        TraceError
            If a request is nothing but filler.
        """
        for routing in requests:
            out = np.zeros(len(routing.position), np.bool_)
            for fill in self.fills:
                _, first, last = _matches(routing, fill)
                out |= (np.arange(len(out)) < first) | (np.arange(len(out)) >= len(out) - last)
            if out.all():
                raise TraceError(f"{self.where}: {lost_all(routing)}")
            if lost := int(out.sum()):
                self.tokens += lost
                self.left_out.append(f"{self.where}: request {routing.request}: {lost} {LEFT_OUT}")
            yield kept(routing, ~out) if lost else routing
