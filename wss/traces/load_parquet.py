"""Tables of expert loads in Parquet: a row for each dump and layer.

The columns are dump, phase, layer and logical_count (a list over experts). The file's metadata hold ``format``,
``top_k``, and ``numbered``: "false" if layer is only the row index, as in SGLang's files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wss.errors import TraceError
from wss.files import reason_of, write_whole
from wss.traces.load_dumps import Loads
from wss.traces.parquet import read_table

COLUMNS = {"dump", "phase", "layer", "logical_count"}
FORMAT = "wss-loads/1"


def read_parquet(path: Path) -> list[Loads]:
    """Read all dumps of a table, rows as they are in the file; counts are not checked.

    Raises
    ------
    TraceError
        If it is not such a table, or damaged.
    ValueError
        If a layer index is invalid.
    """
    import pyarrow as pa  # noqa: PLC0415 -- slow to import

    try:
        table = read_table(path)
        missing = sorted(COLUMNS - {*table.column_names})
        if missing:
            raise TraceError(
                f"{path}: is not a table of loads, as it has no {', '.join(missing)}; give one with a row a layer"
            )
        columns = {name: table.column(name).to_pylist() for name in COLUMNS}
        counts = np.array(columns["logical_count"], np.float64)
        about = table.schema.metadata or {}
        written = about.get(b"format", FORMAT.encode()).decode(errors="replace")  # older tables have none
        if written != FORMAT:
            raise TraceError(f"{path}: is a table of loads in the format {written}; give one in {FORMAT}")
        top_k, numbered = int(about.get(b"top_k", b"0")), about.get(b"numbered", b"true") != b"false"
    except (OSError, pa.ArrowException) as error:
        raise TraceError(f"{path}: cannot be read ({reason_of(error)}); give a whole table of loads") from error
    except (ValueError, TypeError) as error:
        raise TraceError(f"{path}: its logical_count is not a table of numbers ({error}); give a list a row") from error
    if counts.ndim != 2 or None in columns["layer"]:
        raise TraceError(
            f"{path}: is not a table of loads; give a row a layer, with its number and tokens of each expert"
        )
    names = np.array([str(name) for name in columns["dump"]])
    result = []
    for name in dict.fromkeys(names.tolist()):
        rows = np.flatnonzero(names == name)
        result.append(
            Loads(
                name=name,
                phase=str(columns["phase"][rows[0]]),
                layers=tuple(int(columns["layer"][row]) for row in rows),
                counts=counts[rows],
                top_k=top_k,
                numbered=numbered,
            )
        )
    return result


def write_loads(out: Path, dumps: list[Loads]) -> None:
    """Write *dumps*, all numbered or all unnumbered, as a table; atomically.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    import pyarrow as pa  # noqa: PLC0415 -- slow to import
    import pyarrow.parquet as pq  # noqa: PLC0415

    rows = [(loads, layer, counts) for loads in dumps for layer, counts in zip(loads.layers, loads.counts, strict=True)]
    table = pa.table(
        {
            "dump": [loads.name for loads, _, _ in rows],
            "phase": [loads.phase for loads, _, _ in rows],
            "layer": pa.array([layer for _, layer, _ in rows], pa.int64()),
            "logical_count": [counts.tolist() for _, _, counts in rows],
        }
    ).replace_schema_metadata(
        {"format": FORMAT, "top_k": str(dumps[0].top_k), "numbered": str(dumps[0].numbered).lower()}
    )
    write_whole(out, lambda part: pq.write_table(table, part), "give a path where you may write")
