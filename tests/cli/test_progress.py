"""Progress where stderr is no terminal: a line every 30 s, with place and time left; none with --quiet."""

import pytest
from kit.runs import SMALL
from kit.sweeps import FEW, sweep_file

from wss.cli.options import Bars
from wss.config import load
from wss.config.sweep_file import load_sweep
from wss.execution import run
from wss.sweeps import Folder, run_sweep, tasks_of


class Clock:
    """A clock that goes on by *tick* seconds whenever it is read."""

    def __init__(self, tick):
        self.now, self.tick = 0.0, tick

    def __call__(self):
        self.now += self.tick
        return self.now


def said(capsys):
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.splitlines()


def test_a_line_is_due_after_thirty_seconds_and_not_before(capsys):
    clock = Clock(0)
    bars = Bars(False, clock)
    for clock.now, done in ((100, 10), (129.9, 20), (130, 25), (140, 30), (159, 40), (160, 55)):
        bars("simulating", done, 100, "ep, decode step 1, layer 7")
    assert said(capsys) == [
        "simulating: 25% done (ep, decode step 1, layer 7), about 2 min left",  # 15 in 30 s: 75 take 150 s
        "simulating: 55% done (ep, decode step 1, layer 7), about 60 s left",  # 45 in 60 s: 45 take as long
    ]


def test_each_kind_of_work_has_its_own_rate_and_work_that_stands_still_no_time_left(capsys):
    clock = Clock(0)
    bars = Bars(False, clock)
    for clock.now, what, done in ((0, "one", 1), (29, "two", 5), (58, "two", 5), (60, "two", 5)):
        bars(what, done, 10)
    assert said(capsys) == ["two: 50% done"]


def test_there_is_no_time_left_before_a_twentieth_is_done(capsys):
    clock = Clock(0)
    bars = Bars(False, clock)
    for clock.now, done in ((0, 0), (30, 1), (60, 5)):
        bars("sweep", done, 100)
    assert said(capsys) == ["sweep: 1% done", "sweep: 5% done, about 19 min left"]


def test_quiet_says_nothing(capsys):
    bars = Bars(True, Clock(40))
    for done in range(10):
        bars("simulating", done, 10, "ep")
    assert said(capsys) == []


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return load(path, ["policies=[base, ep]", "steps=1"])


def test_a_run_says_policy_step_and_layer(small, capsys):
    run(small, Bars(False, Clock(20)))
    lines = said(capsys)
    assert len(lines) == 5  # of 12 layer runs, every second one but the first
    assert lines[0] == "simulating: 25% done (base, prefill, layer 1), about 3 min left"  # 9 of them, 20 s each
    assert lines[-1] == "simulating: 92% done (base, decode step 1, layer 2), about 20 s left"


def test_a_sweep_says_how_many_tasks_are_done(tmp_path, capsys):
    plan = load_sweep(sweep_file(tmp_path, FEW.replace("[base, ep, pred, allo, allo_pred]", "[base, ep]")))
    (tmp_path / "out").mkdir()
    folder = Folder(tmp_path / "out")
    folder.begin("", plan.name)
    tasks = [task for own in tasks_of(plan) for task in own]
    run_sweep(tasks, folder, 1, None, Bars(False, Clock(31)))
    lines = said(capsys)
    assert len(tasks) == 8
    assert "(0 of 8 tasks; base, prefill, layer 1)" in lines[1]
    assert lines[-1] == "sweep: 100% done (8 of 8 tasks)"
