"""Reports: every kind of sweep and of run as pictures and Markdown."""

import errno
import json
import math
import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from kit.sweeps import TINY, do, sweep_file
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from wss.cli import cli
from wss.errors import ConfigError
from wss.escaping import for_markdown
from wss.report.markdown import means_table, table
from wss.report.plotting import WRITER
from wss.report.report import Results, read_results, write_report
from wss.report.sweep_folder import intervals_of
from wss.report.tornado import ranges, shown_policies

FEW = TINY.replace("[base, ep, pred, allo, allo_pred]", "[base, ep]")
LAYERS = ", ".join(map(str, range(8)))
SAMPLED = FEW.replace("num_layers: 3, moe_layers: [0, 1, 2]", f"num_layers: 8, moe_layers: [{LAYERS}]")
SAMPLED += "  layers: {sample: 4}\n"
THREE = FEW.replace("[base, ep]", "[base, ep, allo]")
BARS = {"speedup", "throughput", "hops", "bound", "hbm"}

KINDS = {  # text, pictures that there are, pictures that there are not
    "grid": (FEW + "grid: {batch: [8, 16], seed: [0, 1]}", BARS | {"links_8_0", "links_16_1"}, set()),
    "one policy": (TINY.replace("[base, ep, pred, allo, allo_pred]", "[base]") + "grid: {batch: [8, 16]}", BARS, set()),
    "policies": (FEW + "grid:\n  policies:\n    one: {policies: [base]}\n    two: {policies: [base, ep]}", BARS, set()),
    "vary": (THREE + "vary: {batch: [16], seed: [1]}", {"tornado_ep", "tornado_allo"}, {"tornado_base", "speedup"}),
    "vary, by grid": (THREE + "grid: {seed: [0, 1]}\nvary: {batch: [16]}",
                      {"tornado_0_ep", "tornado_0_allo", "tornado_1_ep", "tornado_1_allo"}, {"tornado_ep"}),
    "vary one policy": (TINY.replace("[base, ep, pred, allo, allo_pred]", "[base]") + "vary: {batch: [16]}", set(),
                        {"tornado_base"}),
    "vary policies": (THREE + "vary:\n  which:\n    other: {policies: [base, pred, allo]}", {"tornado_allo"},
                      {"tornado_ep", "tornado_pred"}),
    "one die": (FEW + "grid: {wafer.mesh: {one: {wafer.mesh: [1, 1]}, two: {wafer.mesh: [1, 2]}}}",
                {"links_two", "hbm"}, {"links_one"}),
    "one die alone": (FEW + "grid: {wafer.mesh: {one: {wafer.mesh: [1, 1]}}}", {"speedup"}, {"links_one", "hops"}),
    "sampled": (SAMPLED + "grid: {batch: [8, 16]}", BARS, set()),
    "labels": (FEW + "grid:\n  links:\n    α: {seed: 0}\n    β: {seed: 1}\n    '$\\nope{1}$ a|b': {seed: 2}\n",
               {"links_-", "links_--2", "links_-nope-1-a-b"}, set()),
}  # fmt: skip


@pytest.fixture
def unpainted(monkeypatch):
    """Write pictures without painting them, for tests that read only the files' names or the table."""
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **about: path.write_text(f"<svg>{WRITER}</svg>"))


def swept(tmp_path, text):
    """Run a sweep, and return the folder of its results."""
    path, out = sweep_file(tmp_path, text), tmp_path / "out"
    do(path, out)
    return out


def pictures(folder):
    """Return the names of the PNG files in *folder*, each of which is whole, not trivial and not too wide."""
    for path in folder.glob("*.png"):
        content = path.read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        assert len(content) > 5000
        assert struct.unpack(">I", content[16:20])[0] <= 7 * 200
    return {path.stem for path in folder.glob("*.png")}


def rows_of(text):
    """Return the cells of the rows of the last table in *text*."""
    lines = text.split("## All rows")[1].strip().splitlines()
    return [[cell.strip() for cell in line.replace("\\|", "/").strip("|").split("|")] for line in lines[2:]]


