"""Counts of a trace: uses of experts, transitions and co-activations, in one pass and bounded memory.

For each MoE layer l and token t let S(l, t) be the token's experts. Rows of a request whose positions differ by one are
adjacent. The main phase is decode if a trace has it, else prefill. Pairs are counted separately for the requests at
even and at odd indices of the trace, so that what is selected on one half can be measured on the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from wss.compiling import compiled
from wss.records import FloatArray, IntArray
from wss.traces.schema import RequestRouting, TraceMeta

LONGEST_REUSE = 256  # greater distances are counted together


@compiled
def count_request(experts, first, last, adjacent, freq, token, layer, pairs):  # type: ignore[no-untyped-def]
    """Add the rows *first* to *last* - 1 of one request, all of one phase.

    Parameters
    ----------
    experts
        [rows, layers, k].
    adjacent
        Whether row t + 1 is the next token after row t, [rows].
    freq, token, layer, pairs
        Added to: uses [layers, experts]; pairs with the next row, with the next layer (none for the last), and within
        the token (i < j), each [layers, experts, experts].
    """
    _, num_layers, k = experts.shape
    for at in range(num_layers):  # layer by layer, so that its pairs stay in the CPU's caches
        for t in range(first, last):
            follows = t + 1 < last and adjacent[t]
            for a in range(k):
                i = experts[t, at, a]
                freq[at, i] += 1
                if follows:
                    for b in range(k):
                        token[at, i, experts[t + 1, at, b]] += 1
                if at + 1 < num_layers:
                    for b in range(k):
                        layer[at, i, experts[t, at + 1, b]] += 1
                for b in range(a + 1, k):
                    j = experts[t, at, b]
                    pairs[at, min(i, j), max(i, j)] += 1


@compiled
def count_use(experts, last_use, reuse, distinct):  # type: ignore[no-untyped-def]
    """Add a request's reuse distances [layers, distances] and distinct experts [layers]; *last_use* is scratch."""
    rows, num_layers, k = experts.shape
    last_use[:] = -1
    for t in range(rows):
        for at in range(num_layers):
            for a in range(k):
                i = experts[t, at, a]
                if last_use[at, i] < 0:
                    distinct[at] += 1
                else:
                    reuse[at, min(t - last_use[at, i], reuse.shape[1]) - 1] += 1
                last_use[at, i] = t


@compiled
def count_uses(experts, num_prefill, counts):  # type: ignore[no-untyped-def]
    """Add one request's experts [rows, layers, k] to *counts* [prefill and decode, layers, experts]."""
    for t in range(experts.shape[0]):
        for at in range(experts.shape[1]):
            for k in range(experts.shape[2]):
                counts[int(t >= num_prefill), at, experts[t, at, k]] += 1


@dataclass(eq=False)
class Phase:
    """Counts of one phase; the arrays [2, ...] are split by half of the requests."""

    tokens: int
    adjacent: int
    freq: IntArray  # [layers, experts]
    token: IntArray  # [2, layers, experts, experts]
    layer: IntArray  # [2, layers, experts, experts]
    pairs: IntArray  # [layers, experts, experts], i < j


@dataclass(eq=False)
class Counts:
    """All counts of a trace."""

    meta: TraceMeta
    prefill: Phase
    decode: Phase
    reuse: IntArray  # how many tokens later an expert is used again in its request, [layers, distances 1..]
    distinct: IntArray  # distinct experts per request, summed over requests, [layers]
    by_group: dict[str, IntArray] = field(default_factory=dict)  # uses in the main phase, {subject: [layers, experts]}
    requests: int = 0

    @property
    def main(self) -> Phase:
        """The main phase."""
        return self.decode if self.decode.tokens else self.prefill

    @property
    def main_name(self) -> str:
        """The name of the main phase."""
        return "decode" if self.decode.tokens else "prefill"


def count_trace(meta: TraceMeta, requests: Iterable[RequestRouting], subjects: dict[int, str]) -> Counts:
    """Count a trace; *subjects* gives the subject of each request, by default the trace's own."""
    num_layers, num_experts = len(meta.moe_layers), meta.num_choices
    square = (num_layers, num_experts, num_experts)

    def zeros(*shape: int) -> IntArray:
        return np.zeros(shape, np.int64)

    def phase() -> Phase:
        return Phase(0, 0, zeros(num_layers, num_experts), zeros(2, *square), zeros(2, *square), zeros(*square))

    counts = Counts(meta, phase(), phase(), zeros(num_layers, LONGEST_REUSE), zeros(num_layers))
    by_group: dict[str, IntArray] = {}  # [prefill and decode, layers, experts]
    scratch = zeros(num_layers, num_experts)
    for place, request in enumerate(requests):
        half = place % 2
        adjacent = np.append(np.diff(request.position) == 1, False)
        cut, rows = request.num_prefill, len(request.position)
        own = by_group.setdefault(subjects.get(request.request, meta.subject), zeros(2, num_layers, num_experts))
        for i, (to, first, last) in enumerate(((counts.prefill, 0, cut), (counts.decode, cut, rows))):
            if first == last:
                continue
            before = to.freq.copy()
            count_request(request.experts, first, last, adjacent, to.freq, to.token[half], to.layer[half], to.pairs)
            own[i] += to.freq - before
            to.tokens += last - first
            to.adjacent += int(adjacent[first : last - 1].sum())
        count_use(request.experts, scratch, counts.reuse, counts.distinct)
        counts.requests += 1
    counts.by_group = {name: own[int(counts.decode.tokens > 0)] for name, own in by_group.items()}
    return counts


def ranks(values: FloatArray | IntArray) -> FloatArray:
    """Return the ranks of *values* [n], from 0; ties share their mean rank, [n]."""
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(count)
    result: FloatArray = (ends - (count + 1) / 2)[inverse]
    return result


def spearman(x: FloatArray | IntArray, y: FloatArray | IntArray) -> float:
    """Return Spearman's rank correlation of *x* and *y* [n]; NaN if one of them is constant."""
    a, b = ranks(x), ranks(y)
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm else float("nan")
