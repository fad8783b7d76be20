"""From a YAML file, or a mapping, and changes of settings to one frozen Experiment, or to all errors at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from wss.config import document as nodes
from wss.config.build import build, kinded, named
from wss.config.code import folders_beside
from wss.config.document import Document, Place
from wss.config.experiment import Experiment, LayerSample, check_objects, check_together
from wss.config.factors import resolved
from wss.config.models import read_layers, read_model
from wss.config.overrides import Setting, apply_setting, as_setting
from wss.config.plugins import NETWORK
from wss.config.policies import read_policies
from wss.config.python_values import as_configured, holds_objects, is_object, places_in
from wss.config.shipped import find
from wss.config.values import NUMBERS, PLAIN, Reader, as_written, read_layer_list
from wss.engine.specs import AllToAllSpec
from wss.errors import ConfigError, did_you_mean
from wss.hardware import WAFERS, FaultSpec, SwitchedSpec, WaferSpec
from wss.models.huggingface import is_config
from wss.traces.source import TraceFile
from wss.traces.synthetic.spec import SYNTHS, SynthSpec
from wss.units import Quantity

Source = str | PathLike[str] | Mapping[str, Any] | Experiment


def load(source: Source, settings: Sequence[str | Setting] = (), *, allow_code: bool = False) -> Experiment:
    """Read the experiment of *source*, changed by *settings* such as ``batch=1024``.

    Parameters
    ----------
    source
        A YAML file, or the name of a configuration that comes with wss. In Python also a mapping with the keys of a
        configuration, or an experiment.
    settings
        As for ``--set``.
    allow_code
        Whether classes that the file names (``package.module:Class``) are imported, which runs their code; the file's
        folder is then searched too. Classes named in *settings* always are.

    Raises
    ------
    ConfigError
        With one line per error: ``file:line:col: path: what; what would be right``.
    """
    changes = [*map(as_setting, settings)]
    if isinstance(source, Experiment):
        return _changed(source, changes)
    if isinstance(source, Mapping):
        document = mapping_document("experiment", source)
    else:
        document = _file_document(source, allow_code)
    for change in changes:
        apply_setting(document, change)
    return experiment_of(document)


def _changed(experiment: Experiment, settings: Sequence[Setting]) -> Experiment:
    """Return *experiment* changed by *settings*."""
    document = Document("experiment", {f.name: getattr(experiment, f.name) for f in fields(Experiment)})
    document.value |= {key: as_written(document.value[key], hint) for key, hint in NUMBERS.items()}
    document.value["policies"] = [*experiment.policies]
    for setting in settings:
        apply_setting(document, setting)
    changed = dict.fromkeys(setting.steps[0] for setting in settings)
    values = {key: _read_key(document, key, document.value[key]) for key in changed}
    document.raise_faults()
    return replace(experiment, **values)


def mapping_document(name: str, content: Mapping[str, Any]) -> Document:
    """Return a document of a mapping made in Python, which may name the user's classes; *name* is for messages."""
    value = as_configured(content)
    places = set(places_in(value))
    return Document(name, value, where=dict.fromkeys(places, name), typed=places)


def _file_document(source: str | PathLike[str], allow_code: bool) -> Document:
    """Return the document of a file that is an experiment."""
    if not isinstance(source, str | PathLike):
        right = "give the path of a YAML file, a name of `wss list`, a mapping or an Experiment"
        raise ConfigError(f"{source!r:.60} is not right; {right}")
    path = fspath(source)
    file = find(Path(path))
    document = read_mapping(file, "model, wafer, trace and policies", folders_beside(allow_code, file))
    if "config" in document.value and {"grid", "vary"} & set(document.value):
        raise ConfigError(f"{path}: is a sweep; run it with `wss sweep`")
    if "model" not in document.value and is_config(document.value):
        raise ConfigError(f"{path}: is the config.json of a model; name it in a configuration, as model: {path}")
    return document


def read_mapping(path: Path, needs: str, code_folders: tuple[str, ...] | None = None) -> Document:
    """Read the YAML file *path*, which must be a mapping with the keys *needs*."""
    document = nodes.read(path)
    document.code_folders = code_folders
    if document.value is None:
        raise ConfigError(f"{path}: is empty; give at least {needs}")
    if not isinstance(document.value, dict):
        raise ConfigError(f"{path}:1:1: is not a mapping; write keys and values, such as 'model: deepseek_v3'")
    return document


