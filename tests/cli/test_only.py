"""`--only`: which points it picks, and what a sweep's folder then holds."""

import csv
import json

import pytest
from click.testing import CliRunner
from kit.sweeps import FEW, TINY, sweep_file

import wss
from wss.cli import cli
from wss.config.sweep_file import load_sweep
from wss.errors import ConfigError
from wss.report.report import read_results
from wss.sweeps.folder import picked_folder

VARIED = TINY + "grid: {seed: [0, 1]}\nvary:\n  window: [1, 3]\n  gemm:\n    'a,b': {gemm: ideal}\n"


def invoke(*arguments):
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def labels(path, *only):
    return [tuple(point.labels.values()) for point in load_sweep(path, only=only).points]


def test_labels_of_an_axis_are_alternatives_and_axes_all_apply(tmp_path):
    path = sweep_file(tmp_path)
    assert labels(path, "batch=16") == [(16, 0), (16, 1)]
    assert labels(path, "batch=16", "seed=1") == [(16, 1)]
    assert (
        labels(path, "batch=16, 8", "seed=0") == labels(path, "seed=0.0", "batch=8", "batch=1.6e1") == [(8, 0), (16, 0)]
    )
    assert labels(path) == [(8, 0), (8, 1), (16, 0), (16, 1)]
    path = sweep_file(tmp_path, VARIED)
    assert labels(path, "varied=window,-", "seed=1") == [(1, "-", "-"), (1, "window", "1"), (1, "window", "3")]
    assert labels(path, "to=a,b") == [(0, "gemm", "a,b"), (1, "gemm", "a,b")]


@pytest.mark.parametrize(
    ("only", "line"),
    [
        (["seeds=1"], "--only seeds=1: 'seeds' is not an axis of tiny; its axes: seed, varied, to"),
        (["policy=ep"], "'policy' is not an axis of tiny"),
        (["seed=2"], "--only seed=2: '2' is not a label of seed; known: 0, 1"),
        (["seed=0,True"], "'True' is not a label of seed"),
        (["varied=windw"], "'windw' is not a label of varied; did you mean 'window'?"),
        (["seed"], "--only seed: names no labels; write --only axis=label, such as batch=4096,8192"),
        (
            ["varied=window", "to=a,b"],
            "--only varied=window --only to=a,b: no point of tiny has all of these labels; leave",
        ),
    ],
)
def test_what_picks_nothing_is_one_line(tmp_path, only, line):
    with pytest.raises(ConfigError) as error:
        load_sweep(sweep_file(tmp_path, VARIED), only=only)
    (fault,) = error.value.faults
    assert line in fault


def test_results_of_picked_points_have_a_folder_of_their_own_and_share_the_tasks(tmp_path):
    path, out = sweep_file(tmp_path), tmp_path / "out"
    common = ("sweep", path, "--workers", 1, "--out", out)
    done = invoke(*common, "--only", "batch=16,8", "--only", "seed=1")
    assert "2 of 4 points (only batch=8,16, seed=1), 10 tasks: 10 run" in done.stderr
    assert "the table has 2 of 4 points" in done.stdout
    part = out / "only" / "batch=8+16,seed=1"
    assert sorted(file.name for file in out.iterdir()) == ["only", "tasks"]
    with pytest.raises(
        ConfigError, match=r"holds no results of all points, only of points picked with --only; give .*seed=1"
    ):
        read_results(out)
    assert read_results(part).title == "tiny (only batch=8,16, seed=1)"
    assert "would be run: about" in invoke(*common, "--dry-run").stdout
    dry = invoke(*common, "--dry-run", "--only", "seed=1").stdout
    assert "2 of 4 points (only seed=1), 10 tasks, of which 10 are kept" in dry

    all_of_it = invoke(*common)
    assert "4 points, 20 tasks: 10 run" in all_of_it.stderr
    assert "\nnote (2 of 4 points: batch=16): the batch of 16 repeats the 8 requests" in all_of_it.stdout
    assert "4 of 4 points" not in all_of_it.stdout
    assert (
        "2 of 4 points: batch=16: the batch of 16 repeats the 8 requests of the trace cyclically"
        in read_results(out).notes
    )
    whole = (out / "results.csv").read_text()
    rows = list(csv.DictReader((part / "results.csv").read_text().splitlines()))
    assert rows == [row for row in csv.DictReader(whole.splitlines()) if row["seed"] == "1"]
    assert "0 run" in invoke(*common, "--only", "seed=0").stderr
    assert (out / "results.csv").read_text() == whole
    about = json.loads((out / "only" / "seed=0" / "sweep.json").read_text())
    assert (about["only"], about["points_in_all"], len(about["points"])) == (["seed=0"], 4, 2)
    assert "only" not in json.loads((out / "sweep.json").read_text())


