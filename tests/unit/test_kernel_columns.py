"""Columns of files of measurements: what is read, and that every fault is one line."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kit.kernels import TABLES, changed, save, without

from wss.errors import KernelError
from wss.report.kernels.check import KINDS, check
from wss.traces.columns import Columns, Text, columns_of, open_table

GEMM = TABLES["gemm"]
LAYOUTS = {kind.name: kind.layout for kind in KINDS}


def read(path, kind="gemm"):
    layout = LAYOUTS[kind]
    return columns_of(path, open_table(path, layout.texts), layout)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("kind", TABLES)
def test_csv_and_parquet_are_read_alike(tmp_path, kind, suffix):
    found = read(save(tmp_path / f"k.{suffix}", TABLES[kind]), kind)
    for name, column in TABLES[kind].items():
        if name in LAYOUTS[kind].numbers:
            assert found.numbers[name].tolist() == column
        elif name in LAYOUTS[kind].texts:
            assert [found.texts[name][i] for i in range(found.count)] == column
        elif name in LAYOUTS[kind].flags:
            assert found.flags[name].tolist() == column


def test_text_that_looks_like_a_number_stays_text(tmp_path):
    found = read(save(tmp_path / "k.csv", {**GEMM, "version": ["0.24", "1", "1e3"]}))
    assert [found.texts["version"][i] for i in range(3)] == ["0.24", "1", "1e3"]


def test_dictionaries_and_small_types_are_read(tmp_path):
    """As the packs have them."""
    table = pa.table(GEMM)
    for name, kind in {"m": pa.int16(), "k": pa.float32(), "precision": pa.dictionary(pa.int8(), pa.string())}.items():
        table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
    pq.write_table(table, tmp_path / "k.parquet")
    found = read(tmp_path / "k.parquet")
    assert found.numbers["m"].tolist() == GEMM["m"]
    assert found.texts["precision"][2] == "fp8_block"


def test_absent_optional_columns_are_empty_and_flags_false(tmp_path):
    found = read(save(tmp_path / "k.parquet", without(TABLES["moe_layer"], "untuned", "version")), "moe_layer")
    assert not found.flags["untuned"].any()
    assert found.texts["version"][0] == ""


def test_groups_are_sorted_and_hold_every_row_once():
    columns = read_text({"a": ["y", "x", "y", "x"], "b": ["1", "1", "0", "1"]})
    found = [(words, rows.tolist()) for words, rows in columns.groups(["a", "b"])]
    assert found == [(("x", "1"), [1, 3]), (("y", "0"), [2]), (("y", "1"), [0])]


def read_text(texts):
    return Columns(4, {}, {}, {name: Text.of(np.array(words)) for name, words in texts.items()})


def test_renamed_words_that_become_equal_are_one():
    found = Text.of(["b", "a", "c"]).renamed({"a": "x", "b": "y", "c": "x"})
    assert (found.words, [found[i] for i in range(3)]) == (("x", "y"), ["y", "x", "x"])


NAN, INF = float("nan"), float("inf")
BAD_VALUES = {
    "no time": ({"time_us": NAN}, "column time_us: row 1 is nan; it should be a number, 1e-06 to 1e+10"),
    "an endless time": ({"time_us": INF}, "column time_us: row 1 is inf; it should be"),
    "a negative time": ({"time_us": -1.0}, "column time_us: row 1 is -1; it should be"),
    "a time of zero": ({"time_us": 0.0}, "column time_us: row 1 is 0; it should be"),
    "half a row": ({"m": 1.5}, "column m: row 1 is 1.5; it should be a whole number, 1 to 1e+09"),
    "no row": ({"m": 0}, "column m: row 1 is 0; it should be"),
    "a size of nothing": ({"n": None}, "column n: row 1 is empty; it should be a whole number"),
    "an unknown GPU": ({"gpu": "H100-PCI"}, "column gpu: 'H100-PCI' is not a known GPU; did you mean 'H100-SXM'?"),
    "no precision": ({"precision": None}, "column precision: row 1 is empty; it should hold text"),
}


@pytest.mark.parametrize("case", BAD_VALUES)
def test_a_bad_value_is_named(tmp_path, case):
    values, expected = BAD_VALUES[case]
    path = save(tmp_path / "k.parquet", changed(GEMM, **values))
    with pytest.raises(KernelError) as error:
        check(path)
    (fault,) = error.value.faults
    assert fault.startswith(f"{path}: {expected}")


BAD_TABLES = {
    "columns missing": (
        without(GEMM, "m", "time_us"),
        ["has no column m; a table of gemm has one", "no column time_us"],
    ),
    "none of the columns": ({"x": [1]}, ["has the columns of no kind of table; give one of moe_deepep, moe_layer"]),
    "text for numbers": (
        {**GEMM, "m": ["1", "2", "x"]},
        ["column m: holds text; it should hold numbers, each a whole"],
    ),
    "flags for numbers": ({**GEMM, "k": [True] * 3}, ["column k: holds true and false; it should hold numbers"]),
    "lists for numbers": ({**GEMM, "k": [[1]] * 3}, ["column k: holds values of type list<"]),
    "numbers for text": ({**GEMM, "gpu": [1, 2, 3]}, ["column gpu: holds numbers; it should hold text"]),
    "two faults": (
        {**GEMM, "m": [0, 0, 1], "n": [-1, 1, 1]},
        ["column m: row 1 (and 1 more) is 0", "column n: row 1 is -1"],
    ),
    "numbers for flags": (
        {**TABLES["moe_layer"], "untuned": [0, 1, 0, 1, 0]},
        ["column untuned: holds numbers; it should hold true or false in every row"],
    ),
    "no rows": ({name: pa.array([], pa.int64()) for name in GEMM}, ["has no rows"]),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table_is_named(tmp_path, case):
    table, expected = BAD_TABLES[case]
    path = save(tmp_path / "k.parquet", table)
    with pytest.raises(KernelError) as error:
        check(path)
    assert len(error.value.faults) == len(expected)
    for fault, part in zip(error.value.faults, expected, strict=True):
        assert fault.startswith(f"{path}: ")
        assert part in fault


def test_a_column_that_is_there_twice_is_named(tmp_path):
    table = pa.table(GEMM).append_column("m", pa.array([1, 2, 3]))
    pq.write_table(table, tmp_path / "k.parquet")
    with pytest.raises(KernelError, match="has the column 'm' twice; keep one"):
        check(tmp_path / "k.parquet")


CONTENTS = {
    "empty.csv": (b"", "cannot be read (it is empty)"),
    "text.parquet": (b"m,n\n1,2\n", "is not a Parquet file, though its name says so"),
    "half.parquet": (b"PAR1" + bytes(40), "cannot be read ("),
    "binary.csv": (bytes(range(256)) * 4, ""),
    "not utf-8.csv": (b"m,n,\xff\n1,2,3\n", "cannot be read ('utf-8' codec"),
    "ragged.csv": (b"m,n,k\n1,2\n", "cannot be read ("),
    "heading.csv": (b"m,n,k,time_us,precision\n", "has no rows"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_that_is_no_table_is_named(tmp_path, name):
    content, expected = CONTENTS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(KernelError) as error:
        check(tmp_path / name)
    assert error.value.faults[0].startswith(f"{tmp_path / name}: {expected}")


@pytest.mark.parametrize("name", [".", "none.csv"])
def test_a_folder_or_nothing_is_named(tmp_path, name):
    with pytest.raises(KernelError, match=r"there is no such file|it is not a file but a folder"):
        check(tmp_path / name)
