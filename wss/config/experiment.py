"""One experiment, checked and frozen: everything that a run depends on."""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge

from wss.config.document import Document
from wss.config.physics import PHYSICS, Physics
from wss.config.plugins import BY_KIND
from wss.config.policies import check_policies
from wss.config.python_values import brief, plain_number
from wss.config.unread import unread
from wss.config.values import LARGEST_SEED, PLAIN, check_value, physics_named, read_layer_list
from wss.engine.specs import NETWORKS, AllToAllSpec, FluidSpec, NetworkSpec, PacketSpec
from wss.errors import CHECKED
from wss.hardware import FaultSpec, SwitchedSpec, SystemSpec, WaferSpec, faults_on
from wss.hardware.layer_overhead import OVERHEADS
from wss.hardware.measured import MEASURED
from wss.metrics.sampling import LEAST
from wss.models import ModelShape, Precision, PrecisionName
from wss.models.precision import peak_of, stated_activation_bytes
from wss.policies import CopyRules, LoadHistorySpec, Policy
from wss.serving.setup import Setup
from wss.traces.source import TraceFile
from wss.traces.synthetic.spec import SynthSpec

MOST_CHUNKS = 100_000  # per expert in the packet network


@dataclass(frozen=True, kw_only=True)
class LayerSample:
    """Run *sample* MoE layers, drawn when the run starts; all if there are no more."""

    __pydantic_config__ = CHECKED

    sample: Annotated[int, Ge(LEAST)]


