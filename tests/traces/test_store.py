"""Trace files: what is written is read, in bounded memory, and what is wrong is said in one line."""

import dataclasses
import hashlib
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wss.errors import OutputError, TraceError
from wss.traces.reader import TraceReader, write_trace
from wss.traces.schema import FORMAT, RequestRouting, TraceMeta


def read(path: Path, **how: object) -> list[RequestRouting]:
    with TraceReader(path) as reader:
        return list(reader.requests(**how))


@pytest.fixture
def three(meta, make_routing):
    return [make_routing(meta, 7, 2, 3), make_routing(meta, 4, 0, 2), make_routing(meta, 9, 1, 0)]


@pytest.fixture
def file(tmp_path, meta, three) -> Path:
    write_trace(tmp_path / "t.parquet", meta, three)
    return tmp_path / "t.parquet"


# -- what is written is read -------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(any), min_size=1, max_size=8), data=st.data()
)
def test_round_trip(tmp_path_factory, meta, make_routing, same_request, sizes, data):
    top_k = data.draw(st.integers(1, 6))
    meta = dataclasses.replace(meta, top_k=top_k)
    given_requests = [make_routing(meta, 3 * i, *size, seed=top_k) for i, size in enumerate(sizes)]
    path = tmp_path_factory.mktemp("round") / "t.parquet"
    assert write_trace(path, meta, given_requests) == len(sizes)
    assert all(map(same_request, read(path), given_requests))
    with TraceReader(path) as reader:
        assert reader.meta == dataclasses.replace(meta, num_requests=len(sizes))
        assert reader.num_rows == sum(map(sum, sizes))
        assert reader.request_ids().dtype == np.int32
        assert reader.request_ids().tolist() == [r.request for r in given_requests]
        assert reader.digest() == hashlib.sha256(path.read_bytes()).hexdigest()


def test_columns_and_metadata_are_those_of_the_format(file):
    schema = pq.read_schema(file)
    element = pa.field("element", pa.int16(), nullable=False)
    wanted = {
        "request": pa.int32(),
        "position": pa.int32(),
        "phase": pa.dictionary(pa.int8(), pa.string()),
        "experts": pa.list_(element, 6),
    }
    assert {column.name: column.type for column in schema} == wanted
    assert not any(column.nullable for column in schema)
    assert schema.metadata[b"format"].decode() == FORMAT
    assert schema.metadata[b"moe_layers"] == b"[1,3,4]"
    assert schema.metadata[b"num_requests"] == b"3"


@pytest.mark.parametrize("groups", [100, 4096, 10**6])
def test_requests_straddle_batches_and_row_groups(tmp_path, meta, make_routing, same_request, groups):
    many = [make_routing(meta, i, 3, 400) for i in range(30)]
    path = tmp_path / "t.parquet"
    write_trace(path, meta, many)
    whole = pq.read_table(path)
    pq.write_table(whole, path, row_group_size=groups)
    found = read(path)
    assert len(found) == 30
    assert all(map(same_request, found, many))


def test_row_groups_hold_4096_rows(tmp_path, meta, make_routing):
    path = tmp_path / "t.parquet"
    write_trace(path, meta, [make_routing(meta, i, 0, n) for i, n in enumerate([9000, 10, 4000, 300])])
    data = pq.ParquetFile(path).metadata
    assert [data.row_group(i).num_rows for i in range(data.num_row_groups)] == [4096, 4096, 4096, 1022]
    assert data.row_group(0).column(0).compression == "ZSTD"


def test_what_is_yielded_does_not_hold_its_batch(file):
    assert all(r.experts.base is None or r.experts.base.size == r.experts.size for r in read(file))


def test_only_and_limit(file):
    assert [r.request for r in read(file, only={9, 7})] == [7, 9]
    assert [r.request for r in read(file, limit=2)] == [7, 4]
    assert [r.request for r in read(file, only=[9, 4, 7], limit=1)] == [7]
    assert [r.request for r in read(file, limit=99)] == [7, 4, 9]
    assert read(file, limit=0) == []
    assert read(file, only=[]) == []


def test_a_request_that_is_not_there_is_an_error(file):
    with pytest.raises(TraceError, match=r"t\.parquet: has no request 5;"):
        read(file, only=[7, 5])


