"""Predictions for the rows of a table, and the rows that are left out of figures, each with a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from wss.errors import ConfigError
from wss.hardware.kernels import DEVICES, Device
from wss.records import BoolArray, FloatArray, IntArray
from wss.report.kernels.kinds import Kind, Rule, note_of
from wss.traces.columns import Columns

REASONS = {  # by flag, in the order in which a row's reason is chosen
    "impossible": "impossible: reads its weights faster than HBM can",
    "untuned": "untuned: its software ran a default tactic",
    "l2_warm": "l2_warm: its weights were in L2, as runs were repeated",
}
REPEATED = "repeated: another row has the same call without waits for launches"


class Predictions:
    """The predictions for a table: by row, seconds (NaN without a model), names of parameters, and reasons; notes."""

    def __init__(self, count: int) -> None:
        self.seconds: FloatArray = np.full(count, np.nan)
        self.parameters = np.full(count, "", object)
        self.left_out = np.full(count, "", object)
        self.notes: list[str] = []

    @property
    def counted(self) -> BoolArray:
        """Which rows count, [rows]: those without a reason to leave them out."""
        found: BoolArray = self.left_out == ""
        return found

    def leave_out(self, rows: IntArray | BoolArray, reason: str) -> None:
        """Leave *rows* out of the figures; the first reason of a row stays."""
        self.left_out[rows] = np.where(self.left_out[rows] == "", reason, self.left_out[rows])

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)


def predict(kind: Kind, columns: Columns) -> Predictions:
    """Return the predictions for the rows of *columns*, whose column ``gpu`` holds names of devices."""
    predictions = Predictions(columns.count)
    for name, reason in REASONS.items():
        if name in columns.flags:
            predictions.leave_out(columns.flags[name], reason)
    if kind.repeats:
        slower = np.ones(columns.count, np.bool_)
        slower[fastest(columns, kind.repeats)] = False
        predictions.leave_out(slower, REPEATED)
    for (gpu, *words), rows in columns.groups(["gpu", *kind.chosen_by]):
        values = dict(zip(kind.chosen_by, words, strict=True))
        own = columns.where(rows)
        if kind.least_s is not None:
            impossible = own.numbers["time_us"] * 1e-6 < kind.least_s(own, DEVICES[gpu])
            predictions.leave_out(rows[impossible], REASONS["impossible"])
        _predict(kind, own, rows, DEVICES[gpu], values, predictions)
    return predictions


def fastest(columns: Columns, names: Sequence[str]) -> IntArray:
    """Return the index of the fastest row of each group of rows that agree in the columns *names*."""
    values = [columns.texts[name].codes if name in columns.texts else columns.numbers[name] for name in names]
    order = np.lexsort((columns.numbers["time_us"], *values))
    same = np.all([np.diff(column[order]) == 0 for column in values], axis=0)
    found: IntArray = order[np.concatenate([[True], ~same])]
    return found


def _predict(
    kind: Kind, own: Columns, rows: IntArray, device: Device, values: Mapping[str, str], predictions: Predictions
) -> None:
    """Fill in the predictions of *rows*, whose columns are *own*; all have the same *values* of `Kind.chosen_by`."""
    rule = kind.rule_of(values, device.generation)
    what = ", ".join(f"{name} {value}" for name, value in values.items() if value)
    if rule is None:
        predictions.leave_out(rows, f"no model: {what}")
        return
    try:
        with np.errstate(all="ignore"):  # what overflows is left out below
            seconds = kind.seconds(own, device, rule.parameters)
    except ConfigError as error:  # the device has no units for the precision
        predictions.leave_out(rows, f"no model: {error.faults[0]}")
        return
    predictions.seconds[rows] = seconds
    predictions.parameters[rows] = rule.parameters
    predictions.leave_out(rows[~(np.isfinite(seconds) & (seconds > 0))], f"no model: {what}, of these sizes")
    _note(rule, device, what, predictions)


def _note(rule: Rule, device: Device, what: str, predictions: Predictions) -> None:
    if rule.stand_in:
        predictions.note(f"{what}: has no parameters of its own; predicted with {rule.parameters}")
    if (text := note_of(rule.parameters, rule.parameters if rule.generation else "", device)) is not None:
        predictions.note(text)
