"""From a YAML file and settings on the command line to one frozen Experiment, or to every fault at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from annotated_types import Ge, Le, MinLen

from wss.config import nodes
from wss.config.choices import build, kinded, named
from wss.config.experiment import Experiment, LayerSample, TraceFile
from wss.config.models import read_layers, read_model
from wss.config.nodes import Document, Place
from wss.config.policies import read_policies
from wss.config.settings import apply_setting
from wss.engine import NETWORKS, Dispatch
from wss.engine.network import PacketSpec
from wss.errors import ConfigError, did_you_mean
from wss.hardware import GEMMS, WAFERS, FaultSpec, SwitchedSpec, WaferSpec, faults_on
from wss.models import Precision, PrecisionName
from wss.models.precision import BITS, peak_of
from wss.traces.synth import SYNTHS, SynthSpec
from wss.units import Quantity

Reader = Callable[[Document, Place, Any], Any]

MOST_CHUNKS = 100_000  # of an expert in the packet network
Count = Annotated[int, Ge(1), Le(10**7)]


def load(path: str | Path, settings: Sequence[str] = ()) -> Experiment:
    """Read the experiment of *path*, changed by *settings* such as ``batch=1024``.

    Raises
    ------
    ConfigError
        With one line for each fault: ``file:line:col: path: what; what would be right``.
    """
    document = read_mapping(Path(path), "model, wafer, trace and policies")
    if "config" in document.value and {"grid", "vary"} & set(document.value):
        raise ConfigError(f"{path}: is a sweep; run it with `wss sweep`")
    for setting in settings:
        apply_setting(document, setting)
    return experiment_of(document)


def read_mapping(path: Path, needs: str) -> Document:
    """Read the YAML file *path*, which must be a mapping with the keys *needs*."""
    document = nodes.read(path)
    if document.value is None:
        raise ConfigError(f"{path}: is empty; give at least {needs}")
    if not isinstance(document.value, dict):
        raise ConfigError(f"{path}:1:1: is not a mapping; write keys and values, such as 'model: deepseek_v3'")
    return document


def quantity(name: str, text: str, dimension: str) -> float:
    """Return the option *name*'s *text*, such as ``1 MiB``, in SI; it must be above zero.

    Raises
    ------
    ConfigError
        If it is not a quantity of *dimension*.
    """
    try:
        return Quantity(dimension).parse(text)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None


def load_synth(preset: str, settings: Sequence[str] = ()) -> SynthSpec:
    """Return the parameters of a synthetic trace: a preset, changed by *settings* such as ``skew=1.2``.

    Raises
    ------
    ConfigError
        With one line for each fault.
    """
    document = Document("synth", {"synth": preset})
    for setting in settings:
        apply_setting(document, f"synth.{setting}")
    spec: SynthSpec | None = named(document, ("synth",), document.value["synth"], SYNTHS, SynthSpec)
    document.raise_faults()
    assert spec is not None
    return spec


def experiment_of(document: Document) -> Experiment:
    """Read every key, then what must hold between them; raise ConfigError with all faults."""
    values: dict[str, Any] = {}
    for key, value in document.value.items():
        if key not in READERS:
            document.fault((key,), f"is not a key here; {did_you_mean(key, READERS)}")
            continue
        if not any(place[:1] == (key,) for place in document.faulty):
            values[key] = READERS[key](document, (key,), value)
    for key in ("model", "wafer", "trace", "policies"):
        if key not in document.value:
            document.fault((key,), "is missing; give it")
    broken = {place[0] for place in document.faulty if place}
    given = {key: value for key, value in values.items() if key not in broken}
    _check_together(document, given)
    document.raise_faults()
    return Experiment(**values)


def _check_together(document: Document, given: dict[str, Any]) -> None:
    """Note what is wrong between sound values of different keys."""
    default = {field.name: field.default for field in fields(Experiment)}
    precision = given.get("precision", default["precision"])
    if "wafer" in given and ("precision" in given or "precision" not in document.value):
        known, peak = given["wafer"].die.flops, peak_of(precision)
        if peak not in known:
            peaks = ", ".join(sorted(known))
            what = f"the die has no peak for '{peak}', only for {peaks}; add wafer.die.flops.{peak}"
            if not isinstance(precision, Precision):
                what += ", or store weights in less than they are computed in: {weights: mxfp4, compute: bf16}"
            document.fault(("precision",), what)
    if "policies" in given:
        names = [policy.name for policy in given["policies"]]
        baseline = given.get("baseline", default["baseline"])
        if baseline not in names:
            document.fault(("baseline",), f"'{baseline}' is not among the policies; give one of {', '.join(names)}")
    network, model = given.get("network"), given.get("model")
    if isinstance(network, PacketSpec) and model is not None:
        chunks = model.expert_bytes(precision) / network.chunk
        if chunks > MOST_CHUNKS:
            least = model.expert_bytes(precision) / MOST_CHUNKS
            what = f"cuts an expert into {chunks:.0f} chunks, {MOST_CHUNKS} at most; give {least:.0f} B or more"
            document.fault(("network", "chunk"), what)
    if (
        given.get("engine") == "compiled"
        and given.get("physics") != "paper_artifact"
        and isinstance(network, PacketSpec)
    ):
        document.fault(("engine",), "'compiled' does not know the packet network; give engine: auto or another network")
    if given.get("faults") is not None and "wafer" in given:
        for line in faults_on(given["wafer"], given["faults"]):
            document.fault(("faults",), line)
    if isinstance(given.get("layers"), tuple) and "model" in given:
        stray = [layer for layer in given["layers"] if layer not in given["model"].moe_layers]
        if stray:
            moe = given["model"].moe_layers
            document.fault(
                ("layers",), f"{stray} are not MoE layers of the model; it has {len(moe)} in {moe[0]}..{moe[-1]}"
            )


def _precision(document: Document, place: Place, value: Any) -> Any:
    if isinstance(value, dict):
        return build(document, place, value, Precision)
    if isinstance(value, str) and value in BITS and value not in get_args(PrecisionName):
        what = f"'{value}' is how weights are stored; give {{weights: {value}, compute: bf16}}, or what they are"
        document.fault(place, f"{what} computed in")
        return None
    return build(document, place, value, Literal[get_args(PrecisionName)])


def _wafer(document: Document, place: Place, value: Any) -> Any:
    cls: Any = SwitchedSpec if isinstance(value, dict) and "gpus" in value else WaferSpec
    return named(document, place, value, WAFERS, cls)


def _trace(document: Document, place: Place, value: Any) -> Any:
    if not isinstance(value, dict) or len({"synth", "path"} & set(value)) != 1:
        document.fault(
            place, "holds not exactly one of synth and path; give {synth: deepseek_v3} or {path: my.parquet}"
        )
        return None
    if "path" in value:
        return build(document, place, value, TraceFile)
    for key in set(value) - {"synth"}:
        document.fault((*place, key), f"is not a key beside synth; {did_you_mean(key, ['synth'])}")
    return named(document, (*place, "synth"), value["synth"], SYNTHS, SynthSpec)


def _steps(document: Document, place: Place, value: Any) -> Any:
    if value == "all":
        return value
    if not isinstance(value, int) or isinstance(value, bool):
        document.fault(place, f"{value!r} is not right; it should be 'all' or a whole number of decode steps")
        return None
    return build(document, place, value, Count)


def _layers(document: Document, place: Place, value: Any) -> Any:
    if value == "all":
        return value
    if isinstance(value, dict):
        return build(document, place, value, LayerSample)
    value = read_layers(document, place, value)
    if value is None:
        return None
    if not isinstance(value, list):
        what = "it should be 'all', a list of MoE layers, such as [3, 4] or 3-60, or {sample: 8}"
        document.fault(place, f"{value!r} is not right; {what}")
        return None
    layers = build(document, place, value, Annotated[tuple[int, ...], MinLen(1)])
    if layers is not None and sorted(set(layers)) != list(layers):
        document.fault(place, f"{value} is not ascending; list each layer once, lowest first")
    return layers


def _network(document: Document, place: Place, value: Any) -> Any:
    return kinded(document, place, value, NETWORKS, "network")


def _gemm(document: Document, place: Place, value: Any) -> Any:
    if not isinstance(value, str) or value not in GEMMS:
        document.fault(place, f"{value!r} is not a known GEMM model; {did_you_mean(value, GEMMS)}")
        return None
    return value


def _faults(document: Document, place: Place, value: Any) -> Any:
    """Read dead dies and links; ``yield`` is a word of Python, hence the field's other name."""
    if isinstance(value, dict) and "yield" in value:
        value = {("die_yield" if key == "yield" else key): item for key, item in value.items()}
    return None if value is None else build(document, place, value, FaultSpec)


