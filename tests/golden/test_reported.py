"""The reported speedups: their expected figures are those of the study, and a loss in one of them fails the check."""

import json

import pytest
from click.testing import CliRunner
from kit import ROOT

from wss.cli import cli
from wss.config.sweep_file import load_sweep
from wss.sweeps import tasks_of
from wss.sweeps.check import check_same, identity_of
from wss.sweeps.whole import Swept

STUDY = ROOT / "experiments" / "headline" / "study.yaml"
EXPECTED = json.loads((ROOT / "experiments" / "expected" / "headline.json").read_text(encoding="utf-8"))
SETTINGS = ["steps=16"]


@pytest.fixture(scope="module")
def identity():
    sweep = load_sweep(STUDY, SETTINGS)
    return identity_of(sweep, tasks_of(sweep))


def checked(monkeypatch, identity, rows):
    """Run the command on *rows*, as if they were the results of the study."""

    def ran(plan, place, workers, progress, lines, expected):
        check_same(expected, identity, plan)
        return Swept(identity, rows, len(rows), 0, 0.0)

    monkeypatch.setattr("wss.sweeps.whole.run_whole", ran)
    return CliRunner().invoke(cli, ["check", str(STUDY), *(f"--set={setting}" for setting in SETTINGS)])


def rows_with(changes):
    return [
        {**row["labels"], "policy": row["policy"], "speedup": row["speedup"] * changes.get(number, 1.0)}
        for number, row in enumerate(EXPECTED["values"])
    ]


def test_the_expected_figures_are_those_of_the_study(identity):
    assert EXPECTED["identity"] == identity
    assert len(EXPECTED["values"]) == 2 * 2 * 2 * 3 * 5


def test_the_reported_speedups_hold_if_nothing_moved(monkeypatch, identity):
    done = checked(monkeypatch, identity, rows_with({}))
    assert done.exit_code == 0, done.output
    assert "all 120 figures hold" in done.output


@pytest.mark.parametrize("number", [1, 9, 64, 119])
def test_a_loss_of_two_percent_in_one_reported_speedup_fails(monkeypatch, identity, number):
    done = checked(monkeypatch, identity, rows_with({number: 0.98}))
    assert done.exit_code == 1
    (line,) = [line for line in done.output.splitlines() if "-2.00%" in line]
    row = EXPECTED["values"][number]
    assert {*map(str, row["labels"].values()), row["policy"], "speedup"} <= {*line.split()}
    assert line.endswith("worse")
