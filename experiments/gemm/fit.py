"""Fit the H800 model of wss.hardware.roofline to published measurements; show how it predicts rows it has not seen.

    python experiments/gemm/fit.py gemm_h800.json

The file holds ``rows`` with groups, m_per_group, n, k and measured_seconds. Needs scipy (extra ``test``).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from wss.hardware import WAFERS
from wss.hardware.roofline import SmoothRoofline

START = [2.0, 0.7, 0.8, 300.0, 0.3]
LOW, HIGH = [0.0, 0.3, 0.3, 0.0, 0.0], [10.0, 1.0, 1.0, 3000.0, 1.0]


def model_of(x: np.ndarray) -> Measured:
    """Return the model of the parameters *x*; the launch is in microseconds."""
    return SmoothRoofline(launch_s=x[0] * 1e-6, compute_share=x[1], bandwidth_share=x[2], tile_overhead=x[3], part_wave=x[4])


def errors(x: np.ndarray, rows: list[dict]) -> np.ndarray:
    """Return predicted over measured, less one, [rows]."""
    die = WAFERS["dojo"].die
    model = model_of(x)
    predicted = [model.gemm_s(np.float64(r["m_per_group"]), r["n"], r["k"], die, "fp8", 1.0, r["groups"]) for r in rows]
    return np.array(predicted) / np.array([r["measured_seconds"] for r in rows]) - 1


def fit(rows: list[dict]) -> np.ndarray:
    """Return the parameters of least squared relative error."""
    return least_squares(errors, START, bounds=(LOW, HIGH), args=(rows,)).x


def main(path: str) -> None:
    """Print the fitted parameters, the errors, and those of each row when it is left out of the fit."""
    rows = json.loads(Path(path).read_text())["rows"]
    x = fit(rows)
    within = np.abs(errors(x, rows))
    unseen = np.abs([errors(fit(rows[:i] + rows[i + 1 :]), [row])[0] for i, row in enumerate(rows)])
    print(model_of(x))
    print(f"error on {len(rows)} rows: mean {100 * within.mean():.1f}%, worst {100 * within.max():.1f}%")
    print(f"each row left out of its fit: mean {100 * unseen.mean():.1f}%, worst {100 * unseen.max():.1f}%")


if __name__ == "__main__":
    main(sys.argv[1])
