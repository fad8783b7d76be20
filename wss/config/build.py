"""Building objects from configuration values: by name from a table, written out, or as a preset with changes.

Every reader takes the document, the path and the value there. It returns the object, or adds errors to the document and
returns None.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from wss.config.code import class_named
from wss.config.document import Document, Place
from wss.config.factors import resolved
from wss.config.hints import hints_of
from wss.config.plugins import offered, plugin
from wss.config.python_values import is_object
from wss.errors import ConfigError, did_you_mean
from wss.policies import Seam

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")

# What pydantic adds to the location of an error for each type of a union.
_TAG = re.compile(
    r"(constrained|function|is)-.*|(literal|tuple|list|dict|nullable|union|tagged)\[.*|int|float|str|bool|none"
)
SHOULD_BE = "is not right; it should be "


def build(document: Document, place: Place, value: Any, hint: Any, base: Any = MISSING) -> Any:
    """Check *value* against the type *hint*, a dataclass or an annotated type, and return the object.

    Factors in it, such as ``2x``, multiply *base*, the value that it changes, or the defaults of a dataclass.
    """
    from pydantic import ValidationError  # noqa: PLC0415 -- slow to import, and not needed to list

    before = len(document.faults)
    value = resolved(document, place, value, hint, base)
    if len(document.faults) > before:
        return None
    try:
        written = json.dumps(value)
    except (TypeError, ValueError):  # value made in Python
        document.fault(place, f"{value!r} is not right; give plain numbers and text")
        return None
    try:
        return _adapter(hint).validate_json(written, strict=True)
    except ValidationError as error:
        said: dict[Place, list[str]] = {}
        for fault in error.errors(include_url=False):
            where = (*place, *(step for step in fault["loc"] if not _TAG.fullmatch(str(step))))
            said.setdefault(where, []).append(_explain(fault, _hint_at(hint, fault["loc"][:-1])))
        for where, lines in said.items():
            for line in _either(lines):
                document.fault(where, line)
        return None


def _either(lines: list[str]) -> list[str]:
    """Return one line with the alternatives of a union's types; else the lines unchanged."""
    start, middle, _ = lines[0].partition(SHOULD_BE)
    if not middle or not all(line.startswith(start + middle) for line in lines):
        return lines
    return [start + middle + " or ".join(dict.fromkeys(line.partition(SHOULD_BE)[2] for line in lines))]


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    """Return the validator of the type *hint*, cached: making one takes far longer than using it."""
    from pydantic import TypeAdapter  # noqa: PLC0415

    return TypeAdapter(hint)


def _explain(fault: Any, parent: Any) -> str:
    """Return a pydantic error in wss's form: what is wrong; what would be right."""
    kind = fault["type"]
    if kind == "value_error":
        return str(fault["ctx"]["error"])
    if kind.startswith("missing"):
        return "is missing; give it"
    if kind == "unexpected_keyword_argument":
        return f"is not a key here; {did_you_mean(fault['loc'][-1], _keys(parent))}"
    if kind.startswith("dataclass"):
        return f"{fault['input']!r} is not right; give a mapping with the keys {', '.join(_keys(parent))}"
    rule = re.sub(r"^(Input should be|Tuple should|List should|String should) ?", "", fault["msg"])
    rule = rule.replace(" after validation", "").replace("array", "list")
    rule = rule.replace("a valid list", "a valid list, written [a, b]")
    if kind.startswith("int_") and isinstance(fault["input"], float):
        rule = "a whole number, written without point and exponent"
    if fault["msg"].startswith(("Tuple", "List", "String")):
        return f"{fault['input']!r} is not right; it should {rule}"
    shown = repr(fault["input"])
    return f"{shown if len(shown) < 60 else shown[:57] + '...'} is not right; it should be {rule}"


def _keys(hint: Any) -> list[str]:
    return [field.name for field in fields(hint)] if is_dataclass(hint) else []


def _hint_at(hint: Any, loc: tuple[Any, ...]) -> Any:
    """Return the type at *loc* inside *hint*, as far as dataclasses go."""
    for step in loc:
        if not is_dataclass(hint):
            return None
        hint = hints_of(hint).get(str(step))
    return hint


