"""The types of a dataclass's fields, worked out once a class: resolving annotations takes most of a check."""

from __future__ import annotations

from functools import cache
from typing import Any, get_type_hints


@cache
def hints_of(cls: Any) -> dict[str, Any]:
    """Return the types of the fields of *cls* by name, with what `Annotated` adds."""
    return get_type_hints(cls, include_extras=True)
