"""Reading a model: a preset, a mapping with wss's or Hugging Face's keys, or the path of a file with either."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wss.config import document as nodes
from wss.config.build import named
from wss.config.document import Document, Place
from wss.errors import ConfigError, did_you_mean
from wss.models import MODELS, ModelShape
from wss.models.huggingface import facts_of, is_config
from wss.models.layers import layer_numbers

_MOST_BYTES = 10_000_000
_MOST_FILES = 3  # a file may refer to another file, up to this many


def model_of(name: str, option: str = "") -> ModelShape:
    """Return the model *name*: a preset, or the path of a file; *option* is the prefix of error messages.

    Raises ConfigError if there is none.
    """
    if name in MODELS:
        return MODELS[name]
    if not is_path(name):
        advice = f"{did_you_mean(name, MODELS)} (or give the path of a config.json)"
        raise ConfigError(f"{option}{name}: is not a known model; {advice}")
    return model_file(name)


def is_path(name: str) -> bool:
    """Whether *name* is a path rather than a preset."""
    return "/" in name or name.endswith((".json", ".yaml", ".yml")) or Path(name).is_dir()


def model_file(name: str, files: int = 1) -> ModelShape:
    """Read a model from a file: a config.json (or its folder), a model with wss's keys, or an experiment's.

    Raises ConfigError with one line per error.
    """
    path = Path(name)
    path = path / "config.json" if path.is_dir() else path
    document = _read_json(path) if path.suffix == ".json" or not path.exists() else nodes.read(path)
    value = document.value
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: is not a mapping; give a Hugging Face config.json, or a model written out")
    if isinstance(value.get("model"), str | dict):
        shape = read_model(document, ("model",), value["model"], files + 1)
    else:
        shape = read_model(document, (), {**_named_after(path, value), **value}, files + 1)
    document.raise_faults()
    assert shape is not None
    return shape


def read_model(document: Document, place: Place, value: Any, files: int = 1) -> ModelShape | None:
    """Read a model, as `wss.config.build` reads values; *files* counts the files in the chain of references."""
    table: Mapping[str, ModelShape] = MODELS
    name = value.get("preset") if isinstance(value, dict) else value
    if isinstance(name, str) and name not in MODELS and is_path(name):
        try:
            if files > _MOST_FILES:
                raise ConfigError(f"{name}: is named by a file that another names; give the file with the model")
            table = {**MODELS, name: model_file(name, files)}
        except ConfigError as error:
            for fault in error.faults:
                document.fault(place, fault)
            return None
    elif isinstance(value, dict) and "preset" not in value and is_config(value):
        try:
            own = value.get("name") or value.get("model_type") or "given in the configuration"
            value = facts_of(value, str(own))
        except ConfigError as error:
            key, colon, what = error.faults[0].partition(": ")
            at_key = bool(colon) and " " not in key
            document.fault((*place, key) if at_key else place, what if at_key else error.faults[0])
            return None
    if isinstance(value, dict) and "moe_layers" in value:
        moe_layers = read_layers(document, (*place, "moe_layers"), value["moe_layers"])
        if moe_layers is None:
            return None
        value = value | {"moe_layers": moe_layers}
    return named(document, place, value, table, ModelShape)


def read_layers(document: Document, place: Place, value: Any) -> Any:
    """Return the list of layers *value* with its ranges expanded; or add an error and return None."""
    if isinstance(value, str) or (isinstance(value, list) and any(isinstance(item, str) for item in value)):
        try:
            return list(layer_numbers(value))
        except ValueError as error:
            document.fault(place, str(error))
            return None
    if value is None:
        document.fault(place, "is empty; give the MoE layers, such as 3-60")
    return value


def _named_after(path: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Return the name of a model whose file has none: its repository, its file, its folder or its kind."""
    if not is_config(config):
        return {}
    own = config.get("_name_or_path")
    if isinstance(own, str) and own.count("/") == 1 and not own.startswith((".", "/")):
        return {"name": own}
    stem = path.stem if path.stem != "config" else path.parent.name
    return {"name": stem or str(config.get("model_type") or "config.json")}


def _read_json(path: Path) -> Document:
    """Read a JSON file."""
    right = "give the config.json of a model"
    text = nodes.read_utf8(path, _MOST_BYTES, f"{right}, or a preset of `wss list`", "a readable file")
    try:
        return Document(str(path), json.loads(text, object_pairs_hook=_once))
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}:{error.colno}"
        raise ConfigError(f"{where}: not JSON: {error.msg}; fix the syntax at or before this position") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply; {right}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return *pairs* as a mapping, if no key is duplicate."""
    result = dict(pairs)
    if len(result) != len(pairs):
        twice = next(key for i, (key, _) in enumerate(pairs) if key in dict(pairs[:i]))
        raise ValueError(f"{twice}: is given twice; keep one")
    return result