def test_tables_of_picked_points_of_an_earlier_version_do_not_stay(tmp_path):
    path, out = sweep_file(tmp_path), tmp_path / "out"
    common = ("sweep", path, "--workers", 1, "--out", out)
    invoke(*common, "--only", "seed=1")
    invoke(*common, "--only", "seed=0")
    (out / "only" / "mine").mkdir()
    (out / "only" / "mine" / "results.csv").write_text("my own")
    path.write_text(FEW.replace("steps: 2", "steps: 1"))
    before = (out / "only" / "seed=0" / "results.csv").read_text()
    invoke(*common, "--only", "seed=0")
    assert (out / "only" / "seed=0" / "results.csv").read_text() != before
    assert (out / "only" / "seed=1" / "results.csv").exists()
    invoke(*common)
    assert not (out / "only" / "seed=1" / "results.csv").exists()
    assert (out / "only" / "seed=0" / "results.csv").exists()
    assert (out / "only" / "mine" / "results.csv").exists()
    (out / "only" / "seed=0" / "sweep.json").write_text(json.dumps({"name": "other", "identity": "x"}))
    assert "holds the sweep 'other'" in str(invoke(*common).exception)


def test_a_check_of_picked_points(tmp_path):
    path = sweep_file(tmp_path)
    common = ("check", path, "--workers", 1, "--out", tmp_path / "a")
    both = invoke(*common, "--update", "--only", "seed=0")
    assert "with --update the figures of all points are written" in str(both.exception)
    assert invoke(*common, "--update").exit_code == 0
    held = invoke(*common, "--only", "seed=0")
    assert (held.exit_code, "all 30 figures of 2 of 4 points (only seed=0) hold" in held.output) == (0, True)
    file = tmp_path / "expected" / "tiny.json"
    expected = json.loads(file.read_text())
    next(row for row in expected["values"] if row["labels"]["seed"] == 1)["speedup"] *= 1.5
    file.write_text(json.dumps(expected))
    assert invoke(*common, "--only", "seed=0").exit_code == 0
    moved = invoke(*common, "--only", "seed=1")
    assert (moved.exit_code, "1 of 30 figures of 2 of 4 points (only seed=1) moved" in moved.output) == (1, True)


def test_the_folder_of_picked_points_is_a_plain_name(tmp_path):
    names = [picked_folder(tmp_path, only).name for only in (("a=../b",), ("a=b+c",), ("a=b,c",), ("x" * 300 + "=1",))]
    assert len(set(names)) == 4
    assert all(len(name) < 120 and "/" not in name and not name.startswith(".") for name in names)
    assert picked_folder(tmp_path, ()) == tmp_path


def test_picked_points_in_python(tmp_path):
    found = wss.sweep(sweep_file(tmp_path), only=["seed=1", "batch=8,16"], out=tmp_path / "out", workers=1)
    assert found.folder == tmp_path / "out" / "only" / "batch=8+16,seed=1"
    assert {(row["batch"], row["seed"]) for row in found.rows} == {(8, 1), (16, 1)}
    assert "note (batch=16, seed=1): the batch of 16" in found.table()
