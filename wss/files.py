"""Files written whole or not at all, and JSON that holds numbers alone (no NaN, no Infinity) and each key once."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from wss.errors import OutputError


def write_whole(path: Path, write: Callable[[Path], Any], advice: str) -> None:
    """Let *write* fill a temporary file beside *path*, then rename it; whatever goes wrong, nothing is left of it.

    Raises
    ------
    OutputError
        If it cannot be written; the line ends with *advice*.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        part.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); {advice}") from None
    finally:
        part.unlink(missing_ok=True)


class TwiceError(ValueError):
    """A *key* stands twice in a mapping, of which a reader would take the last alone."""

    def __init__(self, key: object) -> None:
        super().__init__(f"has the key '{' '.join(str(key).split())[:100]}' twice; keep one")


def parse_json(text: str | bytes) -> Any:
    """Return the value of JSON *text*.

    Raises
    ------
    ValueError
        If it is no JSON, holds NaN, Infinity or a number beyond a float's range, or is nested too deep.
    TwiceError
        If a key stands twice.
    """
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite, parse_int=_whole, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("nested too deep") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return *pairs* as a mapping, if no key comes twice."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise TwiceError(Counter(key for key, _ in pairs).most_common(1)[0][0])
    return result


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large")
    return number


def _whole(text: str) -> int:
    if len(text) > 300:
        raise ValueError(f"{text[:20]}... is too large")
    return int(text)


def json_text(value: Any, *, indent: int | None = 1, sort_keys: bool = True) -> str:
    """Return *value* as JSON text.

    Raises
    ------
    ValueError
        If it holds NaN or Infinity, which no output of wss may.
    """
    return json.dumps(value, indent=indent, sort_keys=sort_keys, allow_nan=False)
