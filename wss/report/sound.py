"""Check that the folder of a run or sweep has results as wss writes them, before they are drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.types as kinds

from wss.metrics.figures import FIGURES
from wss.report.link_maps import GPU, is_port, kind_of

Row = Mapping[str, Any]

LARGEST = 1e30  # of a figure
MOST_DIES = 1024  # of a system, and so along an axis
TEXTS = {"task", *(figure.name for figure in FIGURES if figure.unit == "text")}
NEEDED = ("decode_time_s", "speedup")  # above zero in every row
ENDS = ("source_x", "source_y", "target_x", "target_y")


def check_results(axes: Sequence[str], rows: Sequence[Row], links: pa.Table, texts: Sequence[Any]) -> None:
    """Check *rows* and *links* with the labels *axes*, and their *texts*.

    Raises ValueError if they are not as wss writes them.
    """
    if not all(isinstance(text, str) for text in (*axes, *texts)) or len(set(axes)) < len(axes):
        raise ValueError("its title, axes or notes are no plain text")
    if not rows:
        raise ValueError("it has no rows")
    for number, row in enumerate(rows):
        if missing := [name for name in (*axes, "policy", *NEEDED, "max_link_utilization") if name not in row]:
            raise ValueError(f"row {number} has no column {missing[0]}")
        for name, value in row.items():
            if not _is_sound(name, value, axes):
                raise ValueError(f"row {number}: its {name} is {value!r:.60}")
    _check_links(axes, {_place(row, axes) for row in rows}, links)


def _is_sound(name: str, value: Any, axes: Sequence[str]) -> bool:
    """Whether *value* is allowed in the column *name*."""
    if name in ("policy", "varied", "to"):
        return isinstance(value, str)
    if name in axes:
        return isinstance(value, str | bool) or _is_number(value)
    if name in TEXTS:
        return value is None or isinstance(value, str)
    if name in NEEDED:
        return _is_number(value) and value > 0
    if name == "max_link_utilization":
        return _is_number(value) and value >= 0
    if name.endswith(("_low", "_high", "correlation")):
        return value is None or isinstance(value, bool) or _is_number(value)
    return value is None or isinstance(value, bool) or (_is_number(value) and value >= 0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _place(row: Row, axes: Sequence[str]) -> tuple[Any, ...]:
    return (*(row[axis] for axis in axes), row["policy"])


def _check_links(axes: Sequence[str], places: set[tuple[Any, ...]], links: pa.Table) -> None:
    """Check the columns of *links*, and that each link belongs to one of *places*, which have a row."""
    if not len(links):
        return
    wanted = {"link": kinds.is_string, "policy": kinds.is_string, "utilization": kinds.is_floating}
    wanted |= dict.fromkeys(ENDS, kinds.is_integer) | {"estimated_utilization": kinds.is_floating}
    for name, fits in wanted.items():
        may_be_empty = name in (*ENDS, "estimated_utilization")
        kind = links[name].type if name in links.column_names else None
        if kind is None or not (fits(kind) or (may_be_empty and kinds.is_null(kind))):
            raise ValueError(f"its links have no column {name}, or not of its type")
    own = links.select([*axes, "policy"]).group_by([*axes, "policy"]).aggregate([]).to_pylist()
    if not {_place(row, axes) for row in own} <= places:
        raise ValueError("it has links of what has no row")
    if links["link"].null_count:
        raise ValueError("a link has no name")
    carried = [*links["utilization"].to_pylist(), *links["estimated_utilization"].drop_null().to_pylist()]
    if not all(value is not None and math.isfinite(value) and 0 <= value <= LARGEST for value in carried):
        raise ValueError("the utilization of a link is not a number from 0 on")
    where = zip(*(links[name].to_pylist() for name in (*axes, "policy")), strict=True)
    ends = zip(*(links[name].to_pylist() for name in ENDS), strict=True)
    ports: dict[tuple[Any, ...], list[str]] = {}
    for place, name, at in zip(where, links["link"].to_pylist(), ends, strict=True):
        ports.setdefault(place, [])
        if is_port({"link": name}):
            ports[place].append(name)
        elif None in at or not all(0 <= end < MOST_DIES for end in at) or at[:2] == at[2:] or ports[place]:
            raise ValueError(f"the link {name!r:.60} is from and to {list(at)}")
    for names in ports.values():
        _check_ports(names)


def _check_ports(names: Sequence[str]) -> None:
    """Check that every GPU has every kind of port that *names* have."""
    found = {(kind_of(name), gpu[0]) for name in names if (gpu := GPU.findall(name))}
    kinds_there, gpus = {kind for kind, _ in found}, {gpu for _, gpu in found}
    if len(found) < len(kinds_there) * len(gpus) or len(found) < len({*names}):
        raise ValueError("its ports are not those of equal GPUs")
