"""Columns of a Parquet or CSV file, read with checks: every fault of the file is one line."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from wss.errors import KernelError, did_you_mean
from wss.files import reason_of
from wss.reading import open_plain, read_plain
from wss.records import BoolArray, FloatArray, IntArray
from wss.traces.parquet import read_table

LARGEST = 10**9  # of counts, such as the rows of a matrix
LONGEST = 1e10  # microseconds of a kernel
_MAGIC = b"PAR1"  # how a Parquet file begins


@dataclass(frozen=True)
class Number:
    """What a column of numbers may hold: *low* to *high*; fractions only if not *whole*."""

    low: float = 1.0
    high: float = LARGEST
    whole: bool = True
    needed: bool = True

    def described(self) -> str:
        """Return what a value should be, in words."""
        return f"a {'whole ' * self.whole}number, {_plain(self.low)} to {_plain(self.high)}"


@dataclass(frozen=True)
class Text:
    """A column of text: the index of each row's word, [rows], in *words*."""

    words: tuple[str, ...]
    codes: IntArray

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Text:
        """Return the column of these words, [rows]."""
        words, codes = np.unique(np.asarray(values), return_inverse=True)
        return cls(tuple(words.tolist()), codes)

    def where(self, keep: BoolArray | IntArray) -> Text:
        """Return the rows of a mask, or of indices."""
        return Text(self.words, self.codes[keep])

    def renamed(self, names: Mapping[str, str]) -> Text:
        """Return the column with other words: *names* by word."""
        words = sorted({names[word] for word in self.words})
        place = np.array([words.index(names[word]) for word in self.words], np.int64)
        return Text(tuple(words), place[self.codes])

    def __getitem__(self, row: int) -> str:
        return self.words[int(self.codes[row])]


@dataclass(frozen=True)
class Columns:
    """The columns of a file by name: numbers, [rows]; flags, [rows]; and text."""

    count: int
    numbers: Mapping[str, FloatArray]
    flags: Mapping[str, BoolArray]
    texts: Mapping[str, Text]

    def where(self, keep: BoolArray | IntArray) -> Columns:
        """Return the rows of a mask, or of indices."""
        indices = np.flatnonzero(keep) if keep.dtype == np.bool_ else keep
        return Columns(
            len(indices),
            {name: values[indices] for name, values in self.numbers.items()},
            {name: values[indices] for name, values in self.flags.items()},
            {name: values.where(indices) for name, values in self.texts.items()},
        )

    def with_texts(self, **texts: Text) -> Columns:
        """Return the columns with these of text added or replaced."""
        return replace(self, texts={**self.texts, **texts})

    def groups(self, names: Sequence[str]) -> Iterator[tuple[tuple[str, ...], IntArray]]:
        """Yield each combination of words in the text columns *names*, sorted, with the indices of its rows."""
        if not self.count:
            return
        code = np.zeros(self.count, np.int64)
        for name in names:
            code = np.unique(code * len(self.texts[name].words) + self.texts[name].codes, return_inverse=True)[1]
        order = np.argsort(code, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(code[order])) + 1)
        yield from sorted((tuple(self.texts[name][part[0]] for name in names), part) for part in parts)


@dataclass(frozen=True)
class Layout:
    """The columns of one kind of file. *texts* that are *optional* are empty, and *flags* false, if they are absent."""

    numbers: Mapping[str, Number]
    texts: tuple[str, ...]
    optional: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    @property
    def needed(self) -> set[str]:
        """The names of the columns without which a file is of another kind."""
        return {name for name, kind in self.numbers.items() if kind.needed} | {*self.texts} - {*self.optional}


def open_table(path: Path, texts: Sequence[str]) -> pa.Table:
    """Return the table in a Parquet or CSV file; *texts* are the columns that are text even if they hold numbers.

    Raises KernelError if it cannot be read, has no rows, or has a column twice.
    """
    way_out = "give a whole Parquet or CSV file of measurements"
    try:
        with open_plain(path) as file:
            is_parquet = file.read(len(_MAGIC)) == _MAGIC
        if not is_parquet and path.suffix == ".parquet":
            raise KernelError(f"{path}: is not a Parquet file, though its name says so; {way_out}")
        table = read_table(path) if is_parquet else _csv(path, texts)
        names = table.column_names  # decoded here
    except FileNotFoundError:
        raise KernelError(f"{path}: there is no such file; {way_out}") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise KernelError(f"{path}: cannot be read ({reason_of(error)}); {way_out}") from None
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise KernelError(*(f"{path}: has the column {_shown(name)} twice; keep one" for name in twice))
    if not table.num_rows:
        raise KernelError(f"{path}: has no rows; {way_out}")
    return table


