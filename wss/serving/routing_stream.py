"""The layer runs of a batch: a schedule, a routing source, and the statistics so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby

from wss.errors import TraceError
from wss.serving.scheduler import Schedule
from wss.traces.source import LayerTokens, RoutingSource
from wss.traces.transitions import RoutingCounts


class RoutingStream:
    """Every layer run, in the order of time. Zero-computation experts are left out.

    Parameters
    ----------
    schedule
        The tokens of each step.
    source
        Their experts.
    counts
        Builds the statistics, all zero.
    num_experts
        Experts per layer that have weights; ids from there on have neither weights nor FLOP (LongCat-Flash: 512 with
        weights; 512 to 767 without).
    """

    def __init__(
        self, schedule: Schedule, source: RoutingSource, counts: Callable[[], RoutingCounts], num_experts: int
    ) -> None:
        self.schedule, self.layers = schedule, source.layers
        self._source, self._counts, self._num_experts = source, counts, num_experts
        self._choices, self._zero = 0, 0  # in decode, over the layer runs yielded so far

    @property
    def num_layer_runs(self) -> int:
        """Number of layer runs."""
        return len(self.schedule.tokens) * len(self.layers)

    @property
    def notes(self) -> list[str]:
        """A note on the share of decode choices that needed no work, if there are any."""
        if not self._choices:
            return []
        share = self._zero / self._choices
        return [f"{share:.1%} of the router's choices in decode are zero-computation experts: no weights, no work"]

    def layer_runs(self) -> Iterator[LayerTokens]:
        """Yield every layer run in the order of time: by step, then by layer; step 0 only if there is a prefill."""
        counts = self._counts()
        for batch in self.schedule.batches():
            tokens = self._source.tokens(batch, pairs=counts.counts_pairs)
            for layer, chunks in groupby(tokens, key=lambda chunk: chunk.layer):
                yield self._worked(counts.take(batch.step, layer, chunks))

    def _worked(self, layer_run: LayerTokens) -> LayerTokens:
        """Return *layer_run* without zero-computation experts.

        Raises
        ------
        TraceError
            If there are no others.
        """
        size = self._num_experts
        if size == len(layer_run.counts):
            return layer_run
        counts = layer_run.counts[:size]
        work, all_choices = int(counts.sum()), int(layer_run.counts.sum())
        if work == 0:
            where = f"step {layer_run.step}, MoE layer {layer_run.layer}"
            raise TraceError(f"{where}: all choices are zero-computation experts; give a larger batch")
        if layer_run.step > 0:
            self._choices, self._zero = self._choices + all_choices, self._zero + all_choices - work
        return replace(
            layer_run,
            counts=counts,
            order=layer_run.order[layer_run.order < size],
            heat=layer_run.heat[:size, :size],
            next_seen=layer_run.next_seen[:size],
            next_heat=None if layer_run.next_heat is None else layer_run.next_heat[:size, :size],
            zero_choices=all_choices - work,
        )
