"""The advice: the figures of each layout, and the best of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wss.config import Experiment
from wss.execution.placement import Layout

NOISE = 0.01  # gains within 1% count as equal


@dataclass(frozen=True, eq=False, kw_only=True)
class Judged:
    """The figures of one layout; times are of MoE layers alone: dispatch, experts, combine.

    Attributes
    ----------
    name, kind, redundant
        Its name, the placement that made it, and its redundant experts per GPU.
    gain, low, high
        Time of the contiguous layout over its own, and the 95% interval; None if there is only one step.
    layer_s
        Seconds of one MoE layer in one step, mean.
    balancedness
        Mean over largest tokens per GPU, mean over layers and steps.
    cross_node_bytes
        Bytes between nodes in one MoE layer and one step; None if there is a single node.
    busiest_link, busiest_share
        The busiest link, and the share of the time that its bytes take; None if nothing crossed a link.
    redundant_bytes
        Bytes of HBM that redundant experts take on a GPU, all layers together.
    slots
        Slots of a GPU in one layer.
    layout
        The layout.
    """

    name: str
    kind: str
    redundant: int
    gain: float
    low: float | None
    high: float | None
    layer_s: float
    balancedness: float
    cross_node_bytes: float | None
    busiest_link: str | None
    busiest_share: float
    redundant_bytes: float
    slots: int
    layout: Layout

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return {name: value for name, value in vars(self).items() if name != "layout"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Advice:
    """All layouts judged, the best of them, and what they were judged on.

    Attributes
    ----------
    experiment
        What was simulated.
    judged
        The layouts in the order of their gains; of equal ones, fewer redundant experts first.
    best
        The one to serve with: the fastest or, within 1% of it, the one with the fewest redundant experts.
    rival, over_rival
        The fastest of the others, and the 95% interval of its time over that of the best; None if there is none.
    over
        What the intervals are over: layers, if a sample was drawn, or steps.
    layers_run
        Number of MoE layers simulated.
    about, notes
        What layouts were made from and judged on; and notes for the reader.
    """

    experiment: Experiment
    judged: tuple[Judged, ...]
    best: Judged
    rival: Judged | None
    over_rival: tuple[float, float] | None
    over: str
    layers_run: int
    about: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def gpus(self) -> int:
        """Number of GPUs."""
        return int(self.best.layout.placed.shape[2])

    @property
    def redundant_in_all(self) -> int:
        """Redundant experts of the best layout in one layer, over all GPUs: what engines' options take."""
        return self.best.slots * self.gpus - self.experiment.model.num_experts

    def to_dict(self) -> dict[str, Any]:
        """Return the advice as plain data."""
        experiment = self.experiment
        return {
            "schema": "wss-advice/1",
            "model": experiment.model.name,
            "wafer": experiment.wafer.name,
            "gpus": self.gpus,
            "precision": str(experiment.precision),
            "batch": experiment.batch,
            "steps": experiment.steps,
            "layers_run": self.layers_run,
            "layers_total": len(experiment.model.moe_layers),
            "intervals_over": self.over,
            "input": list(self.about),
            "notes": list(self.notes),
            "best": self.best.name,
            "next": None if self.rival is None else self.rival.name,
            "next_over_best": None if self.over_rival is None else list(self.over_rival),
            "layouts": [one.to_dict() for one in self.judged],
        }
