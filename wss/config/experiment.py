"""One experiment, checked and frozen: all that a run depends on."""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge

from wss.engine import NETWORKS, Dispatch, FluidSpec, NetworkSpec
from wss.errors import CHECKED
from wss.hardware import FaultSpec, SystemSpec
from wss.metrics.sampling import LEAST
from wss.models import ModelShape, Precision, PrecisionName
from wss.models.precision import stated_activation_bytes
from wss.policies import ALLOCATIONS, CACHINGS, PLACEMENTS, PREDICTIONS, PREFETCHINGS, REBALANCINGS, Earlier, Policy
from wss.traces.synth import SynthSpec


@dataclass(frozen=True, kw_only=True)
class TraceFile:
    """Routing from a Parquet trace.

    Requests are taken in the order of the file, of their numbers as text as the paper's simulator does, or mixed by the
    seed. A batch holds the first of them; if continuous, the next one comes in as one ends.
    """

    path: str
    order: Literal["file", "string", "mixed"] = "file"
    replay: Literal["batch", "continuous"] = "batch"


@dataclass(frozen=True, kw_only=True)
class LayerSample:
    """Run *sample* MoE layers, to be drawn when the run starts; all if there are no more."""

    __pydantic_config__ = CHECKED

    sample: Annotated[int, Ge(LEAST)]


@dataclass(frozen=True, kw_only=True)
class DrawnLayers(LayerSample):
    """The sample, drawn: absolute numbers, ascending."""

    layers: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What to run. Field names are the keys of the configuration."""

    model: ModelShape
    wafer: SystemSpec
    trace: SynthSpec | TraceFile
    precision: PrecisionName | Precision = "fp16"
    batch: int = 4096
    steps: int | Literal["all"] = 4
    layers: tuple[int, ...] | LayerSample | Literal["all"] = "all"
    network: NetworkSpec = field(default_factory=FluidSpec)
    gemm: str = "h800"
    engine: Literal["auto", "simpy", "compiled"] = "auto"
    physics: Literal["wss", "paper_artifact"] = "wss"
    window: int = 2
    policies: tuple[Policy, ...]
    baseline: str = "base"
    seed: int = 0
    faults: FaultSpec | None = None
    dispatch: Dispatch | None = None

    @property
    def network_kind(self) -> str:
        """What a configuration calls the network."""
        return _kind(self.network) or "fluid"

    @property
    def layers_run(self) -> tuple[int, ...]:
        """Absolute numbers of the MoE layers to run.

        Raises
        ------
        ValueError
            If they are a sample that is still to be drawn.
        """
        if isinstance(self.layers, DrawnLayers):
            return self.layers.layers
        if isinstance(self.layers, LayerSample):
            raise ValueError("which layers are sampled is drawn when the run starts")
        return self.model.moe_layers if self.layers == "all" else self.layers

    @property
    def layer_share(self) -> float:
        """For what share of all MoE layers those that are run stand: below 1 where they are a sample of them."""
        return len(self.layers_run) / len(self.model.moe_layers) if isinstance(self.layers, LayerSample) else 1.0

    @property
    def exchange(self) -> Dispatch | None:
        """The dispatch with all its bytes given: those of the activations, where `precision` states them."""
        return None if self.dispatch is None else self.dispatch.filled(stated_activation_bytes(self.precision))

    def plain(self) -> dict[str, Any]:
        """Return the whole experiment as plain data in SI units, policies sorted by name; no dispatch goes unsaid."""
        said = [f.name for f in fields(self) if f.name != "dispatch" or self.dispatch is not None]
        plain: dict[str, Any] = {name: _plain(getattr(self, name)) for name in said}
        if self.dispatch is not None:
            plain["dispatch"] = _plain(self.exchange)
        plain["policies"] = sorted(plain["policies"], key=lambda policy: str(policy["name"]))
        return plain


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        result = {f.name: _plain(getattr(value, f.name)) for f in fields(value) if not _is_unused(f, value)}
        kind = _kind(value)
        return {"kind": kind, **result} if kind else result
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _is_unused(item: Field[Any], value: Any) -> bool:
    """Whether *item* is an option that *value* does not take: then it is left out, and what it is known by stays."""
    default = item.default if item.default_factory is MISSING else item.default_factory()
    return "option" in item.metadata and getattr(value, item.name) == default


def _kind(value: object) -> str | None:
    """Return what a configuration calls the class of a policy's part; None for other values."""
    if isinstance(value, SynthSpec):
        return "synth"
    if isinstance(value, TraceFile):
        return "path"
    if isinstance(value, Policy | Earlier | LayerSample | Dispatch) or type(value).__module__.startswith(
        ("wss.hardware", "wss.models")
    ):
        return None
    for table in (PLACEMENTS, ALLOCATIONS, PREDICTIONS, CACHINGS, PREFETCHINGS, REBALANCINGS, NETWORKS):
        for name, cls in table.items():
            if type(value) is cls:
                return name
    return f"{type(value).__module__}:{type(value).__qualname__}"
