"""GEMM times, predicted and measured, for a file of measurements or for one GEMM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from wss.errors import ConfigError
from wss.files import parse_json
from wss.hardware.roofline import H800
from wss.hardware.specs import DieSpec
from wss.models.precision import PrecisionName, peak_of, weight_bits
from wss.reading import read_plain

LARGEST = 10**9  # rows, columns or groups of a GEMM
SHORTEST, LONGEST = 1e-9, 1e4  # seconds of a measured GEMM
NEEDED = ("m_per_group", "n", "k")


def predict(m: float, n: float, k: float, die: DieSpec, precision: PrecisionName, groups: float = 1) -> float:
    """Return the time of one GEMM in seconds, launch included, its operands read from HBM."""
    peak, nbytes = peak_of(precision), weight_bits(precision) / 8
    return float(H800.gemm_s(np.array([float(m)]), n, k, die, peak, nbytes, groups)[0])


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the ``rows`` of a file of measurements: m_per_group, n, k, and optionally groups and measured_seconds.

    Raises ConfigError with one line per error.
    """
    try:
        content = parse_json(read_plain(path))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; give a JSON file with rows") from None
    except (OSError, ValueError) as error:
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
    faults = [
        f"{where}.{key}: {repr(row.get(key))[:40]} is not right; it should be a whole number, 1 to {LARGEST}"
        for key in (*NEEDED, "groups")
        if (key in row or key in NEEDED) and not (_positive(row.get(key)) and row[key] == int(row[key]) <= LARGEST)
    ]
    measured = row.get("measured_seconds", SHORTEST)
    if not (_positive(measured) and SHORTEST <= measured <= LONGEST):
        shown = repr(measured)[:40]
        faults.append(f"{where}.measured_seconds: {shown} is not right; it should be {SHORTEST:g} to {LONGEST:g} s")
    return faults


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e300


def predict_rows(rows: list[dict[str, Any]], die: DieSpec, precision: PrecisionName) -> dict[str, Any]:
    """Return the rows with ``predicted_seconds`` and, if measured, ``error``; and the mean and worst error."""
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
    """Return the result of `predict_rows` as a table."""
    lines = ["groups       m       n       k   measured us   predicted us    error"]
    for row in found["rows"]:
        measured = f"{1e6 * row['measured_seconds']:13.2f}" if "measured_seconds" in row else " " * 12 + "-"
        error = f"{100 * row['error']:+7.1f}%" if "error" in row else ""
        lines.append(
            f"{row.get('groups', 1):6} {row['m_per_group']:7} {row['n']:7} {row['k']:7} {measured}"
            f" {1e6 * row['predicted_seconds']:14.2f} {error}".rstrip()
        )
    if "mean_abs_error" in found:
        mean, worst = 100 * found["mean_abs_error"], 100 * found["worst_abs_error"]
        lines += ["", f"mean absolute error {mean:.1f}%, worst {worst:.1f}%"]
    return "\n".join(lines)
