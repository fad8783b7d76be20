"""What all tokens of a trace have in common, and whether it shows that the trace has filler (see `filler`)."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, log10

import msgspec

from wss.traces.importers.edges import Edges, fills_of
from wss.traces.importers.filler import BEYOND, REPEATS, layers_fault, lowest_runs, names_of, shared_fault
from wss.traces.importers.likeness import Likeness
from wss.traces.schema import RequestRouting, TraceMeta

FEW_TOKENS = 8  # too few tokens to judge


class Common(msgspec.Struct):
    """What all tokens of a trace, or of a part of it, have in common."""

    tokens: int = 0
    experts: list[list[int]] = []  # those that every token uses, for each layer, ascending
    zero_choices: int = 0  # how often a zero-computation expert was chosen
    alike: Likeness = msgspec.field(default_factory=Likeness)

    def add(self, routing: RequestRouting, meta: TraceMeta) -> None:
        """Add a valid request."""
        chosen = routing.experts
        if not self.tokens:
            self.experts = [sorted(layer) for layer in chosen[0].tolist()]
        self.tokens += len(chosen)
        self.alike.add(routing)
        if meta.zero_experts:
            self.zero_choices += int((chosen >= meta.num_experts).sum())
        for at, experts in enumerate(self.experts):
            if experts:
                self.experts[at] = [e for e in experts if (chosen[:, at] == e).any(axis=1).all()]

    def merge(self, other: Common) -> None:
        """Add the counts of *other*."""
        if not self.tokens:
            self.experts = other.experts
        elif other.tokens:
            both = zip(self.experts, other.experts, strict=True)
            self.experts = [[e for e in ours if e in theirs] for ours, theirs in both]
        self.tokens += other.tokens
        self.alike.merge(other.alike)
        self.zero_choices += other.zero_choices

    def constant(self, meta: TraceMeta) -> list[int]:
        """Return indices of layers in which all tokens have the same experts; none if all experts are always used."""
        if meta.top_k == meta.num_choices:
            return []
        return [at for at, experts in enumerate(self.experts) if len(experts) == meta.top_k]

    def fault(self, meta: TraceMeta) -> str | None:
        """Return the evidence that the trace has filler, or None."""
        return self._shared(meta) or self._dense(meta) or self.alike.fault(meta)

    def warnings(self, meta: TraceMeta) -> list[str]:
        """Return warnings about constant layers that are kept."""
        if self.tokens < FEW_TOKENS:
            return []
        return [
            f"layer {meta.moe_layers[at]}: every token uses {names_of(self.experts[at])}; kept, as a router may do so"
            for at in self.constant(meta)
        ]

    def _shared(self, meta: TraceMeta) -> str | None:
        everywhere = set.intersection(*(set(experts) for experts in self.experts)) if self.experts else set()
        if not everywhere or meta.top_k == 1 or meta.top_k == meta.num_choices or len(everywhere) == meta.top_k:
            return None
        honest = (1.0 + meta.top_k / meta.num_choices) / 2
        if -log10(honest) * (self.tokens * len(self.experts) - 1) - log10(meta.num_choices) < BEYOND:
            return None
        return shared_fault(sorted(everywhere))

    def _dense(self, meta: TraceMeta) -> str | None:
        constant = self.constant(meta)
        if len(constant) < 2 or _decades(self, constant, meta) < BEYOND:
            return None
        layers = [meta.moe_layers[at] for at in constant]
        sets = {tuple(self.experts[at]) for at in constant}
        what = names_of(sets.pop()) if len(sets) == 1 else "the same experts"
        return layers_fault(layers, f"every token uses {what}", meta)


def _decades(common: Common, constant: Sequence[int], meta: TraceMeta) -> float:
    """Return -log10 of the probability that a router made layers *constant*.

    One constant layer costs nothing. Equal sets in several layers are judged against all possible sets, as is the set
    of the lowest ids.
    """
    sets = [tuple(common.experts[at]) for at in constant]
    most = max(set(sets), key=lambda one: (sets.count(one), one == tuple(range(meta.top_k))))
    choices = log10(comb(meta.num_choices, meta.top_k))
    alike = sets.count(most) - 1 + (sets.count(most) > 1 and most == tuple(range(meta.top_k)))
    repeated = -log10(REPEATS) * (len(sets) - 1) * (common.tokens - 1)
    return repeated + alike * choices - log10(comb(len(meta.moe_layers), len(sets)))


def filler_in(requests: Sequence[RequestRouting], meta: TraceMeta) -> list[str]:
    """Return the evidence that *requests* of a trace have filler, which an import refuses or leaves out."""
    common, edges, lost, of = Common(), Edges(), 0, 0
    for request in requests:
        common.add(request, meta)
        edges.add(request, meta)
        out = int(lowest_runs(request.experts, meta).sum())
        lost, of = lost + out, of + (out > 0)
    found = [f"{lost} tokens of {of} requests have the lowest ids in every layer, as filler has"] if lost else []
    lowest = tuple(range(meta.top_k))
    for fill in fills_of(edges, requests, meta):
        if not lost or fill != lowest:
            found.append(f"{names_of(fill)} in every layer, as filler has, at the edges of some requests")
    if fault := common.fault(meta):
        found.append(fault)
    return [f"the trace holds data that is not routing: {what}; import it anew" for what in found]