def named(document: Document, place: Place, value: Any, table: Mapping[str, T], cls: type[T]) -> T | None:
    """Read a preset's name, an object, written out or made in Python, or ``{preset: name or object, ...changes}``."""
    if is_object(value) and isinstance(value, (cls, *{type(item) for item in table.values() if item is not None})):
        return cast(T, value)
    if isinstance(value, str):
        if value in table:
            return table[value]
        document.fault(place, f"'{value}' is not known; {did_you_mean(value, table)}")
        return None
    if isinstance(value, dict) and "preset" in value:
        preset = named(document, (*place, "preset"), value["preset"], table, cls)
        changes = {key: change for key, change in value.items() if key != "preset"}
        if preset is None or not changes:
            return preset
        changed = overlay(document, place, changes, preset)
        if hasattr(changed, "name") and "name" not in changes:
            changed = replace(changed, name=f"{changed.name} (modified)")  # type: ignore[type-var]
        return changed
    if not isinstance(value, dict):
        document.fault(place, f"{value!r} is not right; give a name ({did_you_mean(value, table)}) or a mapping")
        return None
    built: T | None = build(document, place, value, cls)
    return built


def overlay(document: Document, place: Place, changes: Mapping[str, Any], base: T) -> T:
    """Return *base*, a dataclass, with *changes* applied, field by field."""
    hints = hints_of(type(base))
    keys = [key for key in hints if not key.startswith("_")]
    new: dict[str, Any] = {}
    before = len(document.faults)
    for key, change in changes.items():
        here = (*place, key)
        if key not in keys:
            document.fault(here, f"is not a key here; {did_you_mean(key, keys)}")
        elif isinstance(change, dict) and is_dataclass(getattr(base, key)):
            new[key] = overlay(document, here, change, getattr(base, key))
        elif isinstance(change, dict) and isinstance(getattr(base, key), dict):
            built = build(document, here, change, hints[key], getattr(base, key))
            new[key] = getattr(base, key) | (built or {})
        else:
            new[key] = build(document, here, change, hints[key], getattr(base, key))
    if len(document.faults) == before:
        try:
            return replace(base, **new)  # type: ignore[type-var]
        except ValueError as error:
            alone = [key for key, value in new.items() if _refuses(base, key, value)]
            document.fault((*place, alone[0]) if len(alone) == 1 else place, str(error))
    return base


def _refuses(base: Any, key: str, value: Any) -> bool:
    """Whether *base*, a dataclass, refuses *value* as its *key* with all else unchanged."""
    try:
        replace(base, **{key: value})
    except ValueError:
        return True
    return False


def kinded(document: Document, place: Place, value: Any, seam: Seam) -> Any:
    """Read a class by name, or ``{kind: name, ...parameters}``: of *seam*, of a plug-in, or ``module:Class``.

    An object made in Python is returned as it is.
    """
    if is_object(value):
        return value
    if isinstance(value, dict):
        kind = value.get("kind")
        parameters = {key: item for key, item in value.items() if key != "kind"}
        if kind is None:
            document.fault(place, f"has no kind; {did_you_mean(kind, seam.classes)}")
            return None
        where = (*place, "kind")
    else:
        kind, parameters, where = value, {}, place
    if not isinstance(kind, str):
        document.fault(where, f"{kind!r} is not right; give a name: {did_you_mean(kind, seam.classes)}")
        return None
    found = class_named(document, where, kind) if ":" in kind else _named_class(document, where, kind, seam)
    cls = _dataclass(document, where, kind, found)
    if cls is None:
        return None
    if kind in seam.classes:
        return build(document, place, parameters, cls)
    keys = _keys(cls)
    unknown = [key for key in parameters if key not in keys]
    for key in unknown:
        document.fault((*place, key), f"is not a parameter of '{kind}'; {did_you_mean(key, keys)}")
    fault = seam.fault(cls)
    if fault is not None:
        document.fault(where, f"'{kind}' {fault}")
    if unknown or fault is not None:
        return None
    try:
        return build(document, place, parameters, cls)
    except Exception as error:  # a user's class may raise anything
        document.fault(where, f"'{kind}' cannot be made ({type(error).__name__}: {error}); fix the class")
        return None


def _named_class(document: Document, place: Place, kind: str, seam: Seam) -> Any:
    """Return the class for the name *kind*, of *seam* or a plug-in."""
    try:
        found = plugin(seam.group, kind, seam.classes)
    except ConfigError as error:
        document.fault(place, error.faults[0])
        return None
    if found is None and kind not in seam.classes:
        hint = f"{did_you_mean(kind, [*seam.classes, *offered(seam.group)])} (or package.module:Class)"
        document.fault(place, f"'{kind}' is not a known {seam.name}; {hint}")
    return seam.classes.get(kind, found)


def _dataclass(document: Document, place: Place, name: str, found: Any) -> Any:
    """Return *found*, the object behind *name*, if it is a dataclass."""
    if found is None or (isinstance(found, type) and is_dataclass(found)):
        return found
    document.fault(place, f"'{name}' is not a dataclass; make it one, frozen, its parameters as fields")
    return None
