"""The policies of a configuration: presets by name, presets with changes, or policies composed of parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from wss.config.build import build, kinded, named, overlay
from wss.config.document import Document, Place
from wss.config.plugins import POLICY_GROUP, offered, plugin_policy
from wss.config.python_values import is_object
from wss.config.values import check_value
from wss.errors import ConfigError, did_you_mean
from wss.policies import POLICIES, SEAMS, CopyRules, LoadHistorySpec, Policy

NAME_FAULT = "is missing or not plain text; give the policy a name"

PARTS = (*SEAMS, "copies", "history")


def read_policies(document: Document, place: Place, value: Any) -> tuple[Policy | None, ...] | None:
    """Read the list of policies, each with a unique name."""
    if not isinstance(value, list) or not value:
        document.fault(place, f"{value!r} is not right; give a list of policies, such as [base, allo_pred]")
        return None
    policies = [_policy(document, (*place, i), item) for i, item in enumerate(value)]
    _check_names(document, place, policies)
    return tuple(policies)


def check_policies(document: Document, place: Place, value: Any) -> None:
    """Add the errors in *value*, an experiment's policies made in Python."""
    if not isinstance(value, tuple) or not value or not all(isinstance(policy, Policy) for policy in value):
        document.fault(place, f"{value!r} is not right; give policies, such as (POLICIES['base'], POLICIES['ep'])")
        return
    for i, policy in enumerate(value):
        if not _is_name(policy.name):
            document.fault((*place, i, "name"), NAME_FAULT)
        for name, seam in SEAMS.items():
            part, here = getattr(policy, name), (*place, i, name)
            if isinstance(part, type):
                document.fault(here, f"{part.__name__} is a class; give an object, such as {part.__name__}()")
            elif type(part) in seam.classes.values():
                check_value(document, here, part)
            elif fault := seam.fault(type(part)):
                document.fault(here, f"{part!r} {fault}")
        for name, cls, right in (("copies", CopyRules, ""), ("history", LoadHistorySpec, "(path=...)")):
            part, here = getattr(policy, name), (*place, i, name)
            if isinstance(part, cls):
                check_value(document, here, part)
            elif name == "copies" or part is not None:
                document.fault(here, f"{part!r} is not right; give {cls.__name__}{right}")
    _check_names(document, place, value)


def _check_names(document: Document, place: Place, policies: Sequence[Policy | None]) -> None:
    names = [policy and policy.name for policy in policies]
    for i, name in enumerate(names):
        if name is not None and name in names[:i]:
            document.fault((*place, i), f"'{name}' is there twice; give each policy a name of its own")


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and bool(name) and name.isprintable()


def _policy(document: Document, place: Place, value: Any) -> Policy | None:
    """Read a policy: a preset's name, or ``{name, preset, and the parts}``."""
    if not isinstance(value, dict):
        return _preset(document, place, value)
    parts: dict[str, Any] = {}
    if "preset" in value:
        preset = _preset(document, (*place, "preset"), value["preset"])
        if preset is not None:
            parts = {part: getattr(preset, part) for part in PARTS}
    for key, item in value.items():
        here = (*place, key)
        if key == "history":
            parts[key] = item if item is None or is_object(item) else build(document, here, item, LoadHistorySpec)
        elif key == "copies":
            parts[key] = _copies(document, here, item, parts.get(key, CopyRules()))
        elif key in parts and isinstance(item, dict) and "kind" not in item:
            parts[key] = overlay(document, here, item, parts[key])
        elif key in SEAMS:
            parts[key] = kinded(document, here, item, SEAMS[key])
        elif key not in ("name", "preset"):
            document.fault(here, f"is not a key here; {did_you_mean(key, ['name', 'preset', *PARTS])}")
    name = value.get("name")
    if not _is_name(name):
        document.fault((*place, "name"), NAME_FAULT)
    if "allocation" not in parts and "preset" not in value:
        document.fault((*place, "allocation"), "is missing; give it, or a preset to start from")
    if any(at[: len(place)] == place for at in document.faulty):
        return None
    return Policy(name=str(name), **parts)


def _copies(document: Document, place: Place, value: Any, base: CopyRules) -> CopyRules:
    """Read the changes to *base*, the rules of copies."""
    if isinstance(value, CopyRules):
        return value
    if not isinstance(value, dict):
        keys = ", ".join(field.name for field in fields(CopyRules))
        document.fault(place, f"{value!r} is not right; give a mapping with the keys {keys}")
        return base
    return overlay(document, place, value, base)


def _preset(document: Document, place: Place, value: Any) -> Policy | None:
    """Read the name of a policy, built in or of a plug-in; or a policy made in Python."""
    if isinstance(value, Policy):
        return value
    if not isinstance(value, str):
        document.fault(place, f"{value!r:.100} is not right; give the name of a policy, such as allo_pred")
        return None
    try:
        policy = plugin_policy(value, POLICIES)
    except ConfigError as error:
        document.fault(place, error.faults[0])
        return None
    return policy or named(document, place, value, {**dict.fromkeys(offered(POLICY_GROUP)), **POLICIES}, Policy)
