"""Tables of attention calls: decode with one query token a request, or causal prefill; grouped-query heads or MLA."""

from __future__ import annotations

import numpy as np

from wss.hardware.kernels import Device
from wss.records import FloatArray
from wss.report.kernels.kinds import TIME_US, Kind
from wss.traces.columns import Columns, Layout, Number, Text

_SIZES = ("batch", "tokens", "query_heads", "kv_heads", "dim_k", "dim_v")
_SOFTWARE = ("framework", "version", "kernel")


def _derived(columns: Columns) -> Columns:
    """Add the form of the heads, such as "gqa128" or "mla" (absorbed), and the bytes of a cached element, as text."""
    dim_k, dim_v, kv_bytes = (columns.numbers[name] for name in ("dim_k", "dim_v", "kv_bytes"))
    form = np.where(dim_k == dim_v, "gqa", np.where(columns.numbers["kv_heads"] == 1, "mla", "mla expanded"))
    gqa = dim_k == dim_v
    form = np.where(gqa, np.char.add("gqa", dim_k.astype(int).astype(str)), form)
    return columns.with_texts(form=Text.of(form), kv_bytes=Text.of(np.array([f"{x:g}" for x in kv_bytes])))


def _seconds(columns: Columns, device: Device, parameters: str) -> FloatArray:
    raise NotImplementedError


ATTENTION = Kind(
    name="attention",
    layout=Layout(
        numbers={
            **dict.fromkeys(_SIZES, Number()),
            "kv_bytes": Number(0.25, 8, whole=False),
            "time_us": TIME_US,
        },
        texts=("gpu", "phase", *_SOFTWARE),
        optional=("gpu", *_SOFTWARE),
    ),
    family=("gpu", "phase", "form", "kv_bytes", *_SOFTWARE),
    chosen_by=("phase", "form", "framework"),
    rules=(),
    seconds=_seconds,
    derived=_derived,
)
