"""The layouts that engines can serve: what they are called, and the policies that make them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wss.config import Experiment
from wss.execution.placement import Layout, layouts_of
from wss.hardware import SwitchedSpec
from wss.policies import LoadHistorySpec, Policy
from wss.policies.allocation.basic import Even
from wss.policies.parts import Placement
from wss.policies.placement.basic import Contiguous
from wss.policies.placement.dup import Dup
from wss.policies.placement.eplb import Eplb
from wss.policies.placement.remap import Remap

CONTIGUOUS = "contiguous"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A layout to judge: its name, redundant experts per GPU, and the placement that makes it."""

    kind: str
    redundant: int
    placement: Placement

    @property
    def name(self) -> str:
        """A name that no other candidate has."""
        return self.kind if isinstance(self.placement, Contiguous | Remap) else f"{self.kind}_{self.redundant}"

    def policy(self, history: LoadHistorySpec) -> Policy:
        """Return the policy that places experts by *history*; an expert's tokens are split evenly over replicas."""
        own = None if isinstance(self.placement, Contiguous) else history
        return Policy(name=self.name, placement=self.placement, allocation=Even(), history=own)


def candidates(experiment: Experiment, redundant: Sequence[int]) -> list[Candidate]:
    """Return contiguous, the paper's Remap and, for each number of *redundant* experts, EPLB and the paper's Dup.

    EPLB by node keeps groups of experts on one node; it is left out if the nodes do not divide the model's groups.
    """
    found = [
        Candidate(kind=CONTIGUOUS, redundant=0, placement=Contiguous()),
        Candidate(kind="remap", redundant=0, placement=Remap()),
    ]
    wafer, groups = experiment.wafer, experiment.model.expert_groups
    nodes = wafer.nodes if isinstance(wafer, SwitchedSpec) else 1
    for extra in sorted(set(redundant)):
        found.append(Candidate(kind="eplb", redundant=extra, placement=Eplb(extra=extra)))
        if nodes > 1 and groups > 1 and groups % nodes == 0:
            found.append(Candidate(kind="eplb_by_node", redundant=extra, placement=Eplb(extra=extra, nodes=nodes)))
        if extra:
            found.append(Candidate(kind="dup", redundant=extra, placement=Dup(extra=extra)))
    return found


def placed(
    experiment: Experiment, wanted: Sequence[Candidate], history: LoadHistorySpec
) -> tuple[list[tuple[Candidate, Layout]], list[str]]:
    """Return the layout of each candidate that fits the HBM, and notes on those that do not, and on uneven shares.

    Raises CapacityError if even the contiguous layout does not fit.
    """
    layouts = layouts_of(experiment, [candidate.policy(history) for candidate in wanted])
    least = layouts[0].placed.sum(axis=1).max()
    fitting = [
        (candidate, layout)
        for candidate, layout in zip(wanted, layouts, strict=True)
        if layout.placed.sum(axis=1).max() >= least + candidate.redundant
    ]
    names = {candidate.name for candidate, _ in fitting}
    short = [candidate.name for candidate in wanted if candidate.name not in names]
    notes = [f"the HBM is too small for the redundant experts of {', '.join(short)}"] if short else []
    _, experts, gpus = layouts[0].placed.shape
    if experts % gpus:
        what = f"{experts} experts cannot be shared evenly by {gpus} GPUs: every GPU gets {least} slots at least"
        notes.append(f"{what}; `redundant` counts those beyond")
    return fitting, notes
