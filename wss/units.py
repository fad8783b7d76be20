"""Conversion of physical quantities: text such as ``1.7 TB/s`` is read into SI numbers and written back as text.

Decimal and binary prefixes are distinct (kB is 10^3 bytes, KiB 2^10). Only ``B`` (byte) and ``bit`` are accepted: a
bare ``b`` is ambiguous to readers. A field of a specification has its dimension in its type, as in
``bandwidth: BytesPerSecond``. Such a field rejects a number without a unit, except zero, which is the same in every
unit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

_DECIMAL = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9, "ps": 1e-12}
_SIZES = {
    **{prefix + "B": factor for prefix, factor in (_DECIMAL | _BINARY).items()},
    **{prefix + "bit": factor / 8 for prefix, factor in (_DECIMAL | _BINARY).items()},
}

_UNITS: dict[str, dict[str, float]] = {
    "time": _SECONDS,
    "size": _SIZES,
    "bandwidth": {size + "/s": factor for size, factor in _SIZES.items()},
    "compute rate": {prefix + name: factor for prefix, factor in _DECIMAL.items() for name in ("FLOPS", "FLOP/s")},
}
# A value outside its range is a typing error, and could overflow in later calculations.
_RANGES = {"time": (1e-15, 1e3), "size": (1e-3, 1e18), "bandwidth": (1.0, 1e18), "compute rate": (1.0, 1e24)}
_EXAMPLES = {"time": "200 ns", "size": "64 MiB", "bandwidth": "1.7 TB/s", "compute rate": "989 TFLOPS"}

_QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([^\s\d]\S*)?\s*")


def parse(value: object, dimension: str) -> float:
    """Return *value*, text such as ``200 ns``, in SI.

    Raises ValueError if it is not a number with a unit of *dimension*; the message gives an example of a valid value.
    """
    example = _EXAMPLES[dimension]
    if not isinstance(value, bool) and isinstance(value, int | float) and value == 0:
        return 0.0
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a {dimension}; give a number and a unit, such as '{example}'")
    match = _QUANTITY.fullmatch(value)
    if match is None:
        raise ValueError(f"'{value}' is not a {dimension}; give a number and a unit, such as '{example}'")
    number, unit = float(match[1]), match[2]
    if unit is None:
        raise ValueError(f"'{value}' has no unit; give one of a {dimension}, such as '{example}'")
    if unit not in _UNITS[dimension]:
        others = [name for name, units in _UNITS.items() if unit in units]
        what = f"is a unit of {others[0]}" if others else "is not a known unit"
        right = f"'{example}'"
        if (bits := unit.replace("b", "bit")) in _UNITS[dimension]:
            right = f"{right}; bits are '{bits}'"
        raise ValueError(f"'{unit}' {what}; give a {dimension}, such as {right}")
    result = number * _UNITS[dimension][unit]
    if not math.isfinite(result):
        raise ValueError(f"'{value}' is not finite; give a {dimension}, such as '{example}'")
    return result


def split(value: object) -> tuple[str, str]:
    """Return the number and the unit of *value*, text that `parse` accepts; of 0 without a unit, no unit."""
    match = _QUANTITY.fullmatch(str(value))
    assert match is not None
    return match[1], match[2] or ""


def show(value: float, dimension: str, digits: int = 4) -> str:
    """Return an SI number as text, with the decimal prefix that leaves 1 to 999 before the point."""
    if dimension == "time":
        steps = [(1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")]
    else:
        suffix = {"size": "B", "bandwidth": "B/s", "compute rate": "FLOPS"}[dimension]
        steps = [(factor, prefix + suffix) for prefix, factor in reversed(_DECIMAL.items())]
    factor, unit = next((step for step in steps if abs(value) >= step[0]), steps[-1])
    return f"{value / factor:.{digits}g} {unit}"


def duration(seconds: float) -> str:
    """Return a time as short text: s, min or h."""
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"


@dataclass(frozen=True)
class Quantity:
    """The dimension of a field, and whether it may be zero; used in the types below.

    Pydantic calls the two double-underscore methods of a type's annotations. They return plain dictionaries, so that
    this module needs only the standard library.
    """

    dimension: str
    zero: bool = False

    def parse(self, value: object) -> float:
        """Return *value* in SI; raise ValueError if it is not valid."""
        number = parse(value, self.dimension)
        if number < 0 or (number == 0 and not self.zero):
            bound = "at least 0" if self.zero else "more than 0"
            raise ValueError(f"{value!r} is out of range; a {self.dimension} here is {bound}")
        least, most = _RANGES[self.dimension]
        if number and not least <= number <= most:
            raise ValueError(f"{value!r} is implausible; a {self.dimension} lies in {least:g} to {most:g} (SI)")
        return number

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        function = {"type": "no-info", "function": self.parse}
        return {"type": "function-before", "function": function, "schema": handler(source)}

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], Any]) -> dict[str, Any]:
        return {
            "type": "string",
            "description": f"a {self.dimension} with its unit",
            "examples": [_EXAMPLES[self.dimension]],
        }


Seconds = Annotated[float, Quantity("time", zero=True)]
Bytes = Annotated[float, Quantity("size")]
BytesOrZero = Annotated[float, Quantity("size", zero=True)]
BytesPerSecond = Annotated[float, Quantity("bandwidth")]
FlopPerSecond = Annotated[float, Quantity("compute rate")]