QUICK = ("grid", "vary, by grid", "one die", "labels")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind not in QUICK)) for kind in KINDS])
def test_a_sweep_is_drawn_with_every_row(tmp_path, kind):
    text, there, absent = KINDS[kind]
    results = read_results(swept(tmp_path, text))
    written = write_report(results, tmp_path / "report", "png")
    assert len(set(written)) == len(written)
    assert {path.name for path in written} == {path.name for path in (tmp_path / "report").iterdir()}
    found = pictures(tmp_path / "report")
    assert there <= found
    assert not absent & found
    report = (tmp_path / "report" / "report.md").read_text()
    assert all(f"]({name}.png)" in report for name in found)
    columns = (*results.axes, "policy")
    keys = [[for_markdown(row[key]).replace("\\|", "/") for key in columns] for row in results.rows]
    assert [cells[: len(keys[0])] for cells in rows_of(report)] == keys


@pytest.mark.parametrize("sampled", [False, True])
def test_a_run_is_drawn_like_a_sweep_with_intervals_where_layers_are_sampled(tmp_path, sampled):
    text = (SAMPLED if sampled else FEW).removeprefix("\nconfig:\n")
    path = sweep_file(tmp_path, "\n".join(line[2:] for line in text.splitlines()), "run.yaml")
    done = CliRunner().invoke(cli, ["run", str(path), "--out", str(tmp_path / "run"), "--quiet"])
    assert done.exit_code == 0, done.output
    results = read_results(tmp_path / "run")
    write_report(results, tmp_path / "report", "png")
    assert BARS | {"links"} == pictures(tmp_path / "report")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    lines = rows_of((tmp_path / "report" / "report.md").read_text())
    for row, run, cells in zip(results.rows, summary["runs"], lines, strict=True):
        for key in ("speedup", "hops", "max_link_utilization"):
            assert row[key] == run[key]
            assert intervals_of(row, key) == ({"layers": tuple(run["ci95"][key])} if sampled else {})
        assert cells[2].startswith(f"{row['speedup']:.3g}x")
        assert ("[" in cells[2]) is sampled
    report = (tmp_path / "report" / "report.md").read_text()
    assert (
        "Figures are estimated for all 8 layers from 4; [low, high]: 95% over draws of layers." in report
    ) is sampled


def test_the_map_of_links_has_the_scale_of_the_tables(tmp_path, monkeypatch, unpainted):
    """Estimates for all layers where they are sampled, means over seeds, and the busiest link of the summary."""
    drawn = []
    monkeypatch.setattr("wss.report.report.write_meshmap", lambda *a: drawn.append(a) or a[2])
    text = SAMPLED.removeprefix("\nconfig:\n")
    path = sweep_file(tmp_path, "\n".join(line[2:] for line in text.splitlines()) + "\nreplications: 2\n", "run.yaml")
    done = CliRunner().invoke(cli, ["run", str(path), "--out", str(tmp_path / "run"), "--quiet"])
    assert done.exit_code == 0, done.output
    write_report(read_results(tmp_path / "run"), tmp_path / "report", "png")
    ((links, about, _),) = drawn
    assert about.what == "share of the link's bandwidth used, estimated for all 8 layers"
    runs = json.loads((tmp_path / "run" / "summary.json").read_text())["runs"]
    assert about.busiest == {run["policy"]: run["max_link_utilization"] for run in runs}
    table = pq.read_table(tmp_path / "run" / "links.parquet").to_pylist()
    for link in links:
        own = [row for row in table if (row["policy"], row["link"]) == (link["policy"], link["link"])]
        assert {row["seed"] for row in own} == {0, 1}
        assert link["utilization"] == pytest.approx(sum(row["estimated_utilization"] for row in own) / 2)
        assert link["policy"] == "ep" or link["utilization"] != pytest.approx(own[0]["utilization"], rel=1e-6)


