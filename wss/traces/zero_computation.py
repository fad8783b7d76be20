"""Choices of zero-computation experts, which have neither weights nor FLOP, left out of the layer runs of a batch.

Routing numbers such experts from the number of experts with weights on (LongCat-Flash: 512 with weights, 512 to 767
without).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from wss.errors import TraceError
from wss.traces.recorded import LayerTokens, RoutingSource


class WorkedKernels:
    """The layer runs of *inner*, whose routing has zero-computation experts beyond *num_experts*, without these."""

    def __init__(self, inner: RoutingSource, num_experts: int) -> None:
        self._inner, self._size = inner, num_experts
        self.steps, self.layers = inner.steps, inner.layers
        self._choices, self._zero = 0, 0

    @property
    def has_prefill(self) -> bool:
        """Whether any request brings prefill tokens."""
        return self._inner.has_prefill

    @property
    def note(self) -> str:
        """What share of the choices of decode had no work, as far as layer runs have been yielded."""
        share = self._zero / max(self._choices, 1)
        return f"{share:.1%} of the router's choices in decode are zero-computation experts: no weights, no work"

    def tokens(self, step: int) -> int:
        """How many tokens the batch has in *step*."""
        return self._inner.tokens(step)

    def layer_runs(self) -> Iterator[LayerTokens]:
        """Yield every layer run in the order of time."""
        size = self._size
        for layer_run in self._inner.layer_runs():
            counts = layer_run.counts[:size]
            work, all_choices = int(counts.sum()), int(layer_run.counts.sum())
            if work == 0:
                where = f"step {layer_run.step}, MoE layer {layer_run.layer}"
                raise TraceError(f"{where}: all choices are zero-computation experts; give a larger batch")
            if layer_run.step > 0:
                self._choices, self._zero = self._choices + all_choices, self._zero + all_choices - work
            yield replace(
                layer_run,
                counts=counts,
                order=layer_run.order[layer_run.order < size],
                heat=layer_run.heat[:size, :size],
                next_seen=layer_run.next_seen[:size],
                next_heat=None if layer_run.next_heat is None else layer_run.next_heat[:size, :size],
                zero_choices=all_choices - work,
            )
