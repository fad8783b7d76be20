"""The averages of a sweep: means over points, their intervals, what others report, and wrong names."""

import pytest
from click.testing import CliRunner
from kit.sweeps import FEW, sweep_file

from wss.cli import cli
from wss.config.sweep_file import load_sweep
from wss.errors import ConfigError
from wss.report.averages import averages_of, averages_table

ROWS = [
    {"model": model, "batch": batch, "policy": policy, "baseline": "base", "speedup": value, **ends, "hops": 2}
    for model, batch, policy, value, ends in (
        ("a", 1, "base", 1.0, {"speedup_low": 1.0, "speedup_high": 1.0}),
        ("a", 1, "ep", 3.0, {"speedup_low": 2.5, "speedup_high": 3.5}),
        ("a", 2, "base", 1.0, {"speedup_low": 1.0, "speedup_high": 1.0}),
        ("a", 2, "ep", 5.0, {"speedup_low": 4.0, "speedup_high": 6.5}),
        ("b", 1, "base", 1.0, {"speedup_low": 1.0, "speedup_high": 1.0}),
        ("b", 1, "ep", 2.0, {"speedup_low": 2.0, "speedup_high": 2.0}),
    )
]


def test_means_over_the_points_that_share_labels_and_the_means_of_their_ends():
    found = averages_of(ROWS, ["model"], "speedup", [("paper", "ep", "model", {"a": 4.5})])
    assert [(row["model"], row["policy"], row["points"], row["mean"]) for row in found] == [
        ("a", "ep", 2, 4.0),
        ("b", "ep", 1, 2.0),
    ]
    assert [row["layers"] for row in found] == [(3.25, 5.0), (2.0, 2.0)]
    assert {row["seeds"] for row in found} == {None}
    assert [row["reported"] for row in found] == [{"paper": 4.5}, {}]
    (ep,) = averages_of(ROWS, [], "speedup")
    assert (ep["points"], ep["mean"], ep["layers"]) == (3, 10 / 3, (8.5 / 3, 4.0))


def test_the_baseline_has_rows_for_all_figures_but_the_speedup():
    assert [row["policy"] for row in averages_of(ROWS, [], "hops")] == ["base", "ep"]


def test_an_interval_is_given_only_if_every_point_has_one():
    rows = [row | {"speedup_low": None} if row["batch"] == 2 else row for row in ROWS]
    assert [row["layers"] for row in averages_of(rows, ["model"], "speedup")] == [None, (2.0, 2.0)]


def test_the_table():
    means = averages_of(ROWS, ["model"], "speedup", [("paper", "ep", "model", {"a": 4.5})])
    assert averages_table(means, ["model"], "speedup").splitlines() == [
        "mean speedup over 1 or 2 points",
        "",
        "model  policy  mean  95%, layers  paper",
        "-----  ------  ----  -----------  -----",
        "a      ep        4x  3.25x to 5x   4.5x",
        "b      ep        2x     2x to 2x",
        "",
        "95%, layers: over draws of layers; means of the ends of all points",
        "paper: as reported there; steps, layers and routing may differ",
    ]


def test_points_without_the_figure_do_not_count():
    rows = [row | {"speedup": None} if row["batch"] == 2 else row for row in ROWS]
    (found,) = averages_of([row for row in rows if row["model"] == "a"], [], "speedup")
    assert (found["points"], found["mean"]) == (1, 3.0)
    assert averages_of(ROWS, [], "moved_bytes") == []


@pytest.mark.parametrize(
    ("figure", "line"),
    [
        ("placement_load_correlation", "no mean placement_load_correlation: no point has one"),
        ("speedup", "no mean speedup: no point has one beside the baseline"),
    ],
)
def test_a_figure_that_no_point_has_is_a_line(tmp_path, figure, line):
    few = FEW.replace("grid:", f"averages: {{figure: {figure}}}\ngrid:")
    alone = CliRunner().invoke(
        cli, ["sweep", str(sweep_file(tmp_path, few)), "--set", "policies=[base]", "--out", str(tmp_path / "out"),
              "--workers=1", "--quiet"]
    )  # fmt: skip
    assert alone.exit_code == 0, alone.output
    assert alone.stdout.splitlines()[-1] == line


AVERAGES = "averages:\n  by: [batch]\n  reported:\n    - {source: theirs, policy: ep, axis: batch, values: {8: 2.5}}\n"


def test_the_command_prints_the_averages_below_the_table(tmp_path):
    path = sweep_file(tmp_path, FEW + AVERAGES)
    done = CliRunner().invoke(cli, ["sweep", str(path), "--out", str(tmp_path / "out"), "--workers=1", "--quiet"])
    assert done.exit_code == 0, done.output
    below = done.stdout.split("mean speedup over 2 points")[1].splitlines()
    (line,) = [line.split() for line in below if line.startswith("8 ") and " ep " in line]
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("8 ") and line.split()[2:3] == ["ep"]]
    speedups = [float(word[:-1]) for row in rows for word in row if word.endswith("x")][::2]
    assert float(line[2][:-1]) == pytest.approx(sum(speedups) / 2, abs=0.01)
    assert line[3] == "2.5x"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("averages: {by: [batsh]}", "averages.by.0: 'batsh' is not an axis of the grid; did you mean 'batch'?"),
        ("averages: {by: [batch, batch]}", "averages.by.1: 'batch' is there twice; keep one"),
        ("averages: {figure: speedpu}", "averages.figure: 'speedpu' is not a figure; did you mean 'speedup'?"),
        ("averages: {figure: speedup_low}", "averages.figure: 'speedup_low' is not a figure; did you mean 'speedup'?"),
        ("averages: {bye: [batch]}", "averages.bye: is not a key here; did you mean 'by'?"),
        ("averages: 3", "averages: 3 is not right"),
        (AVERAGES.replace("policy: ep", "policy: epp"), "policy: 'epp' is not a policy of all points; did you mean"),
        (AVERAGES.replace("axis: batch", "axis: seed"), "axis: 'seed' is not in averages.by; known: batch"),
        (AVERAGES.replace("8: 2.5", "9: 2.5"), "values.9: '9' is not a label of axis batch; known: 8, 16"),
    ],
)
def test_a_wrong_name_is_one_line(tmp_path, wrong, message):
    with pytest.raises(ConfigError) as error:
        load_sweep(sweep_file(tmp_path, FEW + wrong))
    assert message in str(error.value)
    assert len(error.value.faults) == 1