def test_reading_stops_at_the_limit(tmp_path, file):
    """A fault after the last wanted request is not met; one before it is."""
    broken = change(tmp_path, file, {"position": lambda p: [*p[:-1], -1]})
    assert len(read(broken, limit=2)) == 2
    with pytest.raises(TraceError):
        read(broken, limit=3)


def test_memory_is_bounded(tmp_path, meta, make_routing):
    """Reading six times as many requests from one row group takes no more memory."""
    meta = dataclasses.replace(meta, num_layers=30, moe_layers=tuple(range(30)), num_experts=128, top_k=4)
    path, peaks = tmp_path / "t.parquet", []
    block = [make_routing(meta, i, 0, 500) for i in range(20)]
    for times in (1, 6):
        requests = (dataclasses.replace(r, request=20 * k + r.request) for k in range(times) for r in block)
        write_trace(path, meta, requests)
        pq.write_table(pq.read_table(path), path, row_group_size=10**7)
        with TraceReader(path) as reader:
            before, peak = pa.total_allocated_bytes(), 0
            for _ in reader.requests():
                peak = max(peak, pa.total_allocated_bytes() - before)
            peaks.append(peak)
    assert pq.ParquetFile(path).metadata.num_row_groups == 1
    assert peaks[1] < 1.3 * peaks[0]


@pytest.mark.parametrize("kind", ["plain", "large", "int32 index", "nullable"])
def test_other_ways_to_write_a_phase_or_a_child(file, tmp_path, same_request, three, kind):
    table = pq.read_table(file)
    plain = table["phase"].cast(pa.string())
    if kind == "nullable":
        flat = table["experts"].combine_chunks().flatten()
        table = table.set_column(3, "experts", pa.FixedSizeListArray.from_arrays(flat, 6))
    else:
        column = {
            "plain": plain,
            "large": plain.cast(pa.large_string()),
            "int32 index": plain.cast(pa.dictionary(pa.int32(), pa.string())),
        }
        table = table.set_column(2, "phase", column[kind])
    pq.write_table(table, tmp_path / "other.parquet")
    assert all(map(same_request, read(tmp_path / "other.parquet"), three))


def test_real_files_are_valid(shared, same_request, tmp_path):
    """Every shared file reads, and writing it again gives the same requests."""
    files = sorted((shared / "parquet").glob("*.parquet"))
    assert len(files) >= 10
    for path in files:
        with TraceReader(path) as reader:
            ids = reader.request_ids().tolist()
            assert write_trace(tmp_path / "again.parquet", reader.meta, reader.requests(limit=20)) == min(20, len(ids))
        assert all(map(same_request, read(tmp_path / "again.parquet"), read(path, limit=20)))
    last = max(files, key=lambda path: path.stat().st_size)
    assert len(read(last)) == pq.read_table(last, columns=["request"])["request"].unique().__len__()


# -- what is wrong is said ---------------------------------------------------------------------------------------------


def change(tmp_path, file, columns=None, keys=None, types=None, drop=()) -> Path:
    """A copy of *file* with values, metadata or types changed."""
    table = pq.read_table(file)
    for name, function in (columns or {}).items():
        kind = (types or {}).get(name, table.schema.field(name).type)
        at = table.schema.names.index(name)
        table = table.set_column(at, name, pa.array(function(table[name].to_pylist()), kind))
    for name in drop:
        table = table.drop_columns(name)
    pairs = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    pairs.update(keys or {})
    pairs = {key: value for key, value in pairs.items() if value is not None}
    path = tmp_path / "changed.parquet"
    pq.write_table(table.replace_schema_metadata(pairs), path)
    return path


def put(row: int, at: int, value: object):
    """Put *value* at place *at* of a row's experts."""

    def function(rows):
        rows[row][at] = value
        return rows

    return function


ANY_EXPERTS = {"experts": pa.list_(pa.int16(), 6)}
ANY_PHASE = {"phase": pa.string()}

