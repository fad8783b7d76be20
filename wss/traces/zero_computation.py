"""Removal of zero-computation experts, which have neither weights nor FLOP, from the layer runs of a batch.

Routing numbers such experts after the experts with weights (LongCat-Flash: 512 with weights; 512 to 767 without).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from wss.errors import TraceError
from wss.traces.recorded import LayerTokens, RoutingSource


class WorkedKernels:
    """The layer runs of *inner*, without the zero-computation experts, whose ids begin at *num_experts*."""

    def __init__(self, inner: RoutingSource, num_experts: int) -> None:
        self._inner, self._size = inner, num_experts
        self.steps, self.layers = inner.steps, inner.layers
        self._choices, self._zero = 0, 0

    @property
    def has_prefill(self) -> bool:
        """Whether any request has prefill tokens."""
        return self._inner.has_prefill

    @property
    def note(self) -> str:
        """The share of decode choices that needed no work, over the layer runs yielded so far."""
        share = self._zero / max(self._choices, 1)
        return f"{share:.1%} of the router's choices in decode are zero-computation experts: no weights, no work"

    def tokens(self, step: int) -> int:
        """Return the number of tokens of the batch in *step*."""
        return self._inner.tokens(step)

    def layer_runs(self) -> Iterator[LayerTokens]:
        """Yield every layer run in time order."""
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
