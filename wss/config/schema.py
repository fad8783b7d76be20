"""The JSON Schema of a configuration, for editors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

from wss.config.physics import OLD_SPELLINGS, PHYSICS
from wss.config.plugins import NETWORK, POLICY_GROUP, offered
from wss.engine.specs import AllToAllSpec
from wss.hardware import GEMMS, WAFERS, SwitchedSpec, WaferSpec
from wss.metrics.sampling import LEAST
from wss.models import MODELS, ModelShape, Precision, PrecisionName
from wss.models.huggingface import MARKS
from wss.policies import POLICIES, SEAMS, CopyRules, LoadHistorySpec, Seam
from wss.traces.synthetic.spec import SYNTHS, SynthSpec


def json_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12); where a preset's name is allowed, the names are listed."""
    whole = _Whole()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "wss experiment",
        **_object(_properties(whole), ["model", "wafer", "trace", "policies"]),
        "$defs": whole.definitions,
    }


class _Whole:
    """Schemas of classes, each written once, among the definitions."""

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}

    def __call__(self, cls: Any) -> dict[str, Any]:
        """Return a reference to the schema of *cls*."""
        schema = _schema_of(cls)
        self.definitions.update(schema.pop("$defs", {}))
        self.definitions[cls.__name__] = schema
        return {"$ref": f"#/$defs/{cls.__name__}"}

    def or_preset(self, table: Iterable[str], *classes: Any) -> dict[str, Any]:
        """Return the schema of a preset of *table*, unchanged or changed, or of one of *classes* written out."""
        names = {"enum": sorted(table)}
        changed = {"type": "object", "properties": {"preset": names}, "required": ["preset"]}
        return {"anyOf": [names, changed, *map(self, classes)]}


def _properties(whole: _Whole) -> dict[str, Any]:
    """Return the schema of each key."""
    count = {"type": "integer", "minimum": 1}
    sample = _object({"sample": {"type": "integer", "minimum": LEAST}}, ["sample"])
    return {
        "model": _model(whole),
        "wafer": whole.or_preset(WAFERS, WaferSpec, SwitchedSpec),
        "precision": {"anyOf": [{"enum": list(get_args(PrecisionName))}, whole(Precision)], "default": "fp16"},
        "trace": {"anyOf": [_object({"synth": whole.or_preset(SYNTHS, SynthSpec)}, ["synth"]), _trace_file()]},
        "batch": {**count, "default": 4096},
        "steps": {"anyOf": [{"const": "all"}, count], "default": 4},
        "layers": {"anyOf": [{"const": "all"}, *_layers(), sample], "default": "all"},
        "network": _kind_of(NETWORK),
        "dispatch": {"anyOf": [{"enum": ["none", "uniform"]}, whole(AllToAllSpec)], "default": "none"},
        "engine": {"enum": ["auto", "simpy", "compiled"], "default": "auto"},
        "gemm": {"enum": sorted(GEMMS), "default": "h800"},
        "layer_overhead": {"enum": ["auto", "measured", "none"], "default": "auto"},
        "physics": {"enum": [*PHYSICS, *OLD_SPELLINGS], "default": "wss"},
        "window": {**count, "default": 2},
        "policies": {"type": "array", "items": _policy(whole), "minItems": 1},
        "baseline": {"type": "string", "default": "base"},
        "planning": {"type": "string", "default": "free"},
        "seed": {"type": "integer", "minimum": 0, "default": 0},
        "replications": {**count, "maximum": 1000, "default": 1},
        "faults": _faults(),
    }


def _layers() -> list[dict[str, Any]]:
    """Return the schemas of layers: a text such as ``3-60``, or a list of numbers and such texts."""
    text = {"type": "string", "pattern": r"^\s*[0-9]+\s*(-\s*[0-9]+\s*)?(,\s*[0-9]+\s*(-\s*[0-9]+\s*)?)*$"}
    return [text, _list_of({"anyOf": [{"type": "integer"}, text]})]


def _model(whole: _Whole) -> dict[str, Any]:
    """Return the schema of a model: a preset, a model written out, a config.json, or the path of a file with one."""
    forms = whole.or_preset(MODELS, ModelShape)["anyOf"]
    whole.definitions["ModelShape"]["properties"]["moe_layers"] = {"anyOf": _layers()}
    path = {"type": "string", "pattern": r"/|\.(json|ya?ml)$"}
    changed = {"type": "object", "properties": {"preset": path}, "required": ["preset"]}
    config = {"type": "object", "anyOf": [{"required": [key]} for key in sorted(MARKS)]}
    return {"anyOf": [*forms, path, changed, config]}


def _kind_of(seam: Seam) -> dict[str, Any]:
    """Return the schema of *seam*: a class's name, with or without parameters, a plug-in's, or a user's class."""
    plugins = [{"const": name} for name in sorted(offered(seam.group))]
    others = {"anyOf": [{"type": "string", "pattern": ":"}, *plugins]}
    forms: list[dict[str, Any]] = [{"enum": sorted(seam.classes)}, others]
    for name, cls in sorted(seam.classes.items()):
        properties = {"kind": {"const": name}, **_schema_of(cls).get("properties", {})}
        forms.append(_object(properties, ["kind"]))
    user = {"type": "object", "properties": {"kind": others}, "required": ["kind"]}
    return {"anyOf": [*forms, user]}


def _policy(whole: _Whole) -> dict[str, Any]:
    """Return the schema of a policy: a preset, or composed of parts."""
    part_changed = {"type": "object", "not": {"required": ["kind"]}}  # changes to a preset's part
    seams = {name: {"anyOf": [*_kind_of(seam)["anyOf"], part_changed]} for name, seam in SEAMS.items()}
    presets = {"enum": sorted({*POLICIES, *offered(POLICY_GROUP)})}
    parts = {"name": {"type": "string"}, "preset": presets, **seams}
    parts |= {"copies": whole(CopyRules), "history": whole(LoadHistorySpec)}
    return {"anyOf": [presets, _object(parts, ["name"])]}


def _trace_file() -> dict[str, Any]:
    properties = {
        "path": {"type": "string"},
        "order": {"enum": ["file", "string", "mixed"]},
        "replay": {"enum": ["batch", "continuous"]},
    }
    return _object(properties, ["path"])


def _faults() -> dict[str, Any]:
    place = _list_of({"type": "integer"})
    properties = {
        "dies": _list_of(place),
        "links": _list_of(_list_of(place)),
        "yield": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "seed": {"type": "integer", "minimum": 0},
    }
    return _object(properties, [])


def _list_of(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _schema_of(cls: Any) -> dict[str, Any]:
    """Return the schema of the dataclass *cls*."""
    from pydantic import TypeAdapter  # noqa: PLC0415 -- slow to import, and not needed to list

    return TypeAdapter(cls).json_schema()