# What is done to the trace of requests 7 (positions 0..4), 4 (0..1), 9 (0) -> a piece of the message.
ROWS = {
    "expert too high": (
        {"columns": {"experts": put(1, 3, 6)}},
        r"request 7, position 1, layer 3: expert 6 does not exist",
    ),
    "expert negative": ({"columns": {"experts": put(5, 0, -1)}}, r"request 4, position 0, layer 1: expert -1 does not"),
    "expert twice": (
        {"columns": {"experts": lambda rows: [*rows[:4], [0, 1, 2, 3, 5, 5], *rows[5:]]}},
        r"request 7, position 4, layer 4: experts \[5, 5\] repeat",
    ),
    "request comes back": ({"columns": {"request": lambda r: [*r[:-1], 7]}}, r"request 7: its rows are not together"),
    "position falls": ({"columns": {"position": lambda p: [0, 2, 1, *p[3:]]}}, r"request 7, position 1: follows 2"),
    "position repeats": ({"columns": {"position": lambda p: [0, 1, 1, *p[3:]]}}, r"request 7, position 1: follows 1"),
    "position negative": ({"columns": {"position": lambda p: [-1, *p[1:]]}}, r"request 7, position -1: is negative"),
    "request negative": (
        {"columns": {"request": lambda r: [-2 if x == 7 else x for x in r]}},
        r"request -2: its number",
    ),
    "prefill after decode": (
        {"columns": {"phase": lambda p: ["decode", *p[1:]]}},
        r"request 7, position 1: a prefill row follows decode",
    ),
    "phase unknown": (
        {"columns": {"phase": lambda p: ["warmup", *p[1:]]}},
        r"request 7, position 0: phase 'warmup' is not",
    ),
    "phase null": (
        {"columns": {"phase": lambda p: [p[0], None, *p[2:]]}, "types": ANY_PHASE},
        r"row 1: column 'phase' holds",
    ),
    "request null": ({"columns": {"request": lambda r: [*r[:-1], None]}}, r"row 7: column 'request' holds a null"),
    "position null": ({"columns": {"position": lambda p: [None, *p[1:]]}}, r"row 0: column 'position' holds a null"),
    "list null": (
        {"columns": {"experts": lambda e: [*e[:3], None, *e[4:]]}, "types": ANY_EXPERTS},
        r"row 3: column 'experts'",
    ),
    "id null": (
        {"columns": {"experts": put(2, 1, None)}, "types": ANY_EXPERTS},
        r"row 2: column 'experts' holds a null",
    ),
}

FILES = {
    "no format": ({"keys": {"format": None}}, r"not a routing trace \(it names no format\)"),
    "other format": ({"keys": {"format": "moe-routing-trace/2"}}, r"its format is 'moe-routing-trace/2'"),
    "key missing": ({"keys": {"source": None}}, r"metadata key 'source' is missing"),
    "number missing": ({"keys": {"top_k": None}}, r"metadata key 'top_k' is missing"),
    "not a number": ({"keys": {"num_experts": "many"}}, r"'num_experts' is 'many'; it must be a whole number"),
    "very long number": ({"keys": {"num_experts": "9" * 5000}}, r"'num_experts' is '9+'; it must be a whole"),
    "zero": ({"keys": {"top_k": "0"}}, r"'top_k' is '0'"),
    "layers no list": ({"keys": {"moe_layers": "3"}}, r"'moe_layers' is '3'; it must be a JSON list"),
    "layers of text": ({"keys": {"moe_layers": '["1"]'}}, r"must be a JSON list of layer numbers"),
    "layers descend": ({"keys": {"moe_layers": "[3, 1, 4]"}}, r"moe_layers are not ascending"),
    "layers outside": ({"keys": {"moe_layers": "[1, 3, 5]"}}, r"must lie in 0\.\.4"),
    "top_k above experts": ({"keys": {"num_experts": "1"}}, r"top_k 2 exceeds num_experts"),
    "too many experts": ({"keys": {"num_experts": "40000"}}, r"num_experts 40000 exceeds"),
    "column missing": ({"drop": ["phase"]}, r"has 0 columns 'phase'"),
    "wide request": (
        {"columns": {"request": list}, "types": {"request": pa.int64()}},
        r"'request' is int64; it must be int32",
    ),
    "wide ids": (
        {"columns": {"experts": list}, "types": {"experts": pa.list_(pa.int32(), 6)}},
        r"'experts' is .*; it must be fixed_size_list<int16>\[6\]",
    ),
    "loose list": (
        {"columns": {"experts": list}, "types": {"experts": pa.list_(pa.int16())}},
        r"must be fixed_size_list",
    ),
    "width": ({"keys": {"moe_layers": "[1, 3]"}}, r"it must be fixed_size_list<int16>\[4\]"),
    "phase a number": (
        {"columns": {"phase": lambda p: [0] * len(p)}, "types": {"phase": pa.int8()}},
        r"'phase' is int8; it must be string",
    ),
    "no rows": ({"columns": {}}, r"holds no rows"),
}


