"""The types of a dataclass's fields, resolved once per class: resolving annotations takes most of a check."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any, get_type_hints


def hints_of(cls: Any) -> dict[str, Any]:
    """Return the types of the fields of the dataclass *cls* by name, including the metadata of `Annotated`."""
    return _hints(cls)


@cache
def _hints(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)  # those of its bases among them, fields or not
    return {field.name: hints[field.name] for field in fields(cls)}
