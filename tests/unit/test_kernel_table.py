"""Tables of measured kernels: interpolation, and reading with checks."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import ROOT

from wss.errors import KernelError
from wss.hardware.kernels.table import AXES, Grid, KernelTable, axes_of
from wss.traces.kernel_table import FORMAT, read_kernels, write_kernels

ABOUT = {"format": FORMAT, "gpu": "H100-SXM", "source": "made by hand", "licence": "CC0"}
SQUARE = [(0, 0, 1.0), (0, 10, 3.0), (10, 0, 2.0), (10, 10, 8.0)]


def grid(points):
    """A grid of (axis values ..., seconds)."""
    whole = np.array(points, np.float64)
    return Grid.of(whole[:, :-1], whole[:, -1])


def at(points, *where):
    seconds, beyond, gap = grid(points).at(np.array([where], np.float64))
    return float(seconds[0]), bool(beyond[0]), bool(gap[0])


def test_between_four_corners_the_time_is_their_weighted_sum():
    assert at(SQUARE, 5, 5) == ((1 + 3 + 2 + 8) / 4, False, False)
    assert at(SQUARE, 2, 10) == (pytest.approx(0.8 * 3 + 0.2 * 8), False, False)


@given(st.integers(0, 3), st.integers(0, 3), st.randoms())
def test_a_grid_point_has_its_own_time_in_whatever_order_they_are(i, j, random):
    axes = (1, 4, 6, 100), (0, 3, 8, 9)
    points = [(a, b, 1.0 + 7 * x + y**2) for x, a in enumerate(axes[0]) for y, b in enumerate(axes[1])]
    random.shuffle(points)
    assert at(points, axes[0][i], axes[1][j])[0] == pytest.approx(1.0 + 7 * i + j**2, rel=1e-12)


def test_a_missing_corner_is_left_out_and_the_other_weights_are_scaled():
    """At (5, 2.5) the corners weigh 3/8, 1/8, 3/8 and, missing, 1/8."""
    assert at(SQUARE[:3], 5, 2.5)[0] == pytest.approx((3 * 1 + 1 * 3 + 3 * 2) / 7)


def test_beyond_the_last_point_the_last_cell_is_continued():
    assert at([(1, 5.0), (2, 6.0), (4, 10.0)], 8) == (18.0, True, False)
    assert at(SQUARE, 20, 10) == (13.0, True, False)


def test_beyond_the_last_point_no_time_is_below_that_at_the_edge():
    assert at([(1, 9.0), (2, 6.0)], 100) == (6.0, True, False)


def test_beyond_a_ragged_edge_the_time_at_the_edge_holds():
    """Of the two points that are nearest to the missing corner, the longer time is taken."""
    assert at(SQUARE[:3], 20, 10) == (3.0, True, True)
    assert at(SQUARE[:3], 20, 2.5) == (pytest.approx(2.0), True, False)


def test_below_the_first_point_and_on_an_axis_of_one_value_its_time_holds():
    assert at([(4, 5.0), (8, 9.0)], 1) == (5.0, False, False)
    assert at([(4, 5.0)], 9) == (5.0, True, False)


def test_in_a_gap_the_nearest_points_time_is_taken():
    ragged = [(0, 0, 1.0), (10, 0, 2.0), (20, 0, 3.0), (0, 10, 4.0), (0, 20, 5.0)]
    assert at(ragged, 19, 19)[2]
    assert at(ragged, 19, 11)[0] == 3.0


def test_notes_say_what_is_guessed():
    table = KernelTable(gpu="x", source="y", licence="z", grids={"head": grid([(1, 1.0), (2, 2.0)])})
    assert table.seconds("head", [[1.5]])[1] == ()
    (note,) = table.seconds("head", [[1.5], [3]])[1]
    assert "head is looked up beyond the table" in note
    with pytest.raises(KernelError, match="has no 'haed'; did you mean 'head'"):
        table.seconds("haed", [[1]])


def written(path, columns, about=ABOUT):
    pq.write_table(pa.table(columns).replace_schema_metadata(about), path)
    return path


def test_what_is_written_is_read_again(tmp_path):
    rng = np.random.default_rng(0)
    grids = {}
    for op in (*AXES, "dense.qkv_proj"):
        points = np.unique(rng.integers(0, 50, (20, len(axes_of(op)))), axis=0).astype(float)
        grids[op] = Grid.of(points, rng.random(len(points)) + 1e-6)
    table = KernelTable(gpu="H100-SXM", source="a page", licence="MIT", grids=grids)
    write_kernels(tmp_path / "k.parquet", table)
    found = read_kernels(tmp_path / "k.parquet")
    assert (found.gpu, found.source, found.licence) == ("H100-SXM", "a page", "MIT")
    assert {*found.grids} == {*grids}
    for op, own in grids.items():
        where = rng.random((30, len(axes_of(op)))) * 60
        assert found.seconds(op, where)[0] == pytest.approx(own.at(where)[0], rel=1e-12)


def test_absent_axes_are_those_that_no_operation_has(tmp_path):
    found = read_kernels(written(tmp_path / "k.parquet", {"op": ["head", "head"], "a": [1, 2], "us": [1.0, 2.0]}))
    assert found.seconds("head", [[1.5]])[0] == pytest.approx([1.5e-6])


FINE = {"op": ["moe", "moe"], "a": [1, 2], "b": [3, 3], "us": [1.0, 2.0]}
BAD = {
    "another format": (FINE, {**ABOUT, "format": "wss-loads/1"}, ["is in the format wss-loads/1; give"]),
    "no metadata": (FINE, {}, ["states no format; give"]),
    "no GPU and no licence": (
        FINE,
        {"format": FORMAT, "source": "a", "gpu": " "},
        ["its metadata has no gpu; state it", "its metadata has no licence; state it"],
    ),
    "an unknown operation": ({**FINE, "op": ["moe", "attn"]}, ABOUT, ["op 'attn': is not known; "]),
    "a dense part without a name": ({**FINE, "op": ["moe", "dense."]}, ABOUT, ["op 'dense.': is not known; "]),
    "an axis too many": ({**FINE, "c": [0, 1]}, ABOUT, ["op 'moe': has 2 axes, so that its column c should be 0"]),
    "a point twice": ({**FINE, "a": [1, 1]}, ABOUT, ["op 'moe': it has the point 1, 3 twice; keep one"]),
    "no time": ({"op": ["head"], "a": [1]}, ABOUT, ["has no column us; "]),
    "a time of zero": ({**FINE, "us": [1.0, 0.0]}, ABOUT, ["column us: row 2 is 0; it should be a number, 1e-06 to"]),
    "a time that is none": ({**FINE, "us": [float("nan"), 1.0]}, ABOUT, ["column us: row 1 is nan; it should be"]),
    "half a token": ({**FINE, "a": [1, 1.5]}, ABOUT, ["column a: row 2 is 1.5; it should be a whole number, 0 to"]),
    "text for a token": ({**FINE, "a": ["1", "2"]}, ABOUT, ["column a: holds text; it should hold numbers"]),
    "no rows": ({"op": pa.array([], pa.string()), "a": [], "us": []}, ABOUT, ["has no rows"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_table_is_named(tmp_path, case):
    columns, about, expected = BAD[case]
    path = written(tmp_path / "k.parquet", columns, about)
    with pytest.raises(KernelError) as error:
        read_kernels(path)
    assert len(error.value.faults) == len(expected)
    for fault, part in zip(error.value.faults, expected, strict=True):
        assert fault.startswith(f"{path}: ")
        assert part in fault


def test_a_file_that_is_not_there_or_not_parquet_is_named(tmp_path):
    (tmp_path / "k.parquet").write_text("op,a,us\nhead,1,2\n")
    with pytest.raises(KernelError, match="is not a Parquet file"):
        read_kernels(tmp_path / "k.parquet")
    with pytest.raises(KernelError, match="there is no such file"):
        read_kernels(tmp_path / "none.parquet")


def test_the_page_of_schemas_lists_the_columns_and_operations():
    page = (ROOT / "docs" / "reference" / "schemas.md").read_text(encoding="utf-8")
    section = page.partition(f"## `{FORMAT}`")[2].partition("\n## ")[0]
    for name in ("op", "a", "b", "c", "d", "us", "gpu", "source", "licence", *AXES):
        assert f"`{name}`" in section