def _dispatch(document: Document, place: Place, value: Any) -> Any:
    """Read what is exchanged: nothing, or the tokens, with their precisions if they are given."""
    if value in (None, "none"):
        return None
    if isinstance(value, str) and value != "uniform":
        what = f"'{value}' is not known; {did_you_mean(value, ['none', 'uniform'])} (or a mapping such as"
        document.fault(place, f"{what} {{dispatch_bytes: 1, combine_bytes: 2, once_per: die}})")
        return None
    return build(document, place, {} if value == "uniform" else value, Dispatch)


def _of(hint: Any) -> Reader:
    return lambda document, place, value: build(document, place, value, hint)


READERS: dict[str, Reader] = {
    "model": read_model,
    "wafer": _wafer,
    "precision": _precision,
    "trace": _trace,
    "batch": _of(Count),
    "steps": _steps,
    "layers": _layers,
    "network": _network,
    "gemm": _gemm,
    "engine": _of(Literal["auto", "simpy", "compiled"]),
    "physics": _of(Literal["wss", "paper_artifact"]),
    "window": _of(Annotated[int, Ge(1), Le(4096)]),
    "policies": read_policies,
    "baseline": _of(str),
    "seed": _of(Annotated[int, Ge(0), Le(2**63 - 1)]),
    "faults": _faults,
    "dispatch": _dispatch,
}
