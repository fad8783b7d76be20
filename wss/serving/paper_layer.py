"""Execution of MoE layers by the paper's own simulator: plan each layer run, select copies, simulate, record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from wss.engine.paper.layer import PaperLayer
from wss.hardware import Wafer
from wss.policies import LayerView, Policy, PredictionView, Signal
from wss.policies.allocation.basic import Algorithm1
from wss.policies.allocation.paper import PaperAlgorithm1
from wss.policies.prediction import PaperHeatmap, TokenHeatmap
from wss.records import LayerRow, Plan, Recorder
from wss.serving.heatmap_counters import FullCounters
from wss.serving.planning_time import Planning, planning_notes, planning_time
from wss.traces import LayerTokens


def as_in_paper(policy: Policy) -> Policy:
    """Return *policy* with the allocator and the predictor of the paper's simulator in place of those of the text."""
    allocation, prediction = policy.allocation, policy.prediction
    if isinstance(allocation, Algorithm1):
        allocation = PaperAlgorithm1.like(allocation)
    if isinstance(prediction, TokenHeatmap):
        prediction = PaperHeatmap(share=prediction.share)
    return replace(policy, allocation=allocation, prediction=prediction)


class PaperExecutor:
    """Executes layer runs under one policy.

    Parameters
    ----------
    model
        The layer model, with the policy's copies and LLCs.
    wafer, policy, recorder
        On what, under which policy, and who takes the rows.
    layers
        Absolute indices of the layers run.
    planning
        The planning time, as configured.
    """

    def __init__(
        self,
        model: PaperLayer,
        wafer: Wafer,
        policy: Policy,
        layers: Sequence[int],
        planning: Planning,
        recorder: Recorder,
    ) -> None:
        self._model, self._wafer, self._policy = model, wafer, as_in_paper(policy)
        self._layers, self._planning, self.recorder = layers, planning, recorder
        self._costs, self._full = model.costs, FullCounters()
        self._sources = model.primary_die[:, None] == np.arange(wafer.num_dies)

    @property
    def excess_bytes(self) -> float:
        """Bytes by which weights and copies exceed the usable HBM of all dies together; at most 0 if they fit."""
        return self._model.excess_bytes

    @property
    def placement_correlation(self) -> None:
        """None: these placements do not depend on loads."""
        return None

    @property
    def planning(self) -> dict[str, Any]:
        """CPU time of planning: not measured, as these parts cannot be deployed."""
        return {}

    @property
    def notes(self) -> list[str]:
        """Notes for the reader of the result."""
        return [*self._full.notes(self._policy.name), *planning_notes(self._planning, self._policy)]

    def run(self, layer_run: LayerTokens) -> None:
        """Plan the layer run, select copies, simulate, and record the result."""
        counts, plan = layer_run.counts, self._plan(layer_run)
        tokens, active = int(counts.sum()), len(layer_run.order)
        planned = planning_time(self._planning, self._policy, len(counts), len(plan.expert))
        outcome = self._model.run(layer_run.layer, plan)
        row = LayerRow(
            policy=self._policy.name,
            phase="decode" if layer_run.step > 0 else "prefill",
            step=layer_run.step,
            layer=self._layers[layer_run.layer],
            tokens=tokens,
            active_experts=active,
            max_expert_tokens=int(counts.max()),
            tasks=len(plan.expert),
            time_s=planned + outcome.time,
            lower_bound_s=self._model.lower_bound(tokens, active),
            mean_die_time_s=planned + outcome.mean_die_time,
            planning_s=planned,
            **outcome.measures,
        )
        self.recorder.row(row, outcome.links, outcome.compute)

    def _plan(self, layer_run: LayerTokens) -> Plan:
        """Return the tasks by expert, then die, with the copies that the prediction selects in decode."""
        layer, num_dies = layer_run.layer, self._wafer.num_dies
        view = LayerView(
            layer=layer,
            counts=layer_run.counts,
            order=layer_run.order,
            primary_die=self._model.primary_die,
            replicas=self._model.replicas(layer),
            sources=self._sources,
            hops=self._wafer.hops,
            routes=self._wafer.routes,
            costs=self._costs,
        )
        plan = self._policy.allocation.allocate(view)
        order = np.argsort(plan.expert * num_dies + plan.die)
        expert, die = plan.expert[order], plan.die[order]
        source = self._model.sources(layer, expert, die)
        plan = Plan(expert=expert, die=die, tokens=plan.tokens[order], source=source, copy=plan.copy)
        if layer_run.step == 0 or Signal.TRANSITIONS not in self._policy.prediction.signals:
            return plan
        self._full.take(layer, layer_run.transitions)
        signals = {Signal.TRANSITIONS: layer_run.transitions}
        shown = PredictionView(signals=signals, plan=plan, num_experts=len(layer_run.counts), num_dies=num_dies)
        return replace(plan, copy=self._policy.prediction.predict(shown))
