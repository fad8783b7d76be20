"""Parquet files as tables, none of which takes more memory than it should: a few bytes may stand for any number."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from wss.host_memory import memory
from wss.reading import check_plain

MOST_VALUES = 2 * 10**7  # of a table that is to become Python's numbers, some GB
MOST_KEPT = 2 * 10**8  # of one that stays a table
SHARE = 0.25  # of the memory that there is, which a table may take
_ROWS = 8192  # read at a time


def read_table(path: Path, most: int = MOST_VALUES) -> pa.Table:
    """Return the table that a Parquet file holds.

    Raises
    ------
    OSError
        If it cannot be read, or is no plain file.
    pyarrow.ArrowException
        If it is damaged, or stands for more than *most* values or `SHARE` of the memory.
    """
    check_plain(path)
    with pq.ParquetFile(path) as file:
        about = file.metadata
        groups = [about.row_group(i) for i in range(about.num_row_groups)]
        values = sum(group.column(i).num_values for group in groups for i in range(group.num_columns))
        if max(values, about.num_rows) > most:
            raise pa.ArrowInvalid(f"it stands for {values} values, {most} at most")
        batches, size, largest = [], 0, SHARE * memory()
        for batch in file.iter_batches(_ROWS, use_threads=False):
            batches.append(batch)
            size += batch.nbytes
            if size > largest:
                raise pa.ArrowInvalid(f"it stands for more than {largest / 1e9:.3g} GB, a quarter of the memory")
        return pa.Table.from_batches(batches, file.schema_arrow)
