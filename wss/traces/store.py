"""Routing traces on disk: Parquet, a row a token, read and written in batches.

Columns: request int32, position int32, phase ('prefill' or 'decode', a dictionary), experts int16 [moe_layers · top_k],
layer-major; rows in request, then position order; the metadata of `TraceMeta` as key/value pairs.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from wss.errors import OutputError, TraceError
from wss.traces.schema import RequestRouting, TraceMeta, meta_from_strings

ROWS_A_GROUP = 4096
PHASES = ("prefill", "decode")


class TraceReader:
    """An open trace; use it in a ``with`` block.

    Raises
    ------
    TraceError
        If the file is not there, not readable, not Parquet, or not of this format: one line a fault.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.is_dir():
            raise TraceError(f"{path}: is a folder; give a Parquet file, or make one with `wss trace import {path}`")
        try:
            self._file = pq.ParquetFile(path)
        except FileNotFoundError:
            raise TraceError(f"{path}: there is no such file; give a Parquet trace") from None
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())[:120]
            raise TraceError(f"{path}: is not a whole, readable Parquet file ({reason}); make it anew") from None
        try:
            self.meta = self._check_schema()
        except TraceError:
            self._file.close()
            raise

    def __enter__(self) -> TraceReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def num_rows(self) -> int:
        """How many tokens the file holds."""
        return int(self._file.metadata.num_rows)

    def digest(self) -> str:
        """Return the SHA-256 of the file, in hexadecimal."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def request_ids(self) -> npt.NDArray[np.int32]:
        """Return the number of each request, in file order, [requests]; reads no other column."""
        ids: list[npt.NDArray[np.int32]] = []
        for batch in self._batches(["request"]):
            numbers = batch.column("request").to_numpy()
            changed = np.flatnonzero(np.diff(numbers)) + 1
            ids.append(numbers[np.concatenate([[0], changed])])
        joined = np.concatenate(ids)
        again = np.concatenate([[False], joined[1:] == joined[:-1]])
        return joined[~again]

    def requests(self, only: Collection[int] | None = None, limit: int | None = None) -> Iterator[RequestRouting]:
        """Yield the requests in file order, checked, without ever holding the whole file.

        Parameters
        ----------
        only
            Yield just these request numbers.
        limit
            Stop after so many.

        Raises
        ------
        TraceError
            If a row is not right: the request, the position and the layer are named.
        """
        given = 0
        seen: set[int] = set()
        for request, position, decode, experts in self._whole_requests():
            if request in seen:
                raise TraceError(f"{self.path}: request {request} comes back after another; keep its rows together")
            seen.add(request)
            if only is None or request in only:
                yield self._checked(request, position, decode, experts)
                given += 1
                if given == limit:
                    return

    def _check_schema(self) -> TraceMeta:
        pairs = {
            key.decode(): value.decode("utf-8", "replace")
            for key, value in (self._file.schema_arrow.metadata or {}).items()
        }
        faults: list[str] = []
        meta = meta_from_strings(pairs, faults)
        schema = self._file.schema_arrow
        for name in ("request", "position", "phase", "experts"):
            if name not in schema.names:
                faults.append(f"column {name} is missing; a trace has request, position, phase and experts")
            elif not _type_fits(name, schema.field(name).type):
                faults.append(f"column {name} has type {schema.field(name).type}; it should be {_RIGHT_TYPE[name]}")
        if meta is not None and not faults:
            width = schema.field("experts").type.list_size
            if width != len(meta.moe_layers) * meta.top_k:
                right = f"{len(meta.moe_layers)} MoE layers x top-{meta.top_k} = {len(meta.moe_layers) * meta.top_k}"
                faults.append(f"column experts holds {width} a token; metadata says {right}")
            if self.num_rows == 0:
                faults.append("has no rows; a trace holds at least one token")
        if faults or meta is None:
            raise TraceError(*(f"{self.path}: {fault}" for fault in faults))
        return meta

    def _batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield batches of rows, turning what Parquet finds broken on the way into a TraceError."""
        try:
            for batch in self._file.iter_batches(batch_size=ROWS_A_GROUP, columns=columns):
                for name in columns:
                    if batch.column(name).null_count:
                        raise TraceError(f"{self.path}: column {name} has nulls; every token has a value")
                if batch.num_rows:
                    yield batch
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())[:120]
            raise TraceError(f"{self.path}: is damaged ({reason}); make it anew") from None

    def _whole_requests(
        self,
    ) -> Iterator[tuple[int, npt.NDArray[np.int32], npt.NDArray[np.bool_], npt.NDArray[np.int16]]]:
        """Yield (request, positions, is decode, experts [tokens, width]), joining what straddles batches."""
        parts: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_], npt.NDArray[np.int16]]] = []
        current: int | None = None
        for batch in self._batches(["request", "position", "phase", "experts"]):
            numbers = batch.column("request").to_numpy()
            columns = (batch.column("position").to_numpy(), self._is_decode(batch), self._experts(batch))
            starts = np.concatenate([[0], np.flatnonzero(np.diff(numbers)) + 1, [len(numbers)]])
            for start, stop in itertools.pairwise(starts):
                if current is not None and numbers[start] != current:
                    yield (current, *_joined(parts))
                    parts = []
                current = int(numbers[start])
                parts.append((columns[0][start:stop], columns[1][start:stop], columns[2][start:stop]))
        if current is not None:
            yield (current, *_joined(parts))

    def _is_decode(self, batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        phase = batch.column("phase")
        if not pa.types.is_dictionary(phase.type):
            phase = phase.dictionary_encode()
        names = phase.dictionary.to_pylist()
        codes = phase.indices.to_numpy()
        for code in np.unique(codes):
            if names[code] not in PHASES:
                raise TraceError(f"{self.path}: phase '{names[code]}' is not known; it is prefill or decode")
        return np.array([name == "decode" for name in names], np.bool_)[codes]

    def _experts(self, batch: pa.RecordBatch) -> npt.NDArray[np.int16]:
        values = batch.column("experts").flatten()
        if values.null_count:
            raise TraceError(f"{self.path}: column experts has nulls inside; every rank of every layer has an expert")
        flat: npt.NDArray[np.int16] = values.to_numpy()
        return flat.reshape(batch.num_rows, -1)

    def _checked(
        self, request: int, position: npt.NDArray[np.int32], decode: npt.NDArray[np.bool_], flat: npt.NDArray[np.int16]
    ) -> RequestRouting:
        """Make one request of its columns; see `requests` for the errors."""
        meta = self.meta
        name = f"{self.path}: request {request}"
        if (np.diff(position) <= 0).any():
            at = position[int(np.argmax(np.diff(position) <= 0)) + 1]
            raise TraceError(f"{name}, position {at}: does not come after the one before; sort its rows by position")
        if (np.diff(decode.astype(np.int8)) < 0).any():
            raise TraceError(f"{name}: has prefill after decode; prefill comes first")
        experts = flat.reshape(len(position), len(meta.moe_layers), meta.top_k)
        wrong = (experts < 0) | (experts >= meta.num_experts)
        if wrong.any():
            token, layer, rank = np.argwhere(wrong)[0]
            where = f"{name}, position {position[token]}, layer {meta.moe_layers[layer]}"
            raise TraceError(f"{where}: expert {experts[token, layer, rank]} is not one of 0..{meta.num_experts - 1}")
        if meta.top_k > 1:
            ordered = np.sort(experts, axis=2)
            twice = (ordered[:, :, 1:] == ordered[:, :, :-1]).any(axis=2)
            if twice.any():
                token, layer = np.argwhere(twice)[0]
                where = f"{name}, position {position[token]}, layer {meta.moe_layers[layer]}"
                raise TraceError(f"{where}: an expert comes twice; the top-{meta.top_k} of a token are distinct")
        return RequestRouting(request=request, position=position, num_prefill=int((~decode).sum()), experts=experts)


_RIGHT_TYPE = {
    "request": "int32",
    "position": "int32",
    "phase": "a dictionary of strings",
    "experts": "fixed_size_list<int16>[moe_layers x top_k]",
}


def _type_fits(name: str, kind: pa.DataType) -> bool:
    if name in ("request", "position"):
        return kind == pa.int32()
    if name == "phase":
        text = kind.value_type if pa.types.is_dictionary(kind) else kind
        return bool(pa.types.is_string(text) or pa.types.is_large_string(text))
    return bool(pa.types.is_fixed_size_list(kind) and kind.value_type == pa.int16())


def _joined(
    parts: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_], npt.NDArray[np.int16]]],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_], npt.NDArray[np.int16]]:
    positions, decodes, experts = zip(*parts, strict=True)
    return np.concatenate(positions), np.concatenate(decodes), np.concatenate(experts)


