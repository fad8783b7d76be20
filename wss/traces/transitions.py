"""Running statistics of routing: tokens per expert, and transitions between tokens and between layers.

Without a signal that needs transitions, only tokens are counted. A layer run sees only what has happened when it
starts: the tokens of its own layer in this step, and everything before.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from wss.compiling import borrowing
from wss.records import Routed
from wss.traces.source import Chunk, LayerTokens


class RoutingCounts:
    """Statistics of all layers, updated layer run by layer run.

    Parameters
    ----------
    num_layers, num_experts
        Their numbers.
    transitions
        Whether transitions between tokens are counted, else they are zero.
    layer_transitions
        Whether transitions between layers are counted, else they are None.
    routed
        Whether layer runs have the experts of each token.
    across_phases
        Whether the last prompt token (of step 0) and the first decode token (of step 1) count as a transition.
    """

    def __init__(
        self,
        num_layers: int,
        num_experts: int,
        *,
        transitions: bool = False,
        layer_transitions: bool = False,
        routed: bool = False,
        across_phases: bool = True,
    ) -> None:
        self._num_layers, self._num_experts = num_layers, num_experts
        self.counts_pairs, self._counts_layers, self._with_tokens = transitions, layer_transitions, routed
        self._across = across_phases
        square = (num_experts, num_experts)
        self._transitions = np.zeros((num_layers if transitions else 1, *square), np.int64)
        self._layer_transitions = np.zeros((num_layers if layer_transitions else 0, *square), np.int64)
        self._load = np.zeros((num_layers, num_experts), np.int64)
        self._above: list[Routed] = []  # the tokens of the layer before, by chunk

    def take(self, step: int, layer: int, chunks: Iterable[Chunk]) -> LayerTokens:
        """Add the tokens of a layer run, and return it."""
        counts, first, rank = np.zeros(self._num_experts, np.int64), np.zeros(self._num_experts, np.int64), 0
        own = self._transitions[layer if self.counts_pairs else 0]
        has_pairs = self.counts_pairs and (step != 1 or self._across)
        for number, chunk in enumerate(chunks):
            rank = _count(chunk.experts, chunk.multiplicity, counts, first, rank)
            if has_pairs:
                _add_successors(
                    chunk.experts,
                    chunk.pairs,
                    own,
                    np.empty(chunk.experts.size, np.int32),
                    np.zeros((2, self._num_experts + 1), np.int64),
                )
            if self._counts_layers or self._with_tokens:
                self._keep(layer, number, chunk)
        active = np.flatnonzero(counts)
        self._load[layer] += counts
        following = (layer + 1) % self._num_layers
        return LayerTokens(
            step=step,
            layer=layer,
            counts=counts,
            order=active[np.argsort(first[active], kind="stable")],
            transitions=own,
            next_layer=following,
            next_load=self._load[following],
            layer_transitions=self._layer_transitions[layer] if self._counts_layers else None,
            routed=_joined(self._above) if self._with_tokens else None,
        )

    def _keep(self, layer: int, number: int, chunk: Chunk) -> None:
        """Keep the tokens of a chunk for the next layer, and count how they follow those of the layer before."""
        rows = np.flatnonzero(chunk.multiplicity)
        tokens = Routed(chunk.experts[rows], chunk.multiplicity[rows])
        if layer == 0 and number == 0:
            self._above = []
        if layer == 0:
            self._above.append(tokens)
            return
        if self._counts_layers:
            below = self._layer_transitions[layer - 1]
            _add_pairs(self._above[number].experts, tokens.experts, tokens.multiplicity, below)
        self._above[number] = tokens


def _joined(parts: list[Routed]) -> Routed:
    return parts[0] if len(parts) == 1 else Routed(*map(np.concatenate, zip(*parts, strict=True)))


@borrowing
def _count(experts, multiplicity, counts, first, rank):  # type: ignore[no-untyped-def]
    """Add tokens per expert to *counts*, set *first* to where each is first used, from *rank* on; return the end."""
    for row in range(multiplicity.size):
        if multiplicity[row] == 0:
            continue
        for expert in experts[row]:
            if counts[expert] == 0:
                first[expert] = rank
            counts[expert] += multiplicity[row]
            rank += 1
    return rank


@borrowing
def _add_successors(experts, pairs, transitions, queue, bounds):  # type: ignore[no-untyped-def]
    """Add each row and the row before to *transitions*, expert by expert, so that one of its rows is in use at a time.

    *queue* is a scratch array for the rows that follow each expert in turn, [rows · k or more]. *bounds* is one for
    where each expert's begin in it, zero at first, [2, experts + 1].
    """
    ends, at = bounds[0], bounds[1]
    for row in range(1, pairs.size):
        if pairs[row] != 0:
            for expert in experts[row - 1]:
                ends[expert + 1] += 1
    for expert in range(transitions.shape[0]):
        at[expert] = ends[expert]
        ends[expert + 1] += ends[expert]
    for row in range(1, pairs.size):
        if pairs[row] != 0:
            for expert in experts[row - 1]:
                queue[at[expert]] = row
                at[expert] += 1
    for expert in range(transitions.shape[0]):
        own = transitions[expert]
        for index in range(ends[expert], ends[expert + 1]):
            row = queue[index]
            for after in experts[row]:
                own[after] += pairs[row]


@borrowing
def _add_pairs(before, after, multiplicity, transitions):  # type: ignore[no-untyped-def]
    """Add the pairs of experts *before* and *after*, each [tokens, top_k], to *transitions*."""
    for t in range(before.shape[0]):
        for a in range(before.shape[1]):
            for b in range(after.shape[1]):
                transitions[before[t, a], after[t, b]] += multiplicity[t]
