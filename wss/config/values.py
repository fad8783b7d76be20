"""The plain settings of an experiment, one reader each, shared by YAML, command-line settings and Python."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, get_args, get_origin

import numpy as np
from annotated_types import Ge, Le, MinLen

from wss.config.build import build
from wss.config.document import Document, Place
from wss.config.hints import hints_of
from wss.config.physics import OLD_SPELLINGS, PHYSICS
from wss.config.python_values import BASE_UNITS, plain_number, strays
from wss.errors import OldSpellingWarning, did_you_mean
from wss.hardware import GEMMS
from wss.models import Precision, PrecisionName
from wss.models.precision import BITS
from wss.units import Quantity, Seconds

Reader = Callable[[Document, Place, Any], Any]

LARGEST_SEED = 2**63 - 1
Count = Annotated[int, Ge(1), Le(10**7)]


def _precision(document: Document, place: Place, value: Any) -> Any:
    if isinstance(value, dict):
        return build(document, place, value, Precision)
    if isinstance(value, str) and value in BITS and value not in get_args(PrecisionName):
        what = f"'{value}' is how weights are stored; give {{weights: {value}, compute: bf16}}, or what they are"
        document.fault(place, f"{what} computed in")
        return None
    return build(document, place, value, Literal[get_args(PrecisionName)])


def _of(hint: Any) -> Reader:
    return lambda document, place, value: build(document, place, value, hint)


def _steps(document: Document, place: Place, value: Any) -> Any:
    if value == "all":
        return value
    if not isinstance(value, int) or isinstance(value, bool):
        document.fault(place, f"{value!r} is not right; it should be 'all' or a whole number of decode steps")
        return None
    return build(document, place, value, Count)


def _physics(document: Document, place: Place, value: Any) -> Any:
    return physics_named(_one_of(document, place, value, {**PHYSICS, **OLD_SPELLINGS}, "physics"))


def physics_named(name: Any) -> Any:
    """Return the physics of the spelling *name*, with a warning if the spelling is old."""
    new = OLD_SPELLINGS.get(name) if isinstance(name, str) else None
    if new:
        warnings.warn(f"physics: {name} is the old spelling of {new}", OldSpellingWarning, stacklevel=2)
    return new or name


def _planning(document: Document, place: Place, value: Any) -> Any:
    if value in ("free", "charged"):
        return value
    try:
        return Quantity("time", zero=True).parse(value)
    except ValueError as error:
        document.fault(place, f"{str(error).partition(';')[0]}; give free, charged or a time, such as '20 us'")
        return None


def _one_of(document: Document, place: Place, value: Any, table: Mapping[str, Any], what: str) -> Any:
    if not isinstance(value, str) or value not in table:
        document.fault(place, f"{value!r} is not a known {what}; {did_you_mean(value, table)}")
        return None
    return value


def read_layer_list(document: Document, place: Place, value: Any) -> Any:
    """Read a list of MoE layers, ascending."""
    layers = build(document, place, value, Annotated[tuple[int, ...], MinLen(1)])
    if layers is not None and sorted(set(layers)) != list(layers):
        document.fault(place, f"{list(value)} is not ascending; list each layer once, lowest first")
    return layers


PLAIN: dict[str, Reader] = {
    "precision": _precision,
    "batch": _of(Count),
    "steps": _steps,
    "gemm": lambda document, place, value: _one_of(document, place, value, GEMMS, "GEMM model"),
    "layer_overhead": _of(Literal["auto", "measured", "none"]),
    "engine": _of(Literal["auto", "simpy", "compiled"]),
    "physics": _physics,
    "window": _of(Annotated[int, Ge(1), Le(4096)]),
    "baseline": _of(str),
    "planning": _planning,
    "seed": _of(Annotated[int, Ge(0), Le(LARGEST_SEED)]),
    "replications": _of(Annotated[int, Ge(1), Le(1000)]),
}


NUMBERS: dict[str, Any] = {  # the types of those settings in `PLAIN` that factors such as 2x can multiply
    **dict.fromkeys(("batch", "steps", "window", "seed", "replications"), int),
    "planning": Seconds,
}


def check_value(document: Document, place: Place, value: Any) -> None:
    """Add the errors that a configuration with *value*, a dataclass of wss made in Python, would have.

    A check takes milliseconds, and a sweep has the same wafer, model and parts in all its points. So values without
    errors are remembered, as pickled: unlike equality, that distinguishes 1 from True and 1.0.
    """
    try:
        sound = _is_sound(pickle.dumps(value))
    except Exception:  # what cannot be pickled is checked each time
        sound = False
    if not sound:
        _check(document, place, value)


@lru_cache(maxsize=1024)
def _is_sound(pickled: bytes) -> bool:
    """Whether the pickled value has no errors."""
    document = Document("value")
    _check(document, (), pickle.loads(pickled))
    return not document.faults


def _check(document: Document, place: Place, value: Any) -> None:
    if found := list(strays(value, type(value), place)):
        for where, what in found:
            document.fault(where, what)
        return
    try:
        written = json.loads(json.dumps(as_written(value, type(value)), default=_plain))
    except (TypeError, ValueError) as error:
        document.fault(place, f"has a value that no configuration can have ({error}); give plain numbers and text")
        return
    build(document, place, written, type(value))


def _plain(value: Any) -> Any:
    """Return numpy numbers as Python's, and anything else as its text, which no numeric field accepts."""
    return value.item() if isinstance(value, np.generic) else repr(value)


def as_written(value: Any, hint: Any) -> Any:
    """Return *value*, of the type *hint*, in the form of a configuration: SI numbers get their units."""
    value = plain_number(value)
    if is_dataclass(value) and not isinstance(value, type):
        hints = hints_of(type(value))
        return {f.name: as_written(getattr(value, f.name), hints[f.name]) for f in fields(value) if f.init}
    if get_origin(hint) is Annotated:
        quantity = next((extra for extra in get_args(hint) if isinstance(extra, Quantity)), None)
        if quantity is not None and isinstance(value, int | float) and not isinstance(value, bool):
            return f"{float(value)!r} {BASE_UNITS[quantity.dimension]}"
        return as_written(value, get_args(hint)[0])
    inside = get_args(hint)
    if isinstance(value, Mapping):
        return {key: as_written(item, inside[1] if len(inside) == 2 else Any) for key, item in value.items()}
    if isinstance(value, tuple | list):
        own = [inside[0]] * len(value) if len(inside) != len(value) and inside else inside or [Any] * len(value)
        return [as_written(item, each) for item, each in zip(value, own, strict=True)]
    return value
