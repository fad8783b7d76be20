"""The advice: layouts are made from one part of the input, and served in the simulation with the other part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from wss.advice.balance import balancedness, tokens_per_gpu
from wss.advice.candidates import CONTIGUOUS, Candidate, candidates, placed
from wss.advice.evidence import Evidence, Wanted, read_evidence
from wss.advice.question import Question
from wss.config import Experiment
from wss.config.experiment import DrawnLayers, LayerSample
from wss.execution import run
from wss.execution.placement import Layout
from wss.execution.replications import Progress
from wss.execution.result import Result
from wss.execution.routing import open_routing
from wss.hardware.topology import FABRIC
from wss.hardware.wafer import Wafer
from wss.metrics import Ledger
from wss.policies import Policy
from wss.policies.allocation.basic import Even
from wss.policies.placement.layout_file import LayoutFile
from wss.records import FloatArray

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
            "layouts": [one.to_dict() for one in self.judged],
        }


def advise(path: Path, question: Question, progress: Progress = lambda what, done, total, where: None) -> Advice:
    """Judge layouts for *question* on the loads or the routing of *path*.

    Raises
    ------
    WssError
        If the input or the question is wrong, or the experts do not fit the GPUs.
    """
    experiment = question.experiment()
    with TemporaryDirectory(prefix="wss-advise-") as name:
        folder = Path(name)
        wanted = Wanted(
            model=experiment.model,
            batch=question.batch,
            steps=question.steps,
            only=question.only,
            folder=folder,
        )
        evidence = read_evidence(path, wanted)
        made, notes = placed(
            _judging(experiment, evidence, experiment.policies),
            candidates(experiment, question.redundant),
            evidence.history,
        )
        served = _judging(experiment, evidence, [_serving(each, layout, folder) for each, layout in made])
        result = run(replace(served, baseline=CONTIGUOUS), progress)
        return _advice(result, made, evidence, notes)


def _judging(experiment: Experiment, evidence: Evidence, policies: Sequence[Policy]) -> Experiment:
    """Return *experiment* on the routing that judges."""
    layers = experiment.layers
    few = isinstance(layers, LayerSample) and layers.sample >= len(experiment.model.moe_layers)
    return replace(
        experiment,
        trace=evidence.trace,
        steps=evidence.steps,
        policies=tuple(policies),
        baseline=policies[0].name,
        layers="all" if few else layers,
    )


def _serving(candidate: Candidate, layout: Layout, folder: Path) -> Policy:
    """Return the policy that serves with *layout*, read from a file as an engine reads it."""
    path = folder / f"{candidate.name}.json"
    path.write_text(layout.text, encoding="utf-8")
    return Policy(name=candidate.name, placement=LayoutFile(path=str(path)), allocation=Even())


def _advice(
    result: Result, made: Sequence[tuple[Candidate, Layout]], evidence: Evidence, notes: Sequence[str]
) -> Advice:
    sample = result.ledgers[0].sample
    balance = _balance(result, [layout for _, layout in made])
    rows = [
        _row(result, candidate, layout, own, evidence.steps)
        for (candidate, layout), own in zip(made, balance.tolist(), strict=True)
    ]
    rows.sort(key=lambda row: (-round(row.gain, 6), row.redundant))
    best = best_of(rows)
    rival = next((row for row in rows if row is not best), None)
    return Advice(
        experiment=result.experiment,
        judged=tuple(rows),
        best=best,
        rival=rival,
        over_rival=_interval(*(result.runs[row.name].ledgers[0] for row in (rival, best))) if rival else None,
        over="layers" if sample is not None else "steps",
        layers_run=len(sample.layers) if sample is not None else len(result.experiment.model.moe_layers),
        about=evidence.about,
        notes=tuple(notes),
    )


def best_of(rows: Sequence[Judged]) -> Judged:
    """Return the fastest of *rows* or, of those within `NOISE` of it, that with the fewest slots; contiguous first."""
    fastest = max(row.gain for row in rows)
    near = [row for row in rows if row.gain >= fastest * (1 - NOISE)]
    return min(near, key=lambda row: (row.slots, row.kind != CONTIGUOUS, -row.gain))


def _row(result: Result, candidate: Candidate, layout: Layout, balance: float, steps: int) -> Judged:
    own, base = (result.runs[name] for name in (candidate.name, CONTIGUOUS))
    ledger, model = own.ledgers[0], result.experiment.model
    gain = own.figures["speedup"].value
    low, high = _interval(base.ledgers[0], ledger) or (None, None)
    layer_runs = steps * len(model.moe_layers)
    gpus = layout.placed.shape[2]
    slots = int(layout.placed.sum(axis=1).max())
    spare = slots - -(-model.num_experts // gpus)
    return Judged(
        name=candidate.name,
        kind=candidate.kind,
        redundant=candidate.redundant,
        gain=gain,
        low=low,
        high=high,
        layer_s=own.figures["decode_time_s"].value / layer_runs,
        balancedness=balance,
        cross_node_bytes=_between_nodes(ledger, own.wafer, layer_runs),
        busiest_link=own.figures["busiest_link"].value,
        busiest_share=own.figures["max_link_utilization"].value,
        redundant_bytes=spare * len(model.moe_layers) * model.expert_bytes(result.experiment.precision),
        slots=slots,
        layout=layout,
    )


def _interval(base: Ledger, own: Ledger) -> tuple[float, float] | None:
    """Return the 95% interval of the time of *base* over that of *own*: over the layers drawn, else over steps."""
    sample = base.sample
    if sample is None:
        return over_steps(*(_times(ledger, [row.step - 1 for row in ledger.decode]) for ledger in (base, own)))
    index = sample.index
    before, now = (_times(ledger, [index[row.layer] for row in ledger.decode]) for ledger in (base, own))
    _, low, high = sample.speedup(before, now)
    return low, high


def _times(ledger: Ledger, place: Sequence[int]) -> FloatArray:
    """Return the sums of the times of decode layer runs by *place*, that of each."""
    return np.bincount(np.array(place), [row.time_s for row in ledger.decode]).astype(np.float64)


def over_steps(before: FloatArray, now: FloatArray) -> tuple[float, float] | None:
    """Return the 95% interval of a ratio of times, [steps]: Student's t on its residuals. One step has none."""
    from scipy.special import stdtrit  # noqa: PLC0415 - slow to import

    ratio, steps = float(before.sum() / now.sum()), len(now)
    if steps < 2:
        return None
    spread = float((before - ratio * now).std(ddof=1)) / float(now.mean())
    half = float(stdtrit(steps - 1, 0.975)) * spread / math.sqrt(steps)
    return max(0.0, ratio - half), ratio + half