def _csv(path: Path, texts: Sequence[str]) -> pa.Table:
    content = read_plain(path)
    if not content.strip():
        raise ValueError("it is empty")
    kinds = dict.fromkeys(texts, pa.string())
    options = pa.csv.ConvertOptions(column_types=kinds, strings_can_be_null=False)
    return pa.csv.read_csv(io.BytesIO(content), convert_options=options)


def columns_of(path: Path, table: pa.Table, layout: Layout) -> Columns:
    """Return the columns of *layout* in *table*; others are ignored.

    Raises KernelError with one line per column that is absent, or holds a wrong type or values out of range.
    """
    present = {*table.column_names}
    faults = [
        f"{path}: has no column {name}; {did_you_mean(name, present)}" for name in sorted(layout.needed - present)
    ]
    numbers: dict[str, FloatArray] = {}
    flags = {name: np.zeros(table.num_rows, np.bool_) for name in layout.flags}
    texts = {name: Text(("",), np.zeros(table.num_rows, np.int64)) for name in layout.optional}
    for name in sorted(present & {*layout.numbers, *layout.texts, *layout.flags}):
        try:
            if name in layout.numbers:
                numbers[name] = _numbers(table[name], layout.numbers[name])
            elif name in layout.flags:
                flags[name] = _flags(table[name])
            else:
                texts[name] = _texts(table[name])
        except ValueError as error:
            faults.append(f"{path}: column {name}: {error}")
    if faults:
        raise KernelError(*faults)
    return Columns(table.num_rows, numbers, flags, texts)


def _numbers(column: pa.ChunkedArray, kind: Number) -> FloatArray:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise ValueError(f"holds {_type(column)}; it should hold numbers, each {kind.described()}")
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise ValueError(f"{_where(row, column.null_count)} is empty; it should be {kind.described()}")
    values = np.asarray(column.to_numpy(), np.float64)
    bad = ~((values >= kind.low) & (values <= kind.high))  # true of NaN
    if kind.whole:
        bad |= values != np.rint(values)
    if bad.any():
        row = int(bad.argmax())
        what = f"{_where(row, int(bad.sum()))} is {values[row]:.6g}"
        raise ValueError(f"{what}; it should be {kind.described()}")
    return values


def _flags(column: pa.ChunkedArray) -> BoolArray:
    if not pa.types.is_boolean(column.type) or column.null_count:
        raise ValueError(f"holds {_type(column)}; it should hold true or false in every row")
    return np.asarray(column.to_numpy(), np.bool_)


def _texts(column: pa.ChunkedArray) -> Text:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise ValueError(f"holds {_type(column)}; it should hold text")
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise ValueError(f"{_where(row, column.null_count)} is empty; it should hold text")
    whole = column.cast(pa.string()).combine_chunks().dictionary_encode()
    return Text(tuple(whole.dictionary.to_pylist()), np.asarray(whole.indices.to_numpy(), np.int64))


def _where(row: int, count: int) -> str:
    """Return the first of *count* bad rows; rows are counted from 1, as in an editor without the heading."""
    return f"row {row + 1}" + (f" (and {count - 1} more)" if count > 1 else "")


def _type(column: pa.ChunkedArray) -> str:
    if column.null_count:
        return "empty values"
    kinds = ((pa.types.is_string, "text"), (pa.types.is_boolean, "true and false"), (pa.types.is_integer, "numbers"))
    found = next((word for of_kind, word in kinds if of_kind(column.type)), None)
    return found or f"values of type {str(column.type)[:40]}"


def _plain(value: float) -> str:
    return f"{value:.0f}" if value == int(value) and abs(value) < 1e6 else f"{value:g}"


def _shown(name: str) -> str:
    return repr(name)[:60]
