"""Tables of exchanges between GPUs: DeepEP's dispatch and combine, and collectives."""

from __future__ import annotations

import numpy as np

from wss.hardware.kernels import Device
from wss.records import FloatArray
from wss.report.kernels.kinds import TIME_US, Kind
from wss.traces.columns import Columns, Layout, Number, Text

_SIZE = Number(-1, 2.0**40)  # -1: does not apply
_SIZES = ("hidden", "top_k", "experts", "tokens", "sms", "bytes")


def _derived(columns: Columns) -> Columns:
    """Add the number of GPUs as text."""
    return columns.with_texts(gpus=Text.of(columns.numbers["gpus"].astype(np.int64).astype(str)))


def _seconds(columns: Columns, device: Device, parameters: str) -> FloatArray:
    raise NotImplementedError


COMMUNICATION = Kind(
    name="communication",
    layout=Layout(
        numbers={"gpus": Number(1, 2.0**20), **dict.fromkeys(_SIZES, _SIZE), "time_us": TIME_US},
        texts=("gpu", "library", "version", "op"),
        optional=("gpu", "version"),
    ),
    family=("gpu", "library", "op", "gpus", "version"),
    chosen_by=("library", "op"),
    rules=(),
    seconds=_seconds,
    derived=_derived,
)