def one_line(error: pytest.ExceptionInfo, path: Path) -> None:
    assert len(error.value.faults) == 1
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert "; " in str(error.value)  # what would be right


@pytest.mark.parametrize("name", ROWS)
def test_a_wrong_row_is_named(tmp_path, file, name):
    how, message = ROWS[name]
    path = change(tmp_path, file, **how)
    with TraceReader(path) as reader, pytest.raises(TraceError, match=message) as error:
        list(reader.requests())
    one_line(error, path)


@pytest.mark.parametrize("name", ["request comes back", "request null"])
def test_request_ids_finds_faults_of_its_column(tmp_path, file, name):
    how, message = ROWS[name]
    with TraceReader(change(tmp_path, file, **how)) as reader, pytest.raises(TraceError, match=message):
        reader.request_ids()


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_file_is_refused_when_opened(tmp_path, file, name):
    how, message = FILES[name]
    path = change(tmp_path, file, **how)
    if name == "no rows":
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(TraceError, match=message) as error:
        TraceReader(path)
    one_line(error, path)


def test_all_faults_come_at_once(tmp_path, file):
    path = change(tmp_path, file, keys={"top_k": "x", "source": None, "moe_layers": "{}"})
    with pytest.raises(TraceError) as error:
        TraceReader(path)
    assert len(error.value.faults) == 3
    assert all(fault.startswith(f"{path}: ") for fault in error.value.faults)


def test_metadata_that_is_not_text(tmp_path, file):
    table = pq.read_table(file)
    path = tmp_path / "bytes.parquet"
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"note": b"\xff\xfe"}), path)
    with pytest.raises(TraceError, match="not UTF-8") as error:
        TraceReader(path)
    one_line(error, path)


def test_phase_that_is_not_text(tmp_path, file):
    table = pq.read_table(file)
    bad = pa.array([b"\xff"] * len(table)).view(pa.string())
    path = tmp_path / "bytes.parquet"
    pq.write_table(table.set_column(2, "phase", bad), path)
    with pytest.raises(TraceError, match="is not known") as error:
        read(path)
    one_line(error, path)


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "empty", "text", "no end", "no start"])
def test_what_is_no_parquet_file(tmp_path, file, kind):
    path, data = tmp_path / "x.parquet", file.read_bytes()
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind != "missing":
        path.write_bytes(
            {"empty": b"", "text": b"request,position\n", "no end": data[:-9], "no start": data[99:]}[kind]
        )
    with pytest.raises(TraceError) as error:
        read(path)
    one_line(error, path)


def test_any_flipped_bit_of_the_data_is_found(tmp_path, meta, make_routing):
    path = tmp_path / "t.parquet"
    write_trace(path, meta, [make_routing(meta, i, 1, 300) for i in range(10)])
    data = path.read_bytes()
    column = pq.ParquetFile(path).metadata.row_group(0).column(3)
    end = column.dictionary_page_offset + column.total_compressed_size
    for back in range(1, 1000, 41):
        path.write_bytes(data[: end - back] + bytes([data[end - back] ^ 4]) + data[end - back + 1 :])
        with pytest.raises(TraceError, match="is damaged") as error:
            read(path)
        one_line(error, path)


def test_no_permission(tmp_path, file, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("wss.traces.reader.open_plain", refuse)
    with pytest.raises(TraceError, match="Permission denied") as error:
        TraceReader(file)
    one_line(error, file)


# -- writing -----------------------------------------------------------------------------------------------------------


def test_a_number_that_is_taken_is_replaced(tmp_path, meta, make_routing):
    path = tmp_path / "t.parquet"
    numbers = [3, 8, 3, 9, 3]
    write_trace(path, meta, [make_routing(meta, n, 1, 1, seed=i) for i, n in enumerate(numbers)])
    with TraceReader(path) as reader:
        assert reader.request_ids().tolist() == [3, 8, 9, 10, 11]
        assert reader.meta.note == "3 requests renumbered, their numbers being taken"


def test_finish_has_the_last_word(tmp_path, meta, three):
    told = []
    path = tmp_path / "t.parquet"
    finish = lambda meta: dataclasses.replace(meta, note=f"{len(told)} seen", num_requests=77)  # noqa: E731
    write_trace(path, meta, three, on_request=told.append, finish=finish)
    with TraceReader(path) as reader:
        assert (reader.meta.note, reader.meta.num_requests) == ("3 seen", 3)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError, TraceError])
