"""`wss compare`: what two runs or sweeps differ in, by policy and point."""

import json

import pytest
from click.testing import CliRunner
from kit.sweeps import TINY, sweep_file

from wss.cli import cli
from wss.errors import ConfigError
from wss.report.compare import Comparison, Differing, compare
from wss.report.comparison_text import comparison_text
from wss.report.settings import Change

GRID = (
    "grid:\n  batch: [8, 16]\n  links:\n    half: {wafer.link.bandwidth: 0.01x}\n    full: {wafer.link.bandwidth: 1x}\n"
)
ONE = "\n".join(line[2:] for line in TINY.splitlines() if line.startswith("  "))


def invoke(*arguments):
    return CliRunner().invoke(cli, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two runs, `a` and `b`, and two sweeps, `s` and `t`; the second ones have another batch or window and policy."""
    folder = tmp_path_factory.mktemp("compared")
    (folder / "one.yaml").write_text(ONE)
    other = "policies=[base, ep, {name: mine, preset: ep}]"
    for name, settings in (("a", []), ("b", ["--set=wafer.link.bandwidth=0.01x", f"--set={other}"])):
        assert invoke("run", folder / "one.yaml", "--out", folder / name, *settings).exit_code == 0
    for name, text, settings in (
        ("s", GRID, []),
        ("t", GRID.replace("[8, 16]", "[32, 8]"), ["--set=steps=1", f"--set={other}"]),
    ):
        path = sweep_file(folder, TINY + text, f"{name}.yaml")
        assert invoke("sweep", path, "--out", folder / name, "--workers", 1, *settings).exit_code == 0
    return folder


def test_two_runs(results):
    found = compare(results / "a", str(results / "b"), ["decode_time_s", "hops"])
    changed = {each.change for each in found.settings}
    assert Change("wafer.link.bandwidth", 1.7e12, 1.7e10) in changed
    policies = {f"policies.{name}" for name in ("mine", "pred", "allo", "allo_pred")}
    assert {change.key for change in changed} == {"wafer.link.bandwidth", *policies}
    assert found.provenance == ()
    assert [set(own) for own in found.only] == [
        {f"policy {name}" for name in ("pred", "allo", "allo_pred")},
        {"policy mine"},
    ]
    runs = {name: json.loads((results / name / "summary.json").read_text())["runs"] for name in "ab"}
    value = {(name, run["policy"]): run["decode_time_s"] for name, own in runs.items() for run in own}
    rows = {row["policy"]: row for row in found.rows if row["figure"] == "decode_time_s"}
    assert sorted(rows) == ["base", "ep"]
    for policy, row in rows.items():
        a, b = value["a", policy], value["b", policy]
        assert (row["a"], row["b"], row["difference"], row["ratio"]) == (a, b, b - a, b / a)
    zero = next(row for row in found.rows if (row["figure"], row["policy"]) == ("hops", "ep"))
    assert (zero["a"], zero["b"], zero["difference"], zero["ratio"]) == (0, 0, 0, None)


def test_two_sweeps_are_joined_by_labels(results):
    found = compare(results / "s", results / "t")
    assert found.axes == ("batch", "links")
    assert found.points == 2
    assert ("steps", 2, 1, 2) in [(*each.change, each.points) for each in found.settings]
    assert found.only[0][:2] == ("batch=8, links=half, policy pred", "batch=8, links=half, policy allo")
    assert {"batch=16, links=half", "batch=16, links=full"} <= set(found.only[0])
    assert {"batch=32, links=half", "batch=32, links=full", "batch=8, links=full, policy mine"} <= set(found.only[1])
    assert {tuple(row["labels"].values()) for row in found.rows} == {(8, "half"), (8, "full")}
    assert {row["figure"] for row in found.rows} >= {"speedup", "decode_time_s", "hops"}


def test_the_text_fits_and_says_what_is_the_same(results):
    text = invoke("compare", results / "a", results / "b").output
    assert max(map(len, text.splitlines()[2:])) <= 100
    assert "wafer.link.bandwidth             1.7e+12  1.7e+10" in text
    assert "policies.mine                    none     set" in text
    assert "only in B:\n  policy mine" in text
    same = invoke("compare", results / "a", results / "a", "--figures", "speedup,hops").output
    assert same.endswith("settings that differ (SI units): none\n\nthe same in both: speedup, hops\n")
    text = invoke("compare", results / "s", results / "t").output
    assert max(map(len, text.splitlines()[2:])) <= 100


def test_as_json(results):
    found = json.loads(invoke("compare", results / "a", results / "b", "--json", "--figures", "all").output)
    assert found["schema"] == "wss-comparison/1"
    assert {"figure", "unit", "labels", "policy", "a", "b", "difference", "ratio"} == set(found["rows"][0])
    assert {"speedup", "hbm_peak_bytes", "link_gini"} <= {row["figure"] for row in found["rows"]}
    assert {"key": "wafer.link.bandwidth", "a": 1.7e12, "b": 1.7e10, "points": 1} in found["settings"]


def test_versions_and_traces_that_differ_are_shown(results, tmp_path):
    for name, file in (("a", "summary.json"), ("s", "sweep.json")):
        own = tmp_path / name
        own.mkdir()
        for part in (results / name).iterdir():
            if part.is_file():
                (own / part.name).write_bytes(part.read_bytes())
        about = json.loads((own / file).read_text())
        origin = about["provenance"] if name == "a" else about
        origin["version"] = "0.0.9"
        origin["host"]["packages"]["numpy"] = "1.0"
        if name == "a":
            origin["trace"]["sha256"] = "f00d"
        else:
            origin["points"][0]["outside"] = {"trace": "f00d"}
        (own / file).write_text(json.dumps(about))
        found = {each.change.key: each for each in compare(own, results / name).provenance}
        assert set(found) == {"wss", "numpy", "trace (content)"}
        assert found["wss"].change.was == "0.0.9"
        assert found["trace (content)"].points == 1
    text = invoke("compare", own, results / "s").output
    assert "versions and files that differ" in text
    assert "at 1 of 4 points" in text


REFUSED = {
    "a run and a sweep": (["a", "s"], "a: is a run, and "),
    "a sweep and a run": (["s", "a"], "a: is a run, and "),
    "no folder": (["a", "z"], "z: holds no result (no sweep.json, no summary.json)"),
    "no figure": (
        ["a", "b", "--figures", "sped"],
        "--figures sped: is not a figure of these results; did you mean 'speedup'?",
    ),
    "text": (["a", "b", "--figures", "busiest_link"], "--figures busiest_link: is not a figure of these results"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_compared_is_one_line(results, monkeypatch, case):
    monkeypatch.chdir(results)
    arguments, line = REFUSED[case]
    done = invoke("compare", *arguments)
    assert isinstance(done.exception, ConfigError)
    (fault,) = done.exception.faults
    assert fault.startswith(line)


def test_sweeps_without_a_point_in_common_and_with_other_axes(results, tmp_path):
    for name, text in (("u", "grid: {batch: [4], links: {full: {window: 2}}}\n"), ("v", "grid: {seed: [0]}\n")):
        path = sweep_file(tmp_path, TINY.replace("base, ep, pred, allo, allo_pred", "base") + text)
        assert invoke("sweep", path, "--out", tmp_path / name, "--workers", 1).exit_code == 0
    with pytest.raises(ConfigError, match=r"has no point and no policy that .* has too"):
        compare(results / "s", tmp_path / "u")
    with pytest.raises(ConfigError, match=r"has the axes batch, links, and .* has seed; compare sweeps"):
        compare(results / "s", tmp_path / "v")


@pytest.mark.parametrize("damage", [{"host": 3}, {"points": []}, {"points": [{"labels": {"batch": 8}}]}])
def test_a_damaged_provenance_is_one_line(results, tmp_path, damage):
    for part in (results / "s").iterdir():
        if part.is_file():
            (tmp_path / part.name).write_bytes(part.read_bytes())
    about = json.loads((tmp_path / "sweep.json").read_text())
    (tmp_path / "sweep.json").write_text(json.dumps({**about, "notes": [], **damage}))
    with pytest.raises(ConfigError, match="damaged"):
        compare(tmp_path, results / "s")


def test_long_names_are_shortened_to_100_columns():
    change = Change("policies.a_policy_with_a_name." * 3 + "radius", "x" * 80, ["y" * 90])
    row = {
        "figure": "decode_time_s",
        "unit": "s",
        "policy": "p" * 60,
        "a": 1.0,
        "b": 2.5,
        "difference": 1.5,
        "ratio": 2.5,
    }
    found = Comparison(
        folders=("a", "b"),
        axes=("model", "wafer"),
        points=2,
        settings=(Differing(change, 1),),
        provenance=(),
        rows=({**row, "labels": {"model": "m" * 70, "wafer": "a wafer"}},),
        only=((), tuple(f"model={number}" for number in range(12))),
        estimated=True,
    )
    text = comparison_text(found)
    assert max(map(len, text.splitlines())) == 100
    assert "a wafer" in text
    assert "1 s  2.5 s  +1.5 s    2.5" in text
    assert "at 1 of 2 points" in text
    assert "  and 2 more" in text
    assert text.endswith("may be chance")
