"""Parquet files as tables, with limits on memory: a few bytes of file may decompress to any number of values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from wss.host_memory import memory
from wss.reading import check_plain

if TYPE_CHECKING:
    import pyarrow as pa

MOST_VALUES = 2 * 10**7  # of a table that is converted to Python numbers, some GB
MOST_KEPT = 2 * 10**8  # of a table that stays a table
SHARE = 0.25  # largest share of the available memory that a table may take
_ROWS = 8192  # rows read at a time


def read_table(path: Path, most: int = MOST_VALUES) -> pa.Table:
    """Return the table in a Parquet file.

    Raises
    ------
    OSError
        If it cannot be read, or is not a regular file.
    pyarrow.ArrowException
        If it is damaged, or has more than *most* values or takes more than `SHARE` of the memory.
    """
    import pyarrow as pa  # noqa: PLC0415 -- slow to import, and no part of reading a configuration
    import pyarrow.parquet as pq  # noqa: PLC0415

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
