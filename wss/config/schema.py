"""The JSON Schema of a configuration, for editors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter

from wss.config.plugins import POLICY_GROUP, offered
from wss.config.policies import SEAMS
from wss.engine import NETWORKS, Dispatch
from wss.hardware import GEMMS, WAFERS, SwitchedSpec, WaferSpec
from wss.metrics.sampling import LEAST
from wss.models import MODELS, ModelShape
from wss.policies import POLICIES, Earlier
from wss.traces.synth import SYNTHS, SynthSpec


def json_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12); where a preset's name is taken, its names are listed."""
    definitions: dict[str, Any] = {}

    def whole(cls: Any) -> dict[str, Any]:
        schema = TypeAdapter(cls).json_schema()
        definitions.update(schema.pop("$defs", {}))
        definitions[cls.__name__] = schema
        return {"$ref": f"#/$defs/{cls.__name__}"}

    def preset_of(table: Iterable[str], *classes: Any) -> dict[str, Any]:
        names = {"enum": sorted(table)}
        changed = {"type": "object", "properties": {"preset": names}, "required": ["preset"]}
        return {"anyOf": [names, changed, *map(whole, classes)]}

    def kind_of(table: dict[str, Any], what: str) -> dict[str, Any]:
        plugins = [{"const": name} for name in sorted(offered(f"wss.{what}s"))]
        others = {"anyOf": [{"type": "string", "pattern": ":"}, *plugins]}
        forms: list[dict[str, Any]] = [{"enum": sorted(table)}, others]
        for name, cls in sorted(table.items()):
            schema = TypeAdapter(cls).json_schema()
            properties = {"kind": {"const": name}, **schema.get("properties", {})}
            forms.append(
                {"type": "object", "properties": properties, "required": ["kind"], "additionalProperties": False}
            )
        user = {"type": "object", "properties": {"kind": others}, "required": ["kind"]}
        return {"anyOf": [*forms, user]}

    part_changed = {"type": "object", "not": {"required": ["kind"]}}  # of a preset's
    seams = {seam: {"anyOf": [*kind_of(table, what)["anyOf"], part_changed]} for seam, (table, what) in SEAMS.items()}
    presets = {"enum": sorted({*POLICIES, *offered(POLICY_GROUP)})}
    policy = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "preset": presets, **seams, "history": whole(Earlier)},
        "required": ["name"],
        "additionalProperties": False,
    }
    count = {"type": "integer", "minimum": 1}
    properties = {
        "model": preset_of(MODELS, ModelShape),
        "wafer": preset_of(WAFERS, WaferSpec, SwitchedSpec),
        "precision": {"enum": ["fp16", "fp8", "fp4"], "default": "fp16"},
        "trace": {
            "anyOf": [
                _object({"synth": preset_of(SYNTHS, SynthSpec)}, ["synth"]),
                _object(
                    {
                        "path": {"type": "string"},
                        "order": {"enum": ["file", "string", "mixed"]},
                        "replay": {"enum": ["batch", "continuous"]},
                    },
                    ["path"],
                ),
            ]
        },
        "batch": {**count, "default": 4096},
        "steps": {"anyOf": [{"const": "all"}, count], "default": 4},
        "layers": {
            "anyOf": [
                {"const": "all"},
                _list_of({"type": "integer"}),
                _object({"sample": {"type": "integer", "minimum": LEAST}}, ["sample"]),
            ],
            "default": "all",
        },
        "network": kind_of(NETWORKS, "network"),
        "dispatch": {"anyOf": [{"enum": ["none", "uniform"]}, whole(Dispatch)], "default": "none"},
        "engine": {"enum": ["auto", "simpy", "compiled"], "default": "auto"},
        "gemm": {"enum": sorted(GEMMS), "default": "h800"},
        "physics": {"enum": ["wss", "paper_artifact"], "default": "wss"},
        "window": {**count, "default": 2},
        "policies": {"type": "array", "items": {"anyOf": [presets, policy]}, "minItems": 1},
        "baseline": {"type": "string", "default": "base"},
        "seed": {"type": "integer", "minimum": 0, "default": 0},
        "faults": _object(
            {
                "dies": _list_of(_list_of({"type": "integer"})),
                "links": _list_of(_list_of(_list_of({"type": "integer"}))),
                "yield": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
                "seed": {"type": "integer", "minimum": 0},
            },
            [],
        ),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "wss experiment",
        **_object(properties, ["model", "wafer", "trace", "policies"]),
        "$defs": definitions,
    }


def _list_of(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
