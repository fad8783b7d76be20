"""Contents as files, for the fuzzer: JSON, YAML, lines, tables, arrays, .pt and Parquet."""

from __future__ import annotations

import csv
import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from fuzz_mutations import DEEP

DEPTH = 100_000


@dataclass
class Columns:
    """A Parquet file as a tree: *tree* has columns and metadata; *types* what the columns were of."""

    tree: dict[str, Any]
    types: dict[str, Any] = field(default_factory=dict)


def read_parquet(path: Path) -> Columns:
    """Read a Parquet file as columns."""
    table = pq.read_table(path)
    about = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    metadata = {key: _parsed(value) for key, value in about.items() if key != "ARROW:schema"}
    tree = {"metadata": metadata, "columns": {name: table[name].to_pylist() for name in table.column_names}}
    return Columns(tree, {name: table.schema.field(name) for name in table.column_names})


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def tree_of(content: Any) -> Any:
    """Return the tree of a content, None where it has none."""
    return content.tree if isinstance(content, Columns) else None if isinstance(content, bytes) else content


def with_tree(content: Any, tree: Any) -> Any:
    """Return *content* with another tree."""
    return Columns(tree, content.types) if isinstance(content, Columns) else tree


def encode(name: str, content: Any, rng: Random) -> bytes:
    """Return *content* as the bytes of a file called *name*.

    Raises
    ------
    Exception
        Of any kind, if no writer can write it.
    """
    suffix = Path(name).suffix
    if isinstance(content, bytes):
        return content
    if isinstance(content, Columns):
        return _parquet(content)
    if suffix in (".pt", ".npy", ".npz"):
        return _arrays(suffix, content)
    if suffix in (".csv", ".tsv"):
        return _table(content)
    if suffix == ".jsonl":
        return b"\n".join(_text(json.dumps(line), rng) for line in content) + b"\n"
    if suffix in (".yaml", ".yml"):
        return _text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False, width=200), rng)
    return _text(json.dumps(content, ensure_ascii=rng.random() < 0.5), rng)


def _text(text: str, rng: Random) -> bytes:
    deep = rng.choice(["[" * DEPTH + "]" * DEPTH, "[" * 900 + "]" * 900, '{"a":' * 60 + "1" + "}" * 60, '{"a":' * 5000])
    for mark in (f'"{DEEP}"', f"'{DEEP}'", DEEP):
        text = text.replace(mark, deep)
    return text.encode("utf-8", "surrogatepass")


def _table(rows: Any) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out).writerows(rows)
    return out.getvalue().encode("utf-8", "surrogatepass")


def _arrays(suffix: str, content: Any) -> bytes:
    out = io.BytesIO()
    if suffix == ".npy":
        np.save(out, np.asarray(content), allow_pickle=False)
    elif suffix == ".npz":
        np.savez(out, **{str(key): np.asarray(value) for key, value in content.items()})
    else:
        from kit.trace_files import save_pt  # noqa: PLC0415

        path = Path(f".fuzz-{os.getpid()}.pt")
        try:
            return save_pt(path, content).read_bytes()
        finally:
            path.unlink(missing_ok=True)
    return out.getvalue()


def _parquet(content: Columns) -> bytes:
    columns, fields = [], []
    for name, values in content.tree["columns"].items():
        kind = content.types.get(name)
        try:
            column = pa.array(values, kind.type if kind is not None else None)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            column = pa.array(values)
            kind = None
        columns.append(column)
        fields.append(kind if kind is not None else pa.field(name, column.type))
    about = {
        str(key): value if isinstance(value, str) else json.dumps(value)
        for key, value in content.tree["metadata"].items()
    }
    out = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, schema=pa.schema(fields, about)), out, write_page_checksum=True)
    return out.getvalue()