@pytest.mark.parametrize(("name", "now"), [("summary.json", "wss-summary/2"), ("sweep.json", "wss-sweep/2")])
def test_a_folder_of_an_earlier_version_is_refused_in_one_line(tmp_path, name, now):
    (tmp_path / name).write_text(json.dumps({"schema": now.replace("2", "1"), "runs": [{}], "axes": []}))
    with pytest.raises(ConfigError) as error:
        read_results(tmp_path)
    (fault,) = error.value.faults
    assert fault.endswith(f"{name}: is a {now[:-1]}1, this version reads {now}; run it again")


def row(policy, speedup, **labels):
    return {**labels, "policy": policy, "baseline": "base", "speedup": speedup}


def test_means_are_of_the_points_that_have_the_policy():
    rows = [
        row("base", 1.0, n=1),
        row("ep", 2.0, n=1),
        row("base", 1.0, n=2),
        row("ep", 8.0, n=2),
        row("base", 1.0, n=3),
    ]
    lines = means_table(["n"], rows).splitlines()
    assert lines[0].endswith("| base | ep |")
    assert lines[2:] == [
        "| n 1 | 1x (1x) | 2x (2x) |",
        "| n 2 | 1x (1x) | 8x (8x) |",
        "| n 3 | 1x (1x) | - |",
        f"| all | 1x (1x) | 5x ({math.sqrt(16):.3g}x) |",
    ]


def test_ranges_are_from_least_to_most_with_the_centre_and_the_widest_first():
    rows = [
        row("ep", 2.0, varied="-", to="-"),
        row("ep", 2.5, varied="a", to="1"),
        row("ep", 3.0, varied="b", to="1"),
        row("ep", 1.0, varied="b", to="2"),
    ]
    assert list(ranges(rows).items()) == [
        ("b", [("as it is", 2.0), ("1", 3.0), ("2", 1.0)]),
        ("a", [("as it is", 2.0), ("1", 2.5)]),
    ]
    centre_only = row("late", 9.0, varied="-", to="-")
    varied_only = row("other", 9.0, varied="a", to="1")
    assert shown_policies([*rows, centre_only, varied_only, row("base", 1.0, varied="-", to="-")]) == ["ep"]
    assert shown_policies([row("base", 1.0, varied="-", to="-"), row("base", 1.0, varied="a", to="1")]) == []


def test_what_is_not_known_has_no_bar(tmp_path, monkeypatch):
    heights = []
    draw = Axes.bar
    monkeypatch.setattr(
        Axes, "bar", lambda axis, at, height, *a, **k: heights.append(height) or draw(axis, at, height, *a, **k)
    )
    rows = [{**row("base", 1.0, n=n), "throughput_tokens_per_s": value} for n, value in ((1, None), (2, 50.0))]
    write_report(Results("t", ("n",), rows, pa.table({"n": []}), []), tmp_path, "png")
    assert heights == [[1.0, 1.0], [50.0]]
    assert pictures(tmp_path) == {"speedup", "throughput"}


def test_tables_of_another_sweep_are_refused_in_one_line(tmp_path):
    out = swept(tmp_path, FEW + "grid: {batch: [8]}")
    about = json.loads((out / "sweep.json").read_text())
    (out / "sweep.json").write_text(json.dumps({**about, "axes": ["seed"]}))
    with pytest.raises(ConfigError, match="are of different sweeps"):
        read_results(out)