def write_trace(
    path: Path,
    meta: TraceMeta,
    requests: Iterable[RequestRouting],
    *,
    on_request: Callable[[RequestRouting], None] | None = None,
) -> int:
    """Write a trace, streamed, to a temporary name that becomes *path* at the end; return how many requests it holds.

    A request whose number is taken gets the next number above all so far. ``num_requests`` in the file is what was
    written, whatever *meta* says.

    Raises
    ------
    OutputError
        If the file cannot be written; nothing is left behind.
    TraceError
        If there is no request at all.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        count = _write(temporary, meta, requests, on_request)
        if count == 0:
            raise TraceError(f"{path}: there is no request to write; a trace holds at least one")
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); give a path with room that you may write"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
    return count


def _write(
    temporary: Path,
    meta: TraceMeta,
    requests: Iterable[RequestRouting],
    on_request: Callable[[RequestRouting], None] | None,
) -> int:
    schema = _schema(len(meta.moe_layers) * meta.top_k)
    used: set[int] = set()
    highest = -1
    waiting: list[RequestRouting] = []
    rows = 0
    with pq.ParquetWriter(temporary, schema, compression="zstd", compression_level=3, use_dictionary=True) as writer:
        for request in requests:
            number = request.request if request.request not in used else highest + 1
            used.add(number)
            highest = max(highest, number)
            waiting.append(
                RequestRouting(
                    request=number, position=request.position, num_prefill=request.num_prefill, experts=request.experts
                )
            )
            rows += len(request.position)
            if rows >= ROWS_A_GROUP:
                writer.write_batch(_batch(waiting, schema))
                waiting, rows = [], 0
            if on_request is not None:
                on_request(request)
        if waiting:
            writer.write_batch(_batch(waiting, schema))
        writer.add_key_value_metadata({**meta.to_strings(), "num_requests": str(len(used))})
    return len(used)


def _schema(width: int) -> pa.Schema:
    experts = pa.list_(pa.field("element", pa.int16(), nullable=False), width)
    phase = pa.dictionary(pa.int8(), pa.string())
    return pa.schema(
        [
            pa.field("request", pa.int32(), nullable=False),
            pa.field("position", pa.int32(), nullable=False),
            pa.field("phase", phase, nullable=False),
            pa.field("experts", experts, nullable=False),
        ]
    )


def _batch(requests: list[RequestRouting], schema: pa.Schema) -> pa.RecordBatch:
    lengths = [len(request.position) for request in requests]
    codes = np.concatenate([np.arange(n) >= r.num_prefill for n, r in zip(lengths, requests, strict=True)]).astype(
        np.int8
    )
    flat = np.concatenate([request.experts.reshape(-1) for request in requests])
    columns = [
        pa.array(np.repeat(np.array([r.request for r in requests], np.int32), lengths)),
        pa.array(np.concatenate([r.position for r in requests]).astype(np.int32)),
        pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(PHASES)),
        pa.FixedSizeListArray.from_arrays(pa.array(flat.astype(np.int16)), type=schema.field("experts").type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
