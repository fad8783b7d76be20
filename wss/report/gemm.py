"""GEMM times: predicted beside measured, for a file of measurements, or of one GEMM."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from wss.errors import ConfigError
from wss.hardware.gemm import H800
from wss.hardware.specs import DieSpec
from wss.models.shape import BYTES_PER_WEIGHT, Precision

NEEDED = ("m_per_group", "n", "k")


def predict(m: float, n: float, k: float, die: DieSpec, precision: Precision, groups: float = 1) -> float:
    """Return the seconds of one GEMM, launch included, its operands read from HBM."""
    return float(H800.gemm_s(np.array([float(m)]), n, k, die, precision, BYTES_PER_WEIGHT[precision], groups)[0])


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the ``rows`` of a file of measurements: m_per_group, n, k, and at will groups and measured_seconds.

    Raises
    ------
    ConfigError
        With one line for each fault.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; give a JSON file with rows") from None
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:100]
        raise ConfigError(f"{path}: is not readable JSON ({reason}); give a JSON file with rows") from None
    rows = content.get("rows") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f"{path}: has no rows; it should be an object with rows, a list of objects")
    faults = [fault for i, row in enumerate(rows) for fault in _faults(f"{path}: rows.{i}", row)]
    if faults:
        raise ConfigError(*faults)
    return rows


def _faults(where: str, row: dict[str, Any]) -> list[str]:
    wrong = [key for key in NEEDED if not _positive(row.get(key))]
    wrong += [key for key in ("groups", "measured_seconds") if key in row and not _positive(row[key])]
    return [f"{where}.{key}: {row.get(key)!r} is not right; it should be a number above 0" for key in wrong]


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def predict_rows(rows: list[dict[str, Any]], die: DieSpec, precision: Precision) -> dict[str, Any]:
    """Return the rows with ``predicted_seconds`` and, where measured, ``error``; and the errors' mean and worst."""
    result = []
    for row in rows:
        seconds = predict(row["m_per_group"], row["n"], row["k"], die, precision, row.get("groups", 1))
        measured = row.get("measured_seconds")
        error = {} if measured is None else {"error": seconds / measured - 1}
        result.append({**row, "predicted_seconds": seconds, **error})
    errors = [abs(row["error"]) for row in result if "error" in row]
    summary = {"mean_abs_error": float(np.mean(errors)), "worst_abs_error": max(errors)} if errors else {}
    return {"precision": precision, "rows": result, **summary}


def rows_text(found: dict[str, Any]) -> str:
    """Return what `predict_rows` found as a table."""
    lines = ["groups       m       n       k   measured us   predicted us    error"]
    for row in found["rows"]:
        measured = f"{1e6 * row['measured_seconds']:13.2f}" if "measured_seconds" in row else " " * 12 + "-"
        error = f"{100 * row['error']:+7.1f}%" if "error" in row else ""
        lines.append(
            f"{row.get('groups', 1):6} {row['m_per_group']:7} {row['n']:7} {row['k']:7} {measured}"
            f" {1e6 * row['predicted_seconds']:14.2f} {error}".rstrip()
        )
    if "mean_abs_error" in found:
        lines += [
            "",
            f"mean absolute error {100 * found['mean_abs_error']:.1f}%, worst {100 * found['worst_abs_error']:.1f}%",
        ]
    return "\n".join(lines)