def test_a_table_keeps_bars_and_lines_in_their_cells():
    assert table(["a|b"], [["c|d\ne"]]) == "| a\\|b |\n|---|\n| c\\|d e |"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder of a run, whose policies have another order in the alphabet than in `wss list`."""
    folder = tmp_path_factory.mktemp("ran")
    text = TINY.replace("[base, ep, pred, allo, allo_pred]", "[ep, base, allo]").removeprefix("\nconfig:\n")
    path = sweep_file(folder, "\n".join(line[2:] for line in text.splitlines()) + "\nbaseline: base\n", "run.yaml")
    assert report("run", path, "--out", folder / "run", "--quiet").exit_code == 0
    return folder / "run"


def report(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_a_run_is_drawn_in_the_order_of_the_list(ran, tmp_path):
    results = read_results(ran)
    assert [row["policy"] for row in results.rows] == ["base", "ep", "allo"]
    write_report(results, tmp_path / "report", "svg")
    for file, first in (("speedup.svg", "ep"), ("links.svg", "ep (")):
        text = (tmp_path / "report" / file).read_text()
        assert "synthetic routing" in text
        assert text.index(">base") < text.index(f">{first}") < text.index(">allo")
    assert "link traversals of remote reads" in (tmp_path / "report" / "hops.svg").read_text()
    assert "(logarithmic scale)" in (tmp_path / "report" / "hops.svg").read_text()


def test_one_picture_of_chosen_policies_says_what_it_shows(ran, tmp_path):
    out = tmp_path / "links.svg"
    done = report("report", ran, "--picture", "links", "--policies", "base,allo", "--out", out)
    assert (done.exit_code, done.output) == (0, f"{out}\n")
    text = out.read_text()
    said = (
        "synthetic routing",
        "Each square is a die",
        "a decode step",
        "busiest link: (",
        "% used",
        "x base)",
        "bandwidth used",
    )
    assert all(part in text for part in said)
    assert text.index(">base") < text.index(">allo")
    assert ">ep" not in text
    assert "exists" in str(report("report", ran, "--picture", "links", "--out", out).exception)
    assert report("report", ran, "--picture", "links", "--out", out, "--force").exit_code == 0
    assert ">ep" in out.read_text()
    out.write_text("<svg>mine</svg>")
    assert "is not a picture that wss wrote" in str(
        report("report", ran, "--picture", "links", "--out", out, "--force").exception
    )


REFUSED = {
    "a policy": (
        ["--picture", "links", "--policies", "base,epp"],
        "--policies epp: is not in these results; did you mean 'ep'",
    ),
    "no picture": (["--policies", "base"], "--policies: chooses what --picture shows"),
    "a name": (["--picture", "links", "--out", "links.pdf"], "--out links.pdf: should end in .png or .svg"),
    "a name of another format": (
        ["--picture", "links", "--format", "svg", "--out", "links.png"],
        "--out links.png: should end in .svg,",
    ),
    "columns": (["--picture", "links", "--wide"], "--wide: is for the table of a whole report"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_picture_that_cannot_be_drawn_is_refused_in_one_line(ran, case):
    words, said = REFUSED[case]
    (fault,) = report("report", ran, *words).exception.faults
    assert fault.startswith(said)


def test_a_report_is_replaced_with_force_alone_and_only_if_nothing_else_lies_there(ran, tmp_path, unpainted):
    out = tmp_path / "report"
    assert report("report", ran, "--out", out).exit_code == 0
    assert "exists; give another --out, or --force" in str(report("report", ran, "--out", out).exception)
    assert report("report", ran, "--out", out, "--force", "--format", "svg").exit_code == 0
    assert {path.suffix for path in out.iterdir()} == {".svg", ".md"}
    (out / "mine.png").write_bytes(b"precious")
    done = report("report", ran, "--out", out, "--force")
    assert "holds 'mine.png', which no report there names" in str(done.exception)
    assert {path.suffix for path in out.iterdir()} == {".svg", ".md", ".png"}


def test_the_table_of_a_report_has_more_columns_with_wide(ran, tmp_path, unpainted):
    for wide in (False, True):
        write_report(read_results(ran), tmp_path / str(wide), "svg", wide)
        assert ("| link traversals |" in (tmp_path / str(wide) / "report.md").read_text()) is wide


@pytest.mark.parametrize("has_one", [False, True])
def test_a_report_that_ends_early_leaves_the_folder_as_it_was(ran, tmp_path, monkeypatch, has_one):
    out = tmp_path / "report"
    if has_one:
        assert report("report", ran, "--out", out, "--format", "svg").exit_code == 0
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("wss.report.report.rows_table", full)
    (fault,) = report("report", ran, "--out", out, "--force").exception.faults
    assert fault == f"{out}: cannot be written (No space left on device); give an --out with room"
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    monkeypatch.undo()
    monkeypatch.setattr("wss.files._sync_all", full)
    (fault,) = report("report", ran, "--out", out, "--force").exception.faults
    assert fault.startswith(f"{out}/")
    assert ".wss-part" not in fault
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