def quantity(name: str, text: str, dimension: str) -> float:
    """Return *text*, the value of the option *name* such as ``1 MiB``, in SI; it must be above zero.

    Raises ConfigError if it is not a quantity of *dimension*.
    """
    try:
        return Quantity(dimension).parse(text)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from None


def load_synth(preset: str, settings: Sequence[str] = ()) -> SynthSpec:
    """Return the parameters of a synthetic trace: a preset, changed by *settings* such as ``skew=1.2``.

    Raises ConfigError with one line per error.
    """
    document = Document("synth", {"synth": preset})
    for setting in settings:
        apply_setting(document, f"synth.{setting}")
    spec: SynthSpec | None = named(document, ("synth",), document.value["synth"], SYNTHS, SynthSpec)
    document.raise_faults()
    assert spec is not None
    return spec


def experiment_of(document: Document) -> Experiment:
    """Read every key, then check them against one another; raise ConfigError with all errors."""
    values: dict[str, Any] = {}
    for key, value in document.value.items():
        if not any(place[:1] == (key,) for place in document.faulty):
            values[key] = _read_key(document, key, value)
    for key in ("model", "wafer", "trace", "policies"):
        if key not in document.value:
            document.fault((key,), "is missing; give it")
    broken = {place[0] for place in document.faulty if place}
    given = {key: value for key, value in values.items() if key not in broken}
    check_together(document, given)
    document.raise_faults()
    return Experiment(**values)


def _read_key(document: Document, key: str, value: Any) -> Any:
    """Return the setting *key*; or add errors."""
    if key not in READERS:
        document.fault((key,), f"is not a key here; {did_you_mean(key, READERS)}")
        return None
    if key in NUMBERS:
        value = resolved(document, (key,), value, NUMBERS[key], _DEFAULTS[key])
        if (key,) in document.faulty:
            return None
    found = value if is_object(value) else READERS[key](document, (key,), value)
    if holds_objects(value) and not any(place[:1] == (key,) for place in document.faulty):
        check_objects(document, key, found)
    return found


def _wafer(document: Document, place: Place, value: Any) -> Any:
    cls: Any = SwitchedSpec if isinstance(value, dict) and "gpus" in value else WaferSpec
    return named(document, place, value, WAFERS, cls)


def _trace(document: Document, place: Place, value: Any) -> Any:
    if not isinstance(value, dict) or len({"synth", "path"} & set(value)) != 1:
        document.fault(place, "needs exactly one of synth and path; give {synth: deepseek_v3} or {path: my.parquet}")
        return None
    if "path" in value:
        return build(document, place, value, TraceFile)
    for key in set(value) - {"synth"}:
        document.fault((*place, key), f"is not a key beside synth; {did_you_mean(key, ['synth'])}")
    return named(document, (*place, "synth"), value["synth"], SYNTHS, SynthSpec)


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
    return read_layer_list(document, place, value)


def _faults(document: Document, place: Place, value: Any) -> Any:
    """Read dead dies and links. ``yield`` is a keyword of Python, so the field has another name."""
    if isinstance(value, dict) and "yield" in value:
        document.called[*place, "die_yield"] = ".".join(map(str, (*place, "yield")))
        document.where |= {(*place, "die_yield"): at for at in [document.where.get((*place, "yield"))] if at}
        value = {("die_yield" if key == "yield" else key): item for key, item in value.items()}
    return None if value is None else build(document, place, value, FaultSpec)


def _dispatch(document: Document, place: Place, value: Any) -> Any:
    """Read the dispatch: none, or tokens, optionally with their precisions."""
    if value in (None, "none"):
        return None
    if isinstance(value, str) and value != "uniform":
        what = f"'{value}' is not known; {did_you_mean(value, ['none', 'uniform'])} (or a mapping such as"
        document.fault(place, f"{what} {{dispatch_bytes: 1, combine_bytes: 2, once_per: die}})")
        return None
    return build(document, place, {} if value == "uniform" else value, AllToAllSpec)


_DEFAULTS = {field.name: field.default for field in fields(Experiment)}

READERS: dict[str, Reader] = {
    **PLAIN,
    "model": read_model,
    "wafer": _wafer,
    "trace": _trace,
    "layers": _layers,
    "network": lambda document, place, value: kinded(document, place, value, NETWORK),
    "policies": read_policies,
    "faults": _faults,
    "dispatch": _dispatch,
}
