"""layers.parquet, and links.parquet, whose columns runs and sweeps share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pyarrow as pa

from wss.hardware import Wafer
from wss.metrics import Ledger
from wss.metrics.measures import link_utilization
from wss.records import LayerRow

ENDS = ("source_die", "target_die", "source_x", "source_y", "target_x", "target_y")
AMOUNTS = ("bytes", "data_bytes", "request_bytes", "activation_bytes", "busy_s", "utilization", "estimated_utilization")
LINKS = {"link": pa.string(), **dict.fromkeys(ENDS, pa.int64()), **dict.fromkeys(AMOUNTS, pa.float64())}
KINDS = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}

# What a file is, with the version of its columns: docs/reference/schemas.md. A column's addition keeps the version.
LAYERS_FORMAT = "wss-layers/1"
LINKS_FORMAT = "wss-links/1"


def with_format(table: pa.Table, name: str) -> pa.Table:
    """Return *table* with *name* as ``format`` among the metadata of its schema, as traces have it."""
    return table.replace_schema_metadata({"format": name})


def link_columns(ledger: Ledger, wafer: Wafer) -> dict[str, list[Any]]:
    """Return the columns `LINKS` as lists, a value per link; a switch is no die and has no coordinates."""
    ends = {side: wafer.links[:, at].tolist() for at, side in enumerate(("source", "target"))}
    at = {side: [wafer.place(end) for end in own] for side, own in ends.items()}
    links = range(wafer.num_links)
    estimated = None if ledger.sample is None else link_utilization(ledger, wafer, ledger.sample)
    return {
        "link": [wafer.link_name(link) for link in links],
        **{f"{side}_die": [end if at[side][i] else None for i, end in enumerate(own)] for side, own in ends.items()},
        **{f"{side}_{c}": [d and d[i] for d in own] for side, own in at.items() for i, c in enumerate("xy")},
        "bytes": ledger.link_bytes.tolist(),
        "data_bytes": ledger.link_data.tolist(),
        "request_bytes": ledger.link_request.tolist(),
        "activation_bytes": ledger.link_activation.tolist(),
        "busy_s": ledger.link_busy.tolist(),
        "utilization": link_utilization(ledger, wafer, None).tolist(),
        "estimated_utilization": [None] * len(links) if estimated is None else estimated.tolist(),
    }


def mean_columns(columns: Sequence[Mapping[str, list[Any]]]) -> dict[str, list[Any]]:
    """Return the columns of one policy's links as means over seeds; *columns* are those of each seed."""
    means = [name for name in AMOUNTS if None not in columns[0][name]]
    return {**columns[0], **{name: np.mean([own[name] for own in columns], axis=0).tolist() for name in means}}


def links_table(ledgers: Sequence[Ledger], wafer: Wafer) -> pa.Table:
    """Return a row for each link, policy and seed."""
    parts = []
    for ledger in ledgers:
        columns = link_columns(ledger, wafer)
        policy, seed = [ledger.policy] * wafer.num_links, [ledger.seed] * wafer.num_links
        arrays = [pa.array(policy, pa.string()), *(pa.array(columns[name], kind) for name, kind in LINKS.items())]
        parts.append(pa.table([*arrays, pa.array(seed, pa.int64())], ["policy", *LINKS, "seed"]))
    return with_format(pa.concat_tables(parts).combine_chunks(), LINKS_FORMAT)


def layers_table(ledgers: Sequence[Ledger]) -> pa.Table:
    """Return a row for each layer run of each policy and seed."""
    rows = [row for ledger in ledgers for row in ledger.rows]
    schema = pa.schema([(field.name, KINDS[str(field.type)]) for field in fields(LayerRow)])
    table = pa.table({name: [getattr(row, name) for row in rows] for name in schema.names}, schema=schema)
    seeds = [ledger.seed for ledger in ledgers for _ in ledger.rows]
    return with_format(table.append_column("seed", pa.array(seeds, pa.int64())), LAYERS_FORMAT)