@dataclass(frozen=True, kw_only=True)
class DrawnLayers(LayerSample):
    """The drawn sample: absolute layer indices, ascending."""

    layers: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What to run. Field names are the keys of the configuration.

    Raises
    ------
    ConfigError
        With one line per error, worded as for a configuration.
    """

    model: ModelShape
    wafer: SystemSpec
    trace: SynthSpec | TraceFile
    precision: PrecisionName | Precision = "fp16"
    batch: int = 4096
    steps: int | Literal["all"] = 4
    layers: tuple[int, ...] | LayerSample | Literal["all"] = "all"
    network: NetworkSpec = field(default_factory=FluidSpec)
    gemm: str = "h800"
    layer_overhead: Literal["auto", "measured", "none"] = "auto"
    engine: Literal["auto", "simpy", "compiled"] = "auto"
    physics: Literal["wss", "paper"] = "wss"
    window: int = 2
    policies: tuple[Policy, ...]
    baseline: str = "base"
    seed: int = 0
    replications: int = 1
    faults: FaultSpec | None = None
    dispatch: AllToAllSpec | None = None
    planning: float | Literal["free", "charged"] = "free"

    def __post_init__(self) -> None:
        document = Document("experiment")
        object.__setattr__(self, "physics", physics_named(self.physics))
        if isinstance(self.policies, list):
            object.__setattr__(self, "policies", tuple(self.policies))
        for name in (*PLAIN, "layers"):
            object.__setattr__(self, name, plain_number(getattr(self, name)))
        _check_fields(document, self)
        broken = {place[0] for place in document.faulty}
        check_together(document, {f.name: getattr(self, f.name) for f in fields(self) if f.name not in broken})
        document.raise_faults()

    @property
    def rules(self) -> Physics:
        """The physics."""
        return PHYSICS[self.physics]

    @property
    def network_kind(self) -> str:
        """The name of the network that is simulated."""
        return self.rules.network or _kind(self.network) or "fluid"

    @property
    def layers_run(self) -> tuple[int, ...]:
        """Absolute indices of the MoE layers to run. Raises ValueError if they are a sample that is not drawn yet."""
        if isinstance(self.layers, DrawnLayers):
            return self.layers.layers
        if isinstance(self.layers, LayerSample):
            raise ValueError("the sampled layers are drawn only when the run starts")
        return self.model.moe_layers if self.layers == "all" else self.layers

    @property
    def layer_share(self) -> float:
        """Share of all MoE layers that are run; below 1 only if they are a sample of all."""
        return len(self.layers_run) / len(self.model.moe_layers) if isinstance(self.layers, LayerSample) else 1.0

    @property
    def all_to_all(self) -> AllToAllSpec | None:
        """The dispatch with all its bytes set; those of the activations come from `precision` if it states them."""
        return None if self.dispatch is None else self.dispatch.filled(stated_activation_bytes(self.precision))

    @property
    def setup(self) -> Setup:
        """The values that executors read."""
        return Setup(**{each.name: getattr(self, each.name) for each in fields(Setup)})

    def plain(self) -> dict[str, Any]:
        """Return the whole experiment as plain data in SI units, policies sorted by name.

        No dispatch, a single seed and an automatic overhead are left out.
        """
        unsaid = {"dispatch"} if self.dispatch is None else set()
        unsaid |= {"layer_overhead"} if self.layer_overhead == "auto" else set()
        unsaid |= {"replications"} if self.replications == 1 else set()
        said = [f.name for f in fields(self) if f.name not in unsaid]
        plain: dict[str, Any] = {name: _plain(getattr(self, name)) for name in said}
        if self.dispatch is not None:
            plain["dispatch"] = _plain(self.all_to_all)
        plain["policies"] = sorted(plain["policies"], key=lambda policy: str(policy["name"]))
        return plain


TYPES: dict[str, tuple[tuple[type, ...], str]] = {  # of the fields that hold objects, and the expected form
    "model": ((ModelShape,), "a ModelShape, such as MODELS['deepseek_v3']"),
    "wafer": ((WaferSpec, SwitchedSpec), "a WaferSpec or SwitchedSpec, such as WAFERS['dojo']"),
    "trace": ((SynthSpec, TraceFile), "a SynthSpec or a TraceFile"),
    "layers": ((tuple, LayerSample, str), "'all', MoE layers such as (3, 4), or LayerSample(sample=8)"),
    "faults": ((FaultSpec, type(None)), "a FaultSpec or None"),
    "dispatch": ((AllToAllSpec, type(None)), "an AllToAllSpec or None"),
}


def _check_fields(document: Document, experiment: Experiment) -> None:
    """Add the errors in single fields of *experiment*, made in Python."""
    for name, reader in PLAIN.items():
        value = getattr(experiment, name)
        if name == "precision" and isinstance(value, Precision):
            check_value(document, (name,), value)
        elif name == "precision" and isinstance(value, dict):
            document.fault((name,), f"{value!r} is not right; give a Precision, or a name such as 'fp8'")
        elif name == "planning" and isinstance(value, str) and value not in ("free", "charged"):
            document.fault((name,), f"{value!r} is not right; give 'free', 'charged' or seconds, such as 2e-05")
        elif name == "planning" and isinstance(value, float):
            reader(document, (name,), f"{value!r} s")
        else:
            reader(document, (name,), value)
    for name in (*TYPES, "network", "policies"):
        check_objects(document, name, getattr(experiment, name))


def check_objects(document: Document, name: str, value: Any) -> None:
    """Add the errors in *value*, made in Python, of the field *name*, which holds objects."""
    if name == "policies":
        check_policies(document, (name,), value)
    elif name == "network":
        if isinstance(value, type) or not callable(getattr(value, "model", None)):
            document.fault((name,), f"{value!r} is not right; give a network, such as FluidSpec()")
        elif type(value) in NETWORKS.values():
            check_value(document, (name,), value)
    elif name in PLAIN and not isinstance(value, Precision):
        document.fault((name,), f"{brief(value)} is not right; give plain numbers and text")
    elif name in TYPES and (not isinstance(value, TYPES[name][0]) or (isinstance(value, str) and value != "all")):
        document.fault((name,), f"{brief(value)} is not right; give {TYPES[name][1]}")
    elif isinstance(value, tuple):
        read_layer_list(document, (name,), list(value))
    elif is_dataclass(value):
        check_value(document, ("trace", "synth") if isinstance(value, SynthSpec) else (name,), value)


def check_together(document: Document, given: dict[str, Any]) -> None:
    """Add contradictions between valid values of different fields, and fields that are not read."""
    defaults = {f.name: FluidSpec() if f.name == "network" else f.default for f in fields(Experiment)}
    optional = {name: default for name, default in defaults.items() if default is not MISSING}
    values: dict[str, Any] = optional | given
    if "precision" in given or "precision" not in (document.value or {}):
        _check_precision(document, values)
        _check_measured(document, values)
    for check in (_check_baseline, _check_network, _check_seeds, _check_places):
        check(document, values)
    for place, what in (*PHYSICS[values["physics"]].lacks(values), *unread(values, defaults)):
        document.fault(place, what)


def _check_precision(document: Document, values: dict[str, Any]) -> None:
    precision = values["precision"]
    if "wafer" in values:
        known, peak = values["wafer"].die.flops, peak_of(precision)
        if peak not in known:
            peaks = ", ".join(sorted(known))
            what = f"the die has no peak for '{peak}', only for {peaks}; add wafer.die.flops.{peak}"
            if not isinstance(precision, Precision):
                what += ", or store weights in less than they are computed in: {weights: mxfp4, compute: bf16}"
            document.fault(("precision",), what)


def _check_measured(document: Document, values: dict[str, Any]) -> None:
    """Add an error for kernels that were not measured in the precision, and for launches that would count twice."""
    peak = peak_of(values["precision"])
    for name, measured in (("gemm", MEASURED.products), ("layer_overhead", OVERHEADS)):
        if values[name] == "measured" and peak not in measured:
            known = ", ".join(sorted(measured))
            document.fault((name,), f"'measured' is not known in {peak}, only in {known}; leave it out")
    if values["layer_overhead"] == "measured" and values["gemm"] == "h800":
        document.fault(("layer_overhead",), "'measured' has the launches of gemm: h800 too; give gemm: measured")


def _check_baseline(document: Document, values: dict[str, Any]) -> None:
    if "policies" in values:
        names = [policy.name for policy in values["policies"]]
        if values["baseline"] not in names:
            document.fault(
                ("baseline",), f"'{values['baseline']}' is not among the policies; give one of {', '.join(names)}"
            )


def _check_network(document: Document, values: dict[str, Any]) -> None:
    network = values["network"]
    if isinstance(network, PacketSpec) and "model" in values:
        nbytes = values["model"].expert_bytes(values["precision"])
        chunks, least = nbytes / network.chunk, nbytes / MOST_CHUNKS
        if chunks > MOST_CHUNKS:
            what = f"cuts an expert into {chunks:.0f} chunks, {MOST_CHUNKS} at most; give {least:.0f} B or more"
            document.fault(("network", "chunk"), what)
    if values["engine"] == "compiled" and type(network) not in NETWORKS.values():
        what = f"'compiled' is for the networks {', '.join(NETWORKS)}, not {type(network).__name__}; give engine: auto"
        document.fault(("engine",), what)


def _check_seeds(document: Document, values: dict[str, Any]) -> None:
    seed, count = values["seed"], values["replications"]
    if seed + count - 1 > LARGEST_SEED:
        document.fault(("replications",), f"{count} go beyond the largest seed, {LARGEST_SEED}; give a lower seed")


def _check_places(document: Document, values: dict[str, Any]) -> None:
    """Add faults and layers that do not exist."""
    if values["faults"] is not None and "wafer" in values:
        for line in faults_on(values["wafer"], values["faults"]):
            document.fault(("faults",), line)
    layers = values["layers"].layers if isinstance(values["layers"], DrawnLayers) else values["layers"]
    if isinstance(layers, tuple) and "model" in values:
        moe = values["model"].moe_layers
        if stray := [layer for layer in layers if layer not in moe]:
            document.fault(
                ("layers",), f"{stray} are not MoE layers of the model; it has {len(moe)} in {moe[0]}..{moe[-1]}"
            )


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
    """Whether *item* is an option at its default in *value*: it is then left out, so that older hashes stay valid."""
    default = item.default if item.default_factory is MISSING else item.default_factory()
    return "option" in item.metadata and getattr(value, item.name) == default


def _kind(value: object) -> str | None:
    """Return the name of a policy part's class in a configuration; None for other values."""
    if isinstance(value, SynthSpec):
        return "synth"
    if isinstance(value, TraceFile):
        return "path"
    if isinstance(value, Policy | CopyRules | LoadHistorySpec | LayerSample | AllToAllSpec) or type(
        value
    ).__module__.startswith(("wss.hardware", "wss.models")):
        return None
    for seam in BY_KIND.values():
        for name, cls in seam.classes.items():
            if type(value) is cls:
                return name
    return f"{type(value).__module__}:{type(value).__qualname__}"
