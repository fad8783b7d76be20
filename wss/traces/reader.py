"""Trace files: Parquet, one row per token, read as a stream of requests (and written as one, in `writer`).

A file may be larger than memory: beside the current request, at most some thousand rows are in memory. The reader
checks every request it yields, so that later code need not check expert ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from wss.errors import TraceError
from wss.files import reason_of
from wss.reading import ENDLESS, open_plain
from wss.traces.importers.unpacked import MOST_UNPACKED
from wss.traces.load_parquet import COLUMNS as LOADS
from wss.traces.schema import FORMAT, RequestRouting, TraceMeta, fault_of
from wss.traces.writer import COLUMNS, PHASES, ROWS, write_trace

__all__ = ["TraceReader", "write_trace"]

PACKED = 1000  # largest compression ratio of routing
MOST_HELD = 2**27  # bytes of experts in a batch of rows
RECORDED = (".json", ".jsonl", ".csv", ".pt", ".npy", ".npz")  # formats that recorders write

_Int32s = npt.NDArray[np.int32]
_Int16s = npt.NDArray[np.int16]
_Bools = npt.NDArray[np.bool_]


class TraceReader:
    """A trace file, open for reading; use it in a ``with`` statement.

    Attributes
    ----------
    path, meta, num_rows
        The file, its metadata, and its number of tokens.

    Raises
    ------
    TraceError
        If there is no such file, or it is not a routing trace; one line per error.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _reading(path, "cannot be opened"):
            if not path.exists():
                raise TraceError(f"{path}: does not exist; give the path of a trace file (Parquet)")
            with open_plain(path, ENDLESS) as file:
                beginning = file.read(4)
        if path.suffix in RECORDED and beginning != b"PAR1":
            what = f"is a {path.suffix} file, no trace (Parquet)"
            raise TraceError(f"{path}: {what}; import recorded routing with `wss trace import`")
        with _reading(path, "is not a whole Parquet file"):
            self._file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True)
        try:
            if set(self._file.schema_arrow.names) >= LOADS:
                what = "is a table of expert loads, which names no tokens; it goes as placement: {kind: file}, history"
                raise TraceError(f"{path}: {what} or synth: {{loads: ...}}, and `wss trace stats` reads it")
            self.meta = TraceMeta.from_keys(_keys(self._file, path), path)
            _check_columns(self._file, self.meta, path)
            _check_size(self._file, self.meta, path)
        except BaseException:
            self.close()
            raise
        self.num_rows: int = self._file.metadata.num_rows

    def close(self) -> None:
        """Close the file; closing it twice is harmless."""
        self._file.close()

    def __enter__(self) -> TraceReader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def digest(self) -> str:
        """Return the SHA-256 of the file's content, in hexadecimal."""
        with _reading(self.path, "cannot be read"), open_plain(self.path, ENDLESS) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def subjects(self) -> dict[int, str]:
        """Return the subject of each request that has one in the metadata."""
        return {label.request: label.subject for label in self.meta.requests if label.subject}

    def request_ids(self) -> npt.NDArray[np.int32]:
        """Return the number of every request in file order, int32 [requests]; reads no other column.

        Raises
        ------
        TraceError
            If the file is damaged, or the rows of a request are not contiguous.
        """
        ids: dict[int, None] = {}
        last = None
        for batch, row in self._batches(["request"]):
            numbers = self._column(batch, "request", row)
            for number in numbers[_starts(numbers)].tolist():
                if number != last:
                    self._check_new(number, ids)
                    ids[number] = None
                last = number
        return np.fromiter(ids, np.int32, len(ids))

    def requests(self, only: Collection[int] | None = None, limit: int | None = None) -> Iterator[RequestRouting]:
        """Yield requests in file order, each checked, in bounded memory.

        Parameters
        ----------
        only
            The numbers of the requests to yield; all if None.
        limit
            Yield at most this many, and read no further.

        Raises
        ------
        TraceError
            If a row that is read is damaged or invalid, or a request of *only* is not in the file.
        """
        wanted = None if only is None else set(only)
        found = self.num_rows if wanted is None else len(wanted)
        left = found if limit is None else min(limit, found)
        if left <= 0:
            return
        seen: set[int] = set()
        for number, decode, position, experts in self._whole_requests():
            self._check_new(number, seen)
            seen.add(number)
            if wanted is None or number in wanted:
                yield self._routing(number, decode, position, experts)
                left -= 1
            if left == 0:
                return
        if wanted is not None:
            missing = min(wanted - seen)
            raise TraceError(f"{self.path}: has no request {missing}; it holds {len(seen)} requests with other numbers")

    def _whole_requests(self) -> Iterator[tuple[int, _Bools, _Int32s, _Int16s]]:
        """Gather each request's rows from the batches they are spread over: number, decode, position, experts."""
        number = -1
        parts: list[tuple[_Bools, _Int32s, _Int16s]] = []
        for request, decode, position, experts in self._rows():
            starts = _starts(request)
            for start, end in zip(starts, [*starts[1:], len(request)], strict=True):
                if parts and request[start] != number:
                    yield number, *_joined(parts)
                    parts = []
                number = int(request[start])
                parts.append((decode[start:end], position[start:end], experts[start:end]))
        if parts:
            yield number, *_joined(parts)

    def _rows(self) -> Iterator[tuple[_Int32s, _Bools, _Int32s, _Int16s]]:
        """Read the file: request, decode, position [rows], experts [rows, moe_layers · top_k]."""
        for batch, row in self._batches(COLUMNS):
            request = self._column(batch, "request", row)
            position = self._column(batch, "position", row)
            self._check_nulls(batch.column("experts"), "experts", row, 1)
            flat = batch.column("experts").flatten()
            width = len(self.meta.moe_layers) * self.meta.top_k
            self._check_nulls(flat, "experts", row, width)
            yield request, self._decode(batch, row), position, flat.to_numpy().reshape(-1, width)

    def _batches(self, columns: list[str]) -> Iterator[tuple[pa.RecordBatch, int]]:
        """Read the file in batches of rows, each with the index of its first row."""
        row = 0
        with _reading(self.path, "is damaged"):
            width = 2 * len(self.meta.moe_layers) * self.meta.top_k
            rows = max(1, min(ROWS, MOST_HELD // width))
            batches = self._file.iter_batches(rows, columns=columns, use_threads=False)
        while True:
            with _reading(self.path, "is damaged"):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch, row
            row += len(batch)

    def _column(self, batch: pa.RecordBatch, name: str, row: int) -> _Int32s:
        self._check_nulls(batch.column(name), name, row, 1)
        values: _Int32s = batch.column(name).to_numpy()
        return values

    def _decode(self, batch: pa.RecordBatch, row: int) -> _Bools:
        """Return which rows are decode, [rows]; compared as bytes, since a damaged file may have any values."""
        phase = batch.column("phase")
        if pa.types.is_dictionary(phase.type):
            phase = phase.dictionary_decode()
        phase = phase.cast(pa.large_binary())
        self._check_nulls(phase, "phase", row, 1)
        prefill, decode = (pc.equal(phase, name.encode()).to_numpy(zero_copy_only=False) for name in PHASES)
        unknown = np.flatnonzero(~(prefill | decode))
        if unknown.size:
            place = int(unknown[0])
            where = f"request {batch.column('request')[place]}, position {batch.column('position')[place]}"
            text = phase[place].as_py().decode(errors="backslashreplace")
            raise TraceError(f"{self.path}: {where}: phase {text!r} is not known; it must be 'prefill' or 'decode'")
        is_decode: _Bools = decode
        return is_decode

    def _check_nulls(self, column: pa.Array, name: str, row: int, width: int) -> None:
        if column.null_count:
            place = row + pc.index(column.is_null(), True).as_py() // width
            raise TraceError(f"{self.path}: row {place}: column '{name}' holds a null; every row must have a value")

    def _routing(self, number: int, decode: _Bools, position: _Int32s, experts: _Int16s) -> RequestRouting:
        """Build a request from its rows, or raise an error that names what is wrong with them."""
        num_prefill = int(np.count_nonzero(~decode))
        if decode[:num_prefill].any():
            place = position[np.flatnonzero(~decode)[-1]]
            what = "a prefill row follows decode rows; a request's prefill must come first"
            raise TraceError(f"{self.path}: request {number}, position {place}: {what}")
        shape = (len(position), len(self.meta.moe_layers), self.meta.top_k)
        routing = RequestRouting(
            request=number, position=position, num_prefill=num_prefill, experts=experts.reshape(shape)
        )
        if fault := fault_of(routing, self.meta):
            raise TraceError(f"{self.path}: {fault}")
        return routing

    def _check_new(self, number: int, seen: Collection[int]) -> None:
        if number in seen:
            what = "its rows are not together; a request's rows must follow one another"
            raise TraceError(f"{self.path}: request {number}: {what}")


def is_written(path: Path) -> bool:
    """Whether the file *path* is a trace or a table of loads in wss's own format."""
    try:
        schema = pq.read_schema(path)
    except (OSError, pa.ArrowException):
        return False
    return (schema.metadata or {}).get(b"format") == FORMAT.encode() or set(schema.names) >= LOADS


@contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Turn errors of the system and of pyarrow into one line each."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise TraceError(f"{path}: {what} ({reason_of(error)}); give a readable, complete trace file") from error


def _starts(numbers: _Int32s) -> npt.NDArray[np.intp]:
    """Return the indices at which a new number begins, [runs]."""
    return np.flatnonzero(np.diff(numbers, prepend=numbers[0] ^ 1)) if len(numbers) else np.empty(0, np.intp)


def _joined(parts: list[tuple[_Bools, _Int32s, _Int16s]]) -> tuple[_Bools, _Int32s, _Int16s]:
    """Join a request's parts, column by column; always a copy, so that it keeps no batch in memory."""
    decode, position, experts = zip(*parts, strict=True)
    return np.concatenate(decode), np.concatenate(position), np.concatenate(experts)


def _keys(file: pq.ParquetFile, path: Path) -> dict[str, str]:
    """Read the key/value metadata as text, without the Arrow schema stored among it."""
    raw = file.metadata.metadata or {}
    try:
        return {key.decode(): value.decode() for key, value in raw.items() if key != b"ARROW:schema"}
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: its metadata is not UTF-8 text; write it again as UTF-8") from error


def _check_columns(file: pq.ParquetFile, meta: TraceMeta, path: Path) -> None:
    """Compare the columns with those that the metadata requires, and refuse a file without rows."""
    width = len(meta.moe_layers) * meta.top_k
    wanted: dict[str, tuple[str, Callable[[pa.DataType], bool]]] = {
        "request": ("int32", pa.types.is_int32),
        "position": ("int32", pa.types.is_int32),
        "phase": ("string, or a dictionary of strings", _is_text),
        "experts": (f"fixed_size_list<int16>[{width}]", lambda kind: _is_experts(kind, width)),
    }
    schema = file.schema_arrow
    faults = []
    for name, (right, fits) in wanted.items():
        kinds = [column.type for column in schema if column.name == name]
        if len(kinds) != 1:
            faults.append(f"{path}: has {len(kinds)} columns '{name}'; it must have one, of type {right}")
        elif not fits(kinds[0]):
            faults.append(f"{path}: column '{name}' is {kinds[0]}; it must be {right}")
    if file.metadata.num_rows == 0:
        faults.append(f"{path}: holds no rows; a trace has one token or more")
    if faults:
        raise TraceError(*faults)


def _check_size(file: pq.ParquetFile, meta: TraceMeta, path: Path) -> None:
    """Refuse a file whose declared routing exceeds any plausible compression ratio: reading it would take forever."""
    claimed = file.metadata.num_rows * 2 * len(meta.moe_layers) * meta.top_k
    if claimed > max(MOST_UNPACKED, PACKED * path.stat().st_size):
        raise TraceError(f"{path}: stands for {claimed} bytes of experts, which it cannot hold; give a recorded trace")


def _is_text(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value))


def _is_experts(kind: pa.DataType, width: int) -> bool:
    return bool(pa.types.is_fixed_size_list(kind) and pa.types.is_int16(kind.value_type) and kind.list_size == width)
