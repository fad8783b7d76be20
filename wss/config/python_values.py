"""Checks of objects made in Python, whose dataclasses check no types.

A configuration is converted when it is read: quantities from text, lists to tuples. An object made in Python is used as
it is, so a quantity as text, or a list instead of a tuple, would fail only during a run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import numpy as np

from wss.config.document import Place
from wss.config.hints import hints_of
from wss.units import Quantity

BASE_UNITS = {"time": "s", "size": "B", "bandwidth": "B/s", "compute rate": "FLOPS"}


def plain_number(value: Any) -> Any:
    """Return numpy numbers as Python's, also within a tuple, and anything else unchanged."""
    if isinstance(value, tuple):
        return tuple(map(plain_number, value))
    return value.item() if isinstance(value, np.generic) else value


def is_object(value: Any) -> bool:
    """Whether *value* is an object of a dataclass, such as a `Policy`; in a configuration it would be written out."""
    return is_dataclass(value) and not isinstance(value, type)


def brief(value: Any) -> str:
    """Return *value* as text of one short line, for messages."""
    text = " ".join(repr(value).split())
    if len(text) <= 60:
        return text
    return f"{type(value).__name__}(...)" if is_object(value) else f"{text[:57]}..."


def holds_objects(value: Any) -> bool:
    """Whether *value* is such an object, or a mapping or list that contains one."""
    if isinstance(value, dict | list):
        return any(map(holds_objects, value.values() if isinstance(value, dict) else value))
    return is_object(value)


def as_configured(value: Any) -> Any:
    """Return a copy of *value*, given in Python, in the form of a configuration; objects and other values stay.

    Mappings become dict, tuples, ranges and arrays become lists, paths become text, and numpy numbers Python's.
    """
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): as_configured(item) for key, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [as_configured(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def places_in(value: Any, place: Place = ()) -> Iterator[Place]:
    """Yield the path of *value* and of everything in it."""
    yield place
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield from places_in(item, (*place, key))


def strays(value: Any, hint: Any, place: Place) -> Iterator[tuple[Place, str]]:
    """Yield path and message where *value*, of the type *hint*, has a form that only a configuration may have."""
    value, origin, inside = plain_number(value), get_origin(hint), get_args(hint)
    if is_dataclass(value) and not isinstance(value, type):
        hints = hints_of(type(value))
        for field in fields(value):
            if field.init:
                yield from strays(getattr(value, field.name), hints[field.name], (*place, field.name))
    elif origin is Annotated:
        quantity = next((extra for extra in inside if isinstance(extra, Quantity)), None)
        what = None if quantity is None else _no_quantity(value, quantity)
        yield from [(place, what)] if what else strays(value, inside[0], place)
    elif origin in (Union, UnionType):
        found = [list(strays(value, arm, place)) for arm in inside if arm is not type(None)]
        yield from [] if value is None or [] in found else found[0]
    elif origin is Literal:
        twin = next((option for option in inside if value == option), None)
        if twin is not None and type(twin) is not type(value):
            yield place, f"{value!r} is a {type(value).__name__}; give {twin!r}"
    elif origin is tuple and isinstance(value, list):
        yield place, f"{value!r} is a list; Python takes a tuple here, as it cannot change"
    elif origin is tuple and isinstance(value, tuple):
        own = [inside[0]] * len(value) if inside[-1] is Ellipsis else inside
        for number, (item, each) in enumerate(zip(value, own, strict=False)):
            yield from strays(item, each, (*place, number))
    elif origin is dict and isinstance(value, Mapping):
        for key, item in value.items():
            yield from strays(item, inside[1], (*place, str(key)))


def _no_quantity(value: Any, quantity: Quantity) -> str | None:
    """Return what is wrong with *value* as a number in SI; None if it is one."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return None
    unit = BASE_UNITS[quantity.dimension]
    try:
        right = f"give {quantity.parse(value):.12g}" if isinstance(value, str) else "give one"
    except ValueError:
        right = "give one"
    return f"{value!r} is not a {quantity.dimension} in Python, which takes SI numbers ({unit}); {right}"