def test_an_interrupted_write_leaves_what_was_there(tmp_path, meta, make_routing, stop):
    path = tmp_path / "t.parquet"
    path.write_text("before")

    def requests():
        yield make_routing(meta, 0, 1, 5000)
        assert len(list(tmp_path.iterdir())) == 2
        raise stop("enough")

    with pytest.raises(stop, match="enough"):
        write_trace(path, meta, requests())
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]
    assert path.read_text() == "before"


def wrong(routing: RequestRouting, **how: object) -> RequestRouting:
    return dataclasses.replace(routing, **how)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"experts": np.zeros((5, 3, 1), np.int16)}, "has experts of shape"),
        ({"experts": np.zeros((5, 3, 2), np.int16)}, "repeat"),
        ({"experts": np.array([[[0, 6]] * 3] * 5, np.int16)}, "expert 6 does not exist"),
        ({"request": 2**31}, "number is out of range"),
        ({"num_prefill": 6}, "6 of them prefill"),
        (
            {"position": np.zeros(0, np.int32), "experts": np.zeros((0, 3, 2), np.int16), "num_prefill": 0},
            "has 0 tokens",
        ),
    ],
)
def test_only_valid_requests_are_written(tmp_path, meta, three, how, message):
    with pytest.raises(TraceError, match=message):
        write_trace(tmp_path / "t.parquet", meta, [wrong(three[0], **how)])
    assert not list(tmp_path.iterdir())


def test_no_request_is_no_trace(tmp_path, meta):
    with pytest.raises(TraceError, match="no request to write"):
        write_trace(tmp_path / "t.parquet", meta, [])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["no/folder/t.parquet", "file/t.parquet", "folder", "x" * 256])
def test_a_path_that_cannot_be_written(tmp_path, meta, three, name):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError) as error:
        write_trace(tmp_path / name, meta, three)
    one_line(error, tmp_path / name)
    assert {p.name for p in tmp_path.iterdir()} == {"file", "folder"}


def test_a_full_disk(tmp_path, meta, three, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(OutputError, match="No space left") as error:
        write_trace(tmp_path / "t.parquet", meta, three)
    one_line(error, tmp_path / "t.parquet")
    assert not list(tmp_path.iterdir())


def test_synthetic_is_told_by_the_source(meta):
    assert not meta.synthetic
    assert dataclasses.replace(meta, source="synthetic: wss trace synth, seed 0").synthetic


def test_metadata_round_trip(meta):
    assert TraceMeta.from_keys(meta.to_keys(), Path("x")) == meta


def test_a_part_of_a_trace_may_keep_the_metadata_of_the_whole(tmp_path, meta):
    """Users cut traces with their own tools: rows of one request, all key/value pairs as they were, some left out."""
    routings = [
        RequestRouting(
            request=number,
            position=np.arange(2, dtype=np.int32),
            num_prefill=1,
            experts=np.tile(np.arange(meta.top_k, dtype=np.int16), (2, len(meta.moe_layers), 1)),
        )
        for number in range(3)
    ]
    write_trace(tmp_path / "whole", meta, routings)
    table = pq.read_table(tmp_path / "whole")
    kept = {k: v for k, v in table.schema.metadata.items() if k not in (b"note", b"subject", b"benchmark")}
    pq.write_table(table.slice(2, 2).replace_schema_metadata(kept), tmp_path / "part")
    with TraceReader(tmp_path / "part") as reader:
        assert reader.request_ids().tolist() == [1]
        assert len(list(reader.requests())) == 1
        assert (reader.meta.num_requests, reader.meta.note) == (3, "")


def test_what_we_write_opens_elsewhere(tmp_path, meta, three):
    path = tmp_path / "t.parquet"
    write_trace(path, meta, three)
    rows = sum(len(r.position) for r in three)
    assert pq.read_table(path).num_rows == rows
    polars = pytest.importorskip("polars", reason="polars is not installed")
    assert polars.read_parquet(path).height == rows
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    assert duckdb.sql(f"select count(*) from '{path}'").fetchall() == [(rows,)]
