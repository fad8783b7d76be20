"""Execution of MoE layers by the paper's own simulator: plan each layer run, select copies, simulate, record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from wss.engine.paper.layer import PaperLayer
from wss.policies import Policy, PredictionView, Signal
from wss.policies.allocation.basic import Algorithm1
from wss.policies.allocation.paper import PaperAlgorithm1
from wss.policies.prediction import PaperHeatmap, TokenHeatmap
from wss.records import LayerRow, Recorder
from wss.serving.heatmap_counters import FullCounters
from wss.serving.planning_time import Planning, planning_notes, planning_time
from wss.traces import LayerTokens


class PaperExecutor:
    """Executes layer runs under one policy; *layers* are the absolute indices of the layers that *model* runs.

    The allocator and the predictor of the paper's simulator stand in for those of its text.
    """

    placement_correlation: float | None = None  # its placement does not depend on loads

    def __init__(
        self, model: PaperLayer, policy: Policy, recorder: Recorder, layers: Sequence[int], planning: Planning
    ) -> None:
        self._model, self._policy, self._layers, self._planning = model, policy, layers, planning
        self._allocation, self._prediction = policy.allocation, policy.prediction
        if isinstance(self._allocation, Algorithm1):
            self._allocation = PaperAlgorithm1(**vars(self._allocation))
        if isinstance(self._prediction, TokenHeatmap):
            self._prediction = PaperHeatmap(**vars(self._prediction))
        self.recorder, self._full = recorder, FullCounters()
        self.planning: dict[str, Any] = {}  # CPU time is not measured, as these parts cannot be deployed

    @property
    def excess_bytes(self) -> float:
        """Bytes by which weights and copies exceed the usable HBM of all dies together; at most 0 if they fit."""
        return self._model.excess_bytes

    @property
    def notes(self) -> list[str]:
        """Notes for the reader of the result."""
        return [*self._full.notes(self._policy.name), *planning_notes(self._planning, self._policy)]

    def run(self, layer_run: LayerTokens) -> None:
        """Plan the layer run, select copies, simulate, and record the result."""
        plan = self._model.ordered(layer_run.layer, self._allocation.allocate(self._model.view(layer_run)))
        if layer_run.step > 0 and Signal.TRANSITIONS in self._prediction.signals:
            self._full.take(layer_run.layer, layer_run.transitions)
            signals, (experts, dies) = {Signal.TRANSITIONS: layer_run.transitions}, self._model.at_home.shape
            view = PredictionView(signals=signals, plan=plan, num_experts=experts, num_dies=dies)
            plan = replace(plan, copy=self._prediction.predict(view))
        columns, links, compute = self._model.run(layer_run.layer, plan)
        counts, tokens, active = layer_run.counts, int(layer_run.counts.sum()), len(layer_run.order)
        planned = planning_time(self._planning, self._policy, len(counts), len(plan.expert))
        columns["time_s"] += planned
        columns["mean_die_time_s"] += planned
        row = LayerRow(
            policy=self._policy.name,
            phase="decode" if layer_run.step > 0 else "prefill",
            step=layer_run.step,
            layer=self._layers[layer_run.layer],
            tokens=tokens,
            active_experts=active,
            max_expert_tokens=int(counts.max()),
            tasks=len(plan.expert),
            lower_bound_s=self._model.lower_bound(tokens, active),
            prefetched_bytes=0.0,
            evictions=0,
            planning_s=planned,
            **columns,
        )
        self.recorder.row(row, links, compute)
