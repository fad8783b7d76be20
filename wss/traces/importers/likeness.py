"""Layers and columns that agree throughout a trace, as no router makes them.

* A layer that has one set of experts within each request: a dense layer, filled anew for each.
* Layers that have the same experts in every token: a dense layer whose buffer still has another layer's experts.
* A column with a few ids that no other column has: a shared expert, fused under several ids.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import comb, log10

import msgspec
import numpy as np

from wss.traces.importers.filler import BEYOND, REPEATS, layers_fault, names_of
from wss.traces.schema import RequestRouting, TraceMeta


class Likeness(msgspec.Struct):
    """What agrees in all requests read."""

    requests: int = 0
    tokens: int = 0
    steady: list[dict[str, int] | None] = []  # tokens by set for a layer with one set per request, None for others
    twins: list[int] = []  # for each layer, the first layer that has the same experts in every token
    changes: list[int] = []  # for each layer, how many tokens have other experts than the previous token
    columns: list[list[int]] = []  # the ids in each slot of a token's experts

    def add(self, routing: RequestRouting) -> None:
        """Add a valid request."""
        sets = np.sort(routing.experts, axis=2)
        first: dict[bytes, int] = {}
        twins = [first.setdefault(sets[:, at].tobytes(), at) for at in range(sets.shape[1])]
        columns = [np.unique(routing.experts[:, :, place]).tolist() for place in range(sets.shape[2])]
        changes = (sets[1:] != sets[:-1]).any(axis=2).sum(axis=0).tolist()
        steady = [None if changed else {str(own): len(sets)} for changed, own in zip(changes, sets[0], strict=True)]
        self.merge(Likeness(1, len(sets), steady, twins, changes, columns))

    def merge(self, other: Likeness) -> None:
        """Add the counts of *other*."""
        if not self.tokens:
            self.steady, self.twins = other.steady, other.twins
            self.changes, self.columns = other.changes, other.columns
        elif other.tokens:
            self.steady = [_together(ours, theirs) for ours, theirs in zip(self.steady, other.steady, strict=True)]
            self.changes = [ours + theirs for ours, theirs in zip(self.changes, other.changes, strict=True)]
            first: dict[tuple[int, int], int] = {}
            both = enumerate(zip(self.twins, other.twins, strict=True))
            self.twins = [first.setdefault(pair, at) for at, pair in both]
            columns = zip(self.columns, other.columns, strict=True)
            self.columns = [sorted({*ours, *theirs}) for ours, theirs in columns]
        self.requests += other.requests
        self.tokens += other.tokens

    def fault(self, meta: TraceMeta) -> str | None:
        """Return the evidence that layers or a column are not routed, or None."""
        if meta.top_k == meta.num_choices or not self.tokens:
            return None
        return self._steady(meta) or self._copied(meta) or self._shared(meta)

    def _steady(self, meta: TraceMeta) -> str | None:
        """Return the error if layers keep a request's experts that others do not have; the rarest layer costs nothing.

        If all layers do, the tokens are equal and the layers are not dense: a repeated token, or a handmade example.
        """
        found = {at: max(sets.values()) / self.tokens for at, sets in enumerate(self.steady) if sets is not None}
        repeats = [-log10(max(REPEATS, share)) * (self.tokens - self.requests) for share in found.values()]
        if not 2 <= len(found) < len(self.steady):
            return None
        if sum(repeats) - max(repeats) - log10(comb(len(meta.moe_layers), len(found))) < BEYOND:
            return None
        return layers_fault(_named(found, meta), "all tokens of a request have the same experts", meta)

    def _copied(self, meta: TraceMeta) -> str | None:
        """Return the error if layers copy another, token by token. If all of them do, the example is handmade."""
        found = [at for at, twin in enumerate(self.twins) if twin != at]
        repeats = -log10(REPEATS) * sum(self.changes[at] for at in found)
        made = len(found) == len(self.twins) - 1
        if made or repeats - log10(comb(len(meta.moe_layers), len(found))) < BEYOND:
            return None
        of = sorted({self.twins[at] for at in found})
        what = f"every token has the experts of layer {', '.join(map(str, _named(of, meta)))} again"
        return layers_fault(_named(found, meta), what, meta)

    def _shared(self, meta: TraceMeta) -> str | None:
        """Return the error if a column has ids of its own, at most half as many as choices per column."""
        top_k, choices = meta.top_k, meta.num_choices
        found = []
        for place, own in enumerate(self.columns):
            others = {e for at, column in enumerate(self.columns) if at != place for e in column}
            if others.isdisjoint(own) and 2 <= len(own) <= choices / (2 * top_k):
                found.append(own)
        if top_k < 2 or not found:
            return None
        own = found[0]
        chance = len(own) * comb(choices - len(own), top_k - 1) / comb(choices, top_k)
        cells = self.tokens * len(meta.moe_layers)
        if -log10((1.0 + chance) / 2) * (cells - 1) - log10(comb(choices, len(own)) * top_k) < BEYOND:
            return None
        return (
            f"one of {names_of(own)} is used by every token in every layer, always in the same place: a shared expert "
            "fused with the routed ones; leave its column out of the recording"
        )


def _together(ours: dict[str, int] | None, theirs: dict[str, int] | None) -> dict[str, int] | None:
    if ours is None or theirs is None:
        return None
    return {own: ours.get(own, 0) + theirs.get(own, 0) for own in (*ours, *theirs)}


def _named(places: Iterable[int], meta: TraceMeta) -> list[int]:
    return [meta.moe_layers[at] for at in places]
