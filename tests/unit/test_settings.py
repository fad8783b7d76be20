"""Settings that differ, the points that notes are about, and what an expected file says has changed."""

import json

import pytest
from kit.sweeps import FEW, TINY, sweep_file

from wss.config.sweep_file import load_sweep
from wss.report.point_notes import point_notes
from wss.report.settings import Change, changes, flat_settings
from wss.sweeps import tasks_of
from wss.sweeps.described import are_settings, settings_of, what_changed


def test_keys_are_flat_and_policies_go_by_name():
    config = {"a": {"b": 1, "c": [1, 2]}, "policies": [{"name": "x", "k": None}, {"name": "y", "k": {"kind": "z"}}]}
    assert flat_settings(config) == {"a.b": 1, "a.c": [1, 2], "policies.x.k": None, "policies.y.k.kind": "z"}


def test_a_part_that_only_one_has_is_one_change():
    was = {"a.b": 1, "p.x.k": 1, "p.x.l": 2, "p.y.k": 1, "f": None, "same": 3}
    now = {"a.b": 1.0, "p.y.k": 1, "p.z.k": 2, "f.v": 0.5, "same": 3}
    expected = [Change("a.b", 1, 1.0), Change("p.x", "set", None), Change("p.z", None, "set"), Change("f.v", None, 0.5)]
    assert sorted(changes(was, now)) == sorted(expected)
    assert Change("a", 1, 1.0).texts() == ("1", "1.0")
    assert Change("a", 1.00000001, 1.0).texts() == ("1.00000001", "1.0")
    assert Change("a", 1.7e12, None).texts() == ("1.7e+12", "none")


POINTS = [{"m": m, "b": b} for m in ("k", "q") for b in (1, 2, 3)]
WHERE = {
    "all": ([0, 1, 2, 3, 4, 5], ""),
    "none, as of an earlier version": ([], ""),
    "one": ([4], "m=q, b=2"),
    "a label": ([3, 4, 5], "3 of 6 points: m=q"),
    "labels of two axes": ([0, 1], "2 of 6 points: m=k, b=1,2"),
    "some of a label": ([0, 1, 5], "3 of 6 points"),
    "not all of what it shares": ([0, 4], "2 of 6 points, among those with b=1,2"),
}


@pytest.mark.parametrize("case", WHERE)
def test_a_note_names_the_points_it_is_about(case):
    own, where = WHERE[case]
    points = [{"labels": labels, "notes": [1] if at in own else [0]} for at, labels in enumerate(POINTS)]
    assert point_notes({"points": points, "notes": ["other", "mine"]})[1] == (where, "mine")


def test_notes_that_differ_only_in_numbers_are_one():
    notes = ["pred: 1,024 of 2,000 bytes of qwen3_235b", "pred: 96.5 of 2,000 bytes of qwen3_235b", "pred: 1 of 2 dies"]
    points = [{"labels": {"b": b}, "notes": [number]} for b, number in ((1, 0), (2, 1), (3, 2))]
    assert point_notes({"points": points, "notes": notes}) == [
        ("2 of 3 points: b=1,2", "pred: 96.5 to 1,024 of 2,000 bytes of qwen3_235b"),
        ("b=3", "pred: 1 of 2 dies"),
    ]


CHANGED = {
    "a setting": (FEW.replace("steps: 2", "steps: 1"), [], "steps was 2, is 1"),
    "a factor": (FEW, ["wafer.link.bandwidth=2x"], "wafer.link.bandwidth was 1.7e+12, is 3.4e+12"),
    "a policy": (
        FEW.replace("allo_pred]", "belady]"),
        [],
        "policies.allo_pred was set, is none; policies.belady",
    ),
    "points": (
        FEW.replace("[8, 16]", "[8, 32]"),
        [],
        "the point batch=16, seed=0 is gone (and 1 others); the point batch=32",
    ),
    "what is compared": (FEW + "check: {tolerance: 0.1}", [], "check.tolerance was 0.01, is 0.1"),
    "much": (FEW, ["steps=1", "window=1", "gemm=ideal", "precision=fp8"], " and 1 more"),
}


def settings(folder, text, changed=()):
    sweep = load_sweep(sweep_file(folder, text), changed)
    return json.loads(json.dumps(settings_of(sweep, tasks_of(sweep))))


@pytest.mark.parametrize("case", CHANGED)
def test_an_expected_file_says_which_setting_has_changed(tmp_path, case):
    text, changed, line = CHANGED[case]
    was, now = settings(tmp_path, FEW), settings(tmp_path, text, changed)
    assert are_settings(was)
    assert line in what_changed(was, now)
    assert "no setting differs" in what_changed(was, was)
    assert "about" not in json.dumps(was)


def test_the_settings_in_an_expected_file_are_those_in_common_and_the_rest_by_point(tmp_path):
    sweep = load_sweep(sweep_file(tmp_path, TINY + "grid: {batch: [8, 16], seed: [0, 1]}\n"))
    found = settings_of(sweep, tasks_of(sweep))
    assert found["common"]["steps"] == 2
    assert found["points"][2] == {"labels": {"batch": 16, "seed": 0}, "settings": {"batch": 16, "seed": 0}}
    damaged = [3, {}, {**found, "points": 3}, {**found, "points": [{}]}, {**found, "more": 1}, {**found, "common": []}]
    assert not any(map(are_settings, damaged))


def test_a_setting_that_has_changed_at_some_points_says_at_how_many(tmp_path):
    grid = "grid: {seed: [0, 1], how: {a: {window: 2}, b: {window: WINDOW}}}\n"
    was, now = (settings(tmp_path, TINY + grid.replace("WINDOW", window)) for window in "23")
    assert what_changed(was, now) == "window was 2, is 3 (at 2 of 4 points)"
