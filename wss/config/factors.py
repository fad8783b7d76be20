"""Factors such as ``2x`` in place of a number: a multiple of the value that the preset, or the configuration, gives.

``wafer.link.bandwidth: 2x`` doubles the wafer's bandwidth, in a file, in an axis of a sweep and in ``--set``. Only the
value of a numeric field is a factor; where text is allowed, ``2x`` is text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from fractions import Fraction
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from wss.config.document import Document, Place
from wss.config.hints import hints_of
from wss.config.python_values import BASE_UNITS
from wss.units import Quantity, split

_FACTOR = re.compile(r"((?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:[eE][-+]?[0-9]{1,2})?)x")


class Factor(str):
    """The text of a factor, with the value *below* it in the document, which it multiplies."""

    below: Any


class NotMultipliedError(ValueError):
    """A factor has nothing to multiply, or makes no valid number."""


def over(value: Any, below: Any) -> Any:
    """Return the *value* of a setting; a factor keeps the value *below*, which it replaces, if that is not MISSING."""
    if below is MISSING or not isinstance(value, str) or not _FACTOR.fullmatch(value):
        return value
    factor = Factor(value)
    factor.below = below
    return factor


def resolved(document: Document, place: Place, value: Any, hint: Any, base: Any = MISSING) -> Any:
    """Return *value*, of the type *hint*, with numbers instead of its factors.

    *base* is the object or number that *value* changes, if there is one. Adds an error for each factor that has nothing
    to multiply, and then leaves the factor as it is.
    """
    if isinstance(value, dict):
        inside = _inside(hint, base)
        return {key: resolved(document, (*place, key), item, *inside(key)) for key, item in value.items()}
    if not isinstance(value, str) or not _FACTOR.fullmatch(value):
        return value
    kind = _numeric(hint, value)
    if kind is None:
        return value
    try:
        return _product(value, kind, base)
    except NotMultipliedError as error:
        document.fault(place, str(error))
    except OverflowError:
        document.fault(place, f"'{value}' of the value below it is too large; give a smaller one")
    return value


def _inside(hint: Any, base: Any) -> Any:
    """Return the function from a key to the type and the base of the value there."""
    cls = next((arm for arm in (_plain(hint), *get_args(hint)) if isinstance(arm, type) and is_dataclass(arm)), None)
    if cls is not None:
        hints, given = hints_of(cls), {field.name: field for field in fields(cls)}
        own = base if is_dataclass(base) else None
        return lambda key: (
            hints.get(key),
            getattr(own, key, MISSING) if own is not None else _default(given.get(key)),
        )
    items = get_args(_plain(hint))[1:] if get_origin(_plain(hint)) is dict else (None,)
    table = base if isinstance(base, Mapping) else {}
    return lambda key: (items[0], table.get(key, MISSING))


def _plain(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _default(field: Field[Any] | None) -> Any:
    if field is None:
        return MISSING
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _numeric(hint: Any, text: str) -> type[int] | type[float] | Quantity | None:
    """Return what a number of the type *hint* is: an integer, a number or a quantity; None if *text* is allowed."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return next((extra for extra in inside if isinstance(extra, Quantity)), None) or _numeric(inside[0], text)
    if origin in (Union, UnionType):
        if str in inside:
            return None
        return next((kind for kind in (_numeric(arm, text) for arm in inside) if kind is not None), None)
    if origin is Literal or hint is bool:
        return None
    return hint if hint in (int, float) else None


def _product(text: str, kind: type[int] | type[float] | Quantity, base: Any) -> Any:
    """Return the factor *text* times the value below it in the document, else times *base*; a quantity as text."""
    below, in_si = (text.below, False) if isinstance(text, Factor) else (base, True)
    if isinstance(below, str) and _FACTOR.fullmatch(below):
        below = _product(below, kind, base)
    if below is MISSING or below is None:
        raise NotMultipliedError(f"'{text}' multiplies the value below it, and none is given; give a number")
    factor = Fraction(text[:-1])
    if isinstance(kind, Quantity):
        return _quantity(text, factor, kind, below, in_si=in_si)
    if isinstance(below, bool) or not isinstance(below, int | float):
        raise NotMultipliedError(f"'{text}' multiplies a number, and the value below it is {below!r}; give a number")
    if isinstance(below, float):
        return below * float(factor)
    product = Fraction(below) * factor
    if product.denominator > 1 and kind is int:
        what = f"'{text}' of {below} is {float(product):.12g}, and this takes a whole number"
        raise NotMultipliedError(f"{what}; give a factor that makes one")
    return int(product) if product.denominator == 1 else float(product)


def _quantity(text: str, factor: Fraction, kind: Quantity, below: Any, *, in_si: bool) -> str:
    """Return *factor* times the quantity *below*, text of a configuration or a preset's number *in_si*, as text."""
    if in_si and isinstance(below, int | float):
        return f"{below * float(factor)!r} {BASE_UNITS[kind.dimension]}"
    try:
        kind.parse(below)
    except ValueError as error:
        what = f"'{text}' multiplies a {kind.dimension}, and the value below it is {below!r}"
        raise NotMultipliedError(f"{what}; give a {kind.dimension}") from error
    number, unit = split(below)
    return f"{float(Fraction(number) * factor)!r} {unit or BASE_UNITS[kind.dimension]}"
