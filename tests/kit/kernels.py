"""Small tables of measured kernels of every kind, made up, and files of them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Table = dict[str, list[Any]]

_SOFTWARE = {"gpu": "H100-SXM", "framework": "trtllm", "version": "1.3.0rc20", "kernel": "torch_flow"}
_MODEL = {"model": "tiny", "hidden": 2048, "intermediate": 768, "experts": 128, "top_k": 8, "ep": 4}
_DEEPEP = {"gpu": "H100-SXM", "version": "0.5.12", "gpus": 8, "hidden": 7168, "top_k": 8, "experts": 256}


def _table(common: dict[str, Any], *rows: dict[str, Any]) -> Table:
    whole = [{**common, **row} for row in rows]
    return {name: [row[name] for row in whole] for name in whole[0]}


def _loads(tokens: int, routing: str, active: float, largest: float, us: float) -> dict[str, Any]:
    """Some tokens of top-8 on a quarter of 128 experts."""
    derived = {"active_experts": active, "token_experts": tokens * 2.0, "max_tokens": largest}
    return {"tokens": tokens, "routing": routing, **derived, "time_us": us}


_FINE = {"impossible": False, "untuned": False, "l2_warm": False}
_PARTS = (
    _loads(16, "balanced", 32.0, 1.0, 60.0),
    _loads(1024, "power_law_1.2", 31.6, 210.0, 160.0),
    _loads(8192, "balanced", 32.0, 512.0, 700.0),
)
TABLES: dict[str, Table] = {
    "gemm": _table(
        _SOFTWARE,
        {"precision": "bfloat16", "m": 128, "n": 2112, "k": 7168, "time_us": 14.0},
        {"precision": "fp8", "m": 1, "n": 4096, "k": 7168, "time_us": 13.0},
        {"precision": "fp8_block", "m": 4096, "n": 7168, "k": 2048, "time_us": 110.0},
    ),
    "moe_layer": _table(
        {**_SOFTWARE, "kernel": "moe_torch_flow_cutlass", **_MODEL},
        {"precision": "bfloat16", **_PARTS[0], **_FINE},
        {"precision": "fp8", **_PARTS[1], **_FINE},
        {"precision": "fp8_block", **_PARTS[2], **_FINE},
        {"precision": "fp8_block", **_PARTS[1], **_FINE, "untuned": True},
        {"precision": "fp8_block", **_PARTS[0], **_FINE, "l2_warm": True, "untuned": True},
    ),
    "moe_deepep": _table(
        {**_SOFTWARE, "framework": "sglang", "precision": "fp8_block", **_MODEL},
        {"kernel": "deepgemm_masked", **_PARTS[0]},
        {"kernel": "deepgemm_contiguous", **_PARTS[2]},
    ),
    "attention": _table(
        {**_SOFTWARE, "framework": "vllm", "kernel": "vllm_flash_attn_fa3"},
        *(
            {"phase": phase, "batch": 32, "tokens": 8192, **heads, "kv_bytes": 2, "time_us": us}
            for phase, heads, us in (
                ("decode", {"query_heads": 32, "kv_heads": 8, "dim_k": 128, "dim_v": 128}, 400.0),
                ("decode", {"query_heads": 128, "kv_heads": 1, "dim_k": 576, "dim_v": 512}, 200.0),
                ("prefill", {"query_heads": 32, "kv_heads": 8, "dim_k": 128, "dim_v": 128}, 35000.0),
            )
        ),
    ),
    "communication": _table(
        {**_DEEPEP, "notify_us": 0.0},
        {"library": "deepep_low_latency", "op": "dispatch", "tokens": 128, "sms": 0, "bytes": -1, "time_us": 50.0},
        {"library": "deepep_normal", "op": "combine", "tokens": 4096, "sms": 20, "bytes": -1, "time_us": 900.0},
        {"library": "nccl", "op": "all_reduce", "tokens": -1, "sms": -1, "bytes": 2**20, "time_us": 40.0},
        {"library": "nccl", "op": "alltoall", "tokens": -1, "sms": -1, "bytes": 2**20, "time_us": 30.0},
    ),
}


def changed(table: Table, row: int = 0, **values: Any) -> Table:
    """Return *table* with other *values* in one *row*."""
    return {name: [values.get(name, x) if i == row else x for i, x in enumerate(xs)] for name, xs in table.items()}


def without(table: Table, *names: str) -> Table:
    """Return *table* without some columns."""
    return {name: column for name, column in table.items() if name not in names}


def rows_of(table: Table) -> list[list[Any]]:
    """Return *table* as rows of CSV, a heading first."""
    return [[*table], *map(list, zip(*table.values(), strict=True))]


def save(path: Path, table: Table) -> Path:
    """Write *table* as Parquet, or as CSV by its name, and return the path."""
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows_of(table))
    else:
        pq.write_table(pa.table(table), path)
    return path
