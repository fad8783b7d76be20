"""Physics: the bundles of rules that a run can have, by name. No other module compares such a name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from wss.config.document import Place
from wss.engine.paper.machine import SHARES
from wss.hardware import FaultSpec, SwitchedSpec
from wss.models import MODELS
from wss.policies import Policy
from wss.policies.allocation.basic import Algorithm1, Chunked, Home, InTurn
from wss.policies.prediction import Never, TokenHeatmap

Values = Mapping[str, Any]
Faults = Iterator[tuple[Place, str]]


@dataclass(frozen=True, kw_only=True)
class Physics:
    """A bundle of rules.

    Attributes
    ----------
    name
        Its name in a configuration and in summary.json.
    layer_model
        What runs an MoE layer: windowed reads over the network, or the simulator of the paper.
    network, gemm
        The names of its own network and GEMM model; None: those of the configuration.
    across_phases
        Whether the first token of decode follows the last one of the prefill in counts of transitions.
    figures
        Figures that not all physics have, by name.
    unread, lacks
        Settings that it does not read, in groups with the reason; what yields those that it has no rules for.
    """

    name: str
    layer_model: Literal["windowed", "paper"] = "windowed"
    network: str | None = None
    gemm: str | None = None
    across_phases: bool = True
    figures: frozenset[str] = frozenset()
    unread: tuple[tuple[tuple[str, ...], str], ...] = ()
    lacks: Callable[[Values], Faults] = lambda values: iter(())


def _paper_lacks(values: Values) -> Faults:
    """Yield the settings in *values* that the paper's simulator lacks."""
    model = values.get("model")
    if model is not None and model.name not in SHARES:
        known = ", ".join(name for name, shape in MODELS.items() if shape.name in SHARES)
        yield ("model",), f"physics: paper has no compute times for {model.name}; give one of {known}"
    if values.get("precision", "fp16") != "fp16":
        yield ("precision",), f"physics: paper has no {values['precision']}; give precision: fp16"
    if model is not None and (model.matrices != 3 or model.zero_experts):
        yield ("model",), "physics: paper has only experts with weights, of three matrices; give such a model"
    if isinstance(values.get("faults"), FaultSpec):
        yield ("faults",), "physics: paper has no faults; leave them out"
    if isinstance(values.get("wafer"), SwitchedSpec):
        yield ("wafer",), "physics: paper has no switches; give a wafer that is a mesh, such as dojo"
    if values.get("dispatch") is not None:
        yield ("dispatch",), "physics: paper sends no token activations; give dispatch: none"
    for number, policy in enumerate(values.get("policies", ())):
        yield from ((("policies", number, *place), what) for place, what in _paper_lacks_parts(policy))


def _paper_lacks_parts(policy: Policy) -> Faults:
    """Yield the parts of *policy* that the paper's simulator lacks."""
    start = f"physics: paper has no such {{}} ('{policy.name}'); give"
    allocation = policy.allocation
    if type(allocation) not in (InTurn, Chunked, Home, Algorithm1):
        yield ("allocation",), f"{start.format('allocation')} in_turn, chunked, home or algorithm1"
    elif isinstance(allocation, Algorithm1) and allocation.radius != Algorithm1().radius:
        yield ("allocation", "radius"), f"{start.format('radius')} {Algorithm1().radius}"
    if type(policy.prediction) not in (Never, TokenHeatmap):
        yield ("prediction",), f"{start.format('prediction')} never or token_heatmap"
    plain = Policy(name=policy.name, allocation=allocation)
    for part in ("placement", "caching", "copies", "prefetching", "rebalancing", "history"):
        if getattr(policy, part) != getattr(plain, part):
            yield (part,), f"{start.format(part)} none: leave it out"


PHYSICS: dict[str, Physics] = {
    "wss": Physics(name="wss"),
    "paper": Physics(
        name="paper",
        layer_model="paper",
        network="circuit",
        gemm="paper",
        across_phases=False,
        figures=frozenset({"throughput_paper_tokens_per_s", "hbm_excess_bytes"}),
        unread=(
            (
                ("network", "gemm", "layer_overhead", "window"),
                "physics: paper has its own network, GEMM times and window",
            ),
            (
                ("wafer.die.sms", "wafer.die.hbm.latency", "wafer.die.llc"),
                "physics: paper has its own latencies and LLC, and uses only the die's FP16 peak and its HBM's "
                "bandwidth and size",
            ),
            (
                ("wafer.link.latency", "wafer.link.request", "wafer.link.granule"),
                "physics: paper has its own links, and uses only their bandwidth",
            ),
        ),
        lacks=_paper_lacks,
    ),
}
OLD_SPELLINGS = {"paper_artifact": "paper"}
