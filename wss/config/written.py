"""An experiment as YAML with all defaults written out: a configuration of the same experiment."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import yaml

from wss.config.experiment import Experiment
from wss.config.python_values import BASE_UNITS
from wss.config.values import as_written
from wss.policies import POLICIES, Policy
from wss.traces.source import TraceFile
from wss.units import parse, show


class _Dumper(yaml.SafeDumper):
    """Writes text so that `wss.config.document` reads it back as text, and lists of numbers on one line."""


def as_yaml(experiment: Experiment) -> str:
    """Return *experiment* as the text of a configuration."""
    plain = experiment.plain()
    by_name = {policy["name"]: policy for policy in plain["policies"]}
    plain["policies"] = [by_name[policy.name] for policy in experiment.policies]
    written = _with_units(plain, {f.name: as_written(getattr(experiment, f.name), Any) for f in fields(experiment)})
    written["policies"] = [_policy(*each) for each in zip(experiment.policies, written["policies"], strict=True)]
    trace = {key: value for key, value in written["trace"].items() if key != "kind"}
    written["trace"] = trace if isinstance(experiment.trace, TraceFile) else {"synth": trace}
    if written["faults"] is not None:
        written["faults"] = {{"die_yield": "yield"}.get(key, key): item for key, item in written["faults"].items()}
    if isinstance(experiment.planning, float):
        written["planning"] = _quantity(experiment.planning, "time")
    return yaml.dump(written, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


def _policy(policy: Policy, parts: dict[str, Any]) -> Any:
    """Return *policy*, with *parts*, in the form of a configuration: by name if it is a preset, else written out.

    Only presets have a description.
    """
    if POLICIES.get(policy.name) == policy:
        return policy.name
    return {key: value for key, value in parts.items() if key != "about"}


def _with_units(plain: Any, written: Any) -> Any:
    """Return *plain* data with the units of *written*, the same data in the form of a configuration."""
    if isinstance(plain, dict):
        return {key: _with_units(value, written[key]) if key in written else value for key, value in plain.items()}
    if isinstance(plain, list):
        return [_with_units(value, other) for value, other in zip(plain, written, strict=True)]
    if isinstance(written, str) and isinstance(plain, int | float):
        return _quantity(float(plain), next(name for name, unit in BASE_UNITS.items() if written.endswith(f" {unit}")))
    return written


def _quantity(value: float, dimension: str) -> str:
    """Return an SI number with a unit, as the shortest text that reads back as the same number."""
    short = show(value, dimension, 15)
    return short if parse(short, dimension) == value else f"{value!r} {BASE_UNITS[dimension]}"


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Write *text*, quoted if wss would read it as a number, which YAML's own rules do not always detect."""
    try:
        float(text)
    except ValueError:
        style = None
    else:
        style = "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _list(dumper: _Dumper, items: list[Any]) -> yaml.SequenceNode:
    """Write *items* on one line if they are plain values."""
    plain = not any(isinstance(item, list | dict) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=plain)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)