def _between_nodes(ledger: Ledger, wafer: Wafer, layer_runs: int) -> float | None:
    """Return the bytes that enter the fabric in one layer run, mean over all layers; None if there is no fabric."""
    enters = np.array([wafer.name(target) == FABRIC for target in wafer.links[:, 1].tolist()])
    if not enters.any():
        return None
    if ledger.sample is None:
        return float(ledger.link_bytes[enters].sum()) / layer_runs
    by_layer = np.array([ledger.layer_links[layer][enters].sum() for layer in ledger.sample.layers])
    return float(ledger.sample.weights @ by_layer) / layer_runs


def _balance(result: Result, layouts: Sequence[Layout]) -> FloatArray:
    """Return the balancedness of each layout, mean over layers and decode steps, [layouts]."""
    experiment, sample = result.experiment, result.ledgers[0].sample
    layers = experiment.model.moe_layers if sample is None else sample.layers
    weights = np.ones(len(layers)) if sample is None else sample.weights
    if sample is not None:
        experiment = replace(experiment, layers=DrawnLayers(sample=len(layers), layers=layers))
    indices = experiment.setup.layer_indices
    sums, steps = np.zeros((len(layouts), len(layers))), np.zeros(len(layers))
    for layer_run in open_routing(experiment).layer_runs():
        if layer_run.step == 0 or not layer_run.counts.any():
            continue
        steps[layer_run.layer] += 1
        for number, layout in enumerate(layouts):
            tokens = tokens_per_gpu(layer_run.counts, layout.placed[indices[layer_run.layer]])
            sums[number, layer_run.layer] += balancedness(tokens)
    means: FloatArray = (sums / np.maximum(steps, 1)) @ weights / weights[steps > 0].sum()
    return means
