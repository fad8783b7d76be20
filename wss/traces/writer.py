"""Writing trace files: a stream of requests to Parquet, in row groups, under a temporary name until it is complete."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from wss.errors import OutputError, TraceError
from wss.files import part_in, reason_of, settle
from wss.traces.schema import RequestRouting, TraceMeta, fault_of

ROWS = 4096  # per row group written, and per batch read
PHASES = ("prefill", "decode")
COLUMNS = ["request", "position", "phase", "experts"]


def write_trace(
    path: Path,
    meta: TraceMeta,
    requests: Iterable[RequestRouting],
    *,
    on_request: Callable[[RequestRouting], None] | None = None,
    finish: Callable[[TraceMeta], TraceMeta] | None = None,
) -> int:
    """Write a trace as a stream and return the number of requests; *path* appears only when it is complete.

    A request with a duplicate number gets one more than the largest number so far; the note gives how many did.
    ``num_requests`` in the file is the number written, whatever *meta* has.

    Parameters
    ----------
    path, meta, requests
        The file to write, its metadata, and its content.
    on_request
        Called with each request after it is written.
    finish
        Called with *meta* after the last request; returns the metadata to store, with values known only then.

    Raises
    ------
    OutputError
        If the file cannot be written; nothing is left behind.
    TraceError
        If there is no request, or one is not valid under *meta*.
    """
    with ExitStack() as stack:
        with _writing(path):
            if path.is_dir():
                raise OutputError(f"{path}: is a folder; give the name of a file")
            temporary = stack.enter_context(part_in(path.parent))
        count = _write(path, temporary, meta, requests, on_request, finish)
        with _writing(path):
            settle(temporary, path)
    return count


def _write(
    path: Path,
    temporary: Path,
    meta: TraceMeta,
    requests: Iterable[RequestRouting],
    on_request: Callable[[RequestRouting], None] | None,
    finish: Callable[[TraceMeta], TraceMeta] | None,
) -> int:
    taken: set[int] = set()
    largest, renumbered = -1, 0
    with _Rows(path, temporary, len(meta.moe_layers) * meta.top_k) as rows:
        for given in requests:
            again = given.request in taken
            routing = replace(given, request=largest + 1) if again else given
            if fault := fault_of(routing, meta):
                raise TraceError(f"{path}: {fault}")
            rows.add(routing)
            taken.add(routing.request)
            largest, renumbered = max(largest, routing.request), renumbered + again
            if on_request is not None:
                on_request(routing)
        if not taken:
            raise TraceError(f"{path}: there is no request to write; a trace holds one or more")
        last = replace(finish(meta) if finish is not None else meta, num_requests=len(taken))
        if renumbered:
            more = f"{renumbered} requests renumbered, their numbers being taken"
            last = replace(last, note=f"{last.note}; {more}" if last.note else more)
        rows.finish(last)
    return len(taken)


class _Rows:
    """The rows of a file being written, in row groups of `ROWS`; *path* is its name in messages."""

    def __init__(self, path: Path, temporary: Path, width: int) -> None:
        self._path = path
        experts = pa.list_(pa.field("element", pa.int16(), nullable=False), width)
        kinds = (pa.int32(), pa.int32(), pa.dictionary(pa.int8(), pa.string()), experts)
        columns = zip(COLUMNS, kinds, strict=True)
        self._schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns])
        self._waiting: list[pa.RecordBatch] = []
        self._num_waiting = 0
        with _writing(path):
            self._writer = pq.ParquetWriter(
                temporary, self._schema, compression="zstd", compression_level=3, write_page_checksum=True
            )

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Close the file. After an error it will be removed, so errors on closing it are ignored."""
        if kind is None:
            with _writing(self._path):
                self._writer.close()
        else:
            with suppress(OSError, pa.ArrowException):
                self._writer.close()

    def add(self, routing: RequestRouting) -> None:
        """Append a request."""
        tokens = len(routing.position)
        phase = (np.arange(tokens) >= routing.num_prefill).astype(np.int8)
        columns = [
            pa.array(np.full(tokens, routing.request, np.int32)),
            pa.array(routing.position.astype(np.int32)),
            pa.DictionaryArray.from_arrays(pa.array(phase), pa.array(PHASES)),
            pa.FixedSizeListArray.from_arrays(
                pa.array(routing.experts.astype(np.int16).reshape(-1)), type=self._schema.field("experts").type
            ),
        ]
        self._waiting.append(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self._num_waiting += tokens
        if self._num_waiting >= ROWS:
            self._flush(self._num_waiting // ROWS * ROWS)

    def finish(self, meta: TraceMeta) -> None:
        """Write the remaining rows, and the metadata."""
        self._flush(self._num_waiting)
        keys = meta.to_keys()
        # Parquet's own pairs, and again in the Arrow schema stored among them: pyarrow shows only the latter.
        arrow = base64.b64encode(self._schema.with_metadata(keys).serialize().to_pybytes()).decode()
        with _writing(self._path):
            self._writer.add_key_value_metadata({**keys, "ARROW:schema": arrow})

    def _flush(self, count: int) -> None:
        """Write the first *count* waiting rows."""
        table = pa.Table.from_batches(self._waiting, self._schema).combine_chunks()
        with _writing(self._path):
            self._writer.write_table(table.slice(0, count), row_group_size=ROWS)
        self._waiting = table.slice(count).to_batches()
        self._num_waiting -= count


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn the errors of writing *path* into one line."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        what = f"cannot be written ({reason_of(error)})"
        raise OutputError(f"{path}: {what}; give a path in an existing folder with room and permission") from error
