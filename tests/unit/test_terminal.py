"""The table of a run and of a sweep: it fits 100 columns, whatever was run, and marks and explains what it shows."""

import pytest
from kit.runs import SMALL
from kit.sweeps import TINY, do, sweep_file

from wss.config import load
from wss.execution import run
from wss.metrics import figures
from wss.metrics.figures import WIDE
from wss.policies import KINDS, POLICIES
from wss.report.catalogue import sections
from wss.report.plotting import looks
from wss.report.sweep_folder import read_sweep, sweep_legend, sweep_table
from wss.report.terminal import MOST, aligned

ALL = "policies=[base, ep, balanced_pred, eplb_online, cross_hierarchy, oracle_worst]"
KINDS_OF_RUN = {
    "plain": [],
    "all policies": [ALL, "steps=2"],
    "dispatch, planning, rebalancing": [ALL, "dispatch=uniform", "planning=20 us", "steps=2"],
    "seeds": [ALL, "dispatch=uniform", "replications=2", "steps=1"],
    "packets": ["network={kind: packet, chunk: 1 MiB, window: 8}", "policies=[base, ep]", "steps=1"],
    "one policy": ["policies=[ep]", "baseline=ep", "steps=1"],
    "a long name": ["policies=[base, {name: a_rather_long_name_of_a_policy_of_mine, preset: ep}]", "steps=1"],
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("small") / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", KINDS_OF_RUN)
def test_a_table_fits_and_its_footnotes_take_four_lines(small, kind):
    text = run(load(small, KINDS_OF_RUN[kind])).table()
    assert max(map(len, text.splitlines())) <= MOST
    assert "SYNTHETIC routing" in text
    assert len(text.split("\n\n")) == 4  # heading, table, verdict, legend
    assert len(text.split("\n\n")[-1].splitlines()) <= 4


def test_wide_has_every_column_and_the_planning(small):
    result = run(load(small, ["policies=[base, allo]", "steps=1"]))
    heading = " ".join(result.table(wide=True).split("\n\n")[1].split("---")[0].split())
    assert "planning, median CPU time per layer run: base" in result.table(wide=True)
    for figure in figures.FIGURES:
        if figure.run and figure.name in result.runs["base"].figures:
            words = figure.run.split()
            assert all(word in heading for word in words)
            assert (figure.rank < WIDE) is (f"{figure.run}:" in result.table() or not figure.note or words[0] == "step")


def test_the_fastest_is_marked_and_oracles_are_named(small):
    result = run(load(small, ["policies=[base, ep, belady]", "steps=2"]))
    first = [line.split("  ")[0] for line in result.table().splitlines()]
    assert "belady (oracle)" in first
    assert sum(name in ("base *", "ep *") for name in first) >= 1
    assert not any(name.startswith("belady (oracle) *") for name in first)
    assert "oracles aside" in result.table()
    assert "*" not in run(load(small, ["policies=[base]", "steps=1"])).table()


def test_headings_are_broken_only_where_the_table_would_be_too_wide():
    cells = [["policy", "busiest link"], ["ep", "1%"]]
    assert aligned(cells, most=20).splitlines() == [
        "policy  busiest link",
        "------  ------------",
        "ep                1%",
    ]
    assert aligned(cells, most=19).splitlines() == [
        "        busiest",
        "policy     link",
        "------  -------",
        "ep           1%",
    ]


def test_constant_axes_of_a_sweep_stand_above_its_table(tmp_path):
    few = TINY.replace("[base, ep, pred, allo, allo_pred]", "[base, ep, belady]")
    do(sweep_file(tmp_path, few + "grid: {seed: [3], batch: [8, 16], window: [4]}"), tmp_path / "out")
    rows, _ = read_sweep(tmp_path / "out")
    axes, oracles = ["seed", "batch", "window"], {"belady"}
    lines = sweep_table(axes, rows, oracles).splitlines()
    assert lines[:2] == ["seed 3, window 4", ""]
    assert lines[2].split()[:2] == ["batch", "policy"]
    assert "link traversals" not in lines[2]
    assert "link traversals" in sweep_table(axes, rows, oracles, wide=True)
    for batch in ("8", "16"):
        own = [line for line in lines if line.startswith(f"{batch:5}  ")]
        assert len(own) == 3
        assert any(" * " in line for line in own)
        assert "belady (oracle) " in own[2]
    legend = sweep_legend(rows, ["a note"], oracles)
    assert "speedup: over base; *: fastest at its point" in legend
    assert "SYNTHETIC routing\n" in legend


def test_every_line_of_the_list_fits_and_every_policy_has_one():
    for section in sections().values():
        for long in (False, True):
            assert max(map(len, section(long).splitlines())) <= MOST
    listed = [name for names in KINDS.values() for name in names]
    assert sorted(listed) == sorted(POLICIES)
    assert all(POLICIES[name].about in sections()["policies"](False) for name in listed)
    jargon = ("Algorithm 1", "insight", "coverage", "heatmap", "location-oblivious")
    assert not [policy.about for policy in POLICIES.values() if any(word in policy.about for word in jargon)]


def test_oracles_are_the_policies_listed_as_such():
    (oracles,) = (names for kind, names in KINDS.items() if kind.startswith("oracles"))
    assert [name for name, policy in POLICIES.items() if policy.is_oracle] == list(oracles)


def test_a_policy_has_one_look_whoever_stands_beside_it():
    assert looks(["ep", "base"])["ep"] == looks(["allo", "mine", "ep"])["ep"]
    mine = looks(["mine", *POLICIES, "yours"])
    assert len({(look["color"], look["hatch"]) for look in mine.values()}) == len(POLICIES) + 2
    assert looks(["mine"])["mine"] == mine["mine"]
