"""Figures 14, 15 and 17: pages show what was measured, and the arithmetic of the scripts by hand."""

import importlib.util
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from kit import ROOT

from wss.config import load
from wss.records import Plan

FIGURES = ("fig14", "fig15", "fig17")


@pytest.fixture(scope="module")
def script():
    """The scripts as modules, by name; dataclasses look their module up by its name."""
    made = {}
    for name in FIGURES:
        spec = importlib.util.spec_from_file_location(name, ROOT / "experiments" / name / f"{name}.py")
        made[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made[name])
    yield made
    for name in FIGURES:
        del sys.modules[name]


@pytest.mark.parametrize("name", FIGURES)
def test_the_page_shows_what_was_measured(script, name):
    folder = ROOT / "experiments" / name
    content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    page = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    shown = script[name].tables(content).splitlines()
    assert len(shown) > 10
    assert [line for line in shown if line not in page] == []


def test_what_figure_14_says_is_judged(script):
    amounts = {"local": 1e12, "remote": 3e12, "written": 0.0}
    found = {p: dict.fromkeys(script["fig14"].POLICIES, amounts) for p in script["fig14"].PHYSICS}
    holds = [row["wss"]["holds"] for row in script["fig14"].claims(found)]
    assert holds == [True, False, False, False, False, False]
    assert script["fig14"].claims(found)[0]["wss"]["found"] == "75.0% remote"


def rows_of(fig15, fixed, each, cases):
    """Layer runs of which the cost *fixed* + *each* · batch is just the middle of the paper's range."""
    for wafer, model in cases:
        low, high = fig15.RANGES[wafer, model]
        for batch in (1024, 4096, 16384):
            bus = (1e3 + 2e3) / 64e9
            layer_run = (fixed + each * batch + bus) / ((low + high) / 2)
            yield {
                "physics": "wss", "wafer": wafer, "model": model, "batch": batch, "kernel_s": layer_run,
                "up_bytes": 1e3, "down_bytes": 2e3,
            }  # fmt: skip


def test_a_cost_that_meets_all_ranges_is_found(script):
    fig15 = script["fig15"]
    rows = list(rows_of(fig15, 20e-6, 2e-9, fig15.RANGES))
    fixed, each, miss = fig15.fit(rows)
    assert miss == 0
    for row in rows:
        low, high = fig15.RANGES[row["wafer"], row["model"]]
        assert low * 0.999 <= (fixed + each * row["batch"] + fig15.bus_s(row)) / row["kernel_s"] <= high * 1.001


def test_a_cost_that_misses_tells_by_how_much(script):
    """One fixed cost for two layer runs, of which one may take 6.4 us at most and the other 11.1 us at least.

    A cost of c misses by c / 6.4 - 1 and by 1 - c / 11.1: alike at c = 2 / (1 / 6.4 + 1 / 11.1).
    """
    common = {"batch": 64, "kernel_s": 1e-4, "up_bytes": 0.0, "down_bytes": 0.0}
    rows = [{"wafer": "dojo", "model": model, **common} for model in ("deepseek_v3", "qwen3_235b")]
    fixed, each, miss = script["fig15"].fit(rows, is_fixed=True)
    assert fixed == pytest.approx(2e-6 / (1 / 6.4 + 1 / 11.1))
    assert (each, miss) == (0, pytest.approx(fixed / 6.4e-6 - 1))


def test_gpus_without_links_in_the_papers_simulator_by_hand(script):
    """A GPU with one expert: a look-up, three reads one after the other, and the last slice's computing.

    A slice of Qwen3 has 12,582,912 B and 100 tokens bring 1,126,400 B; 3015 B/ns and 0.7e6 FLOP/ns.
    """
    machine = script["fig17"].unlinked(load(ROOT / "configs" / "qwen3_235b.yaml"), 2)
    array = np.array
    plan = Plan(
        expert=array([5, 5]), die=array([1, 0]), tokens=array([100, 100]), source=array([1, 0]), copy=array([False] * 2)
    )
    nanoseconds = 110 + 3 * (300 + 4548) + 1798
    assert script["fig17"].die_times(machine, plan).tolist() == pytest.approx([nanoseconds * 1e-9] * 2)


def test_figure_17s_ratios(script):
    """Two layer runs on two GPUs: Default takes 3 + 4, and its GPUs 1 + 4 and 3 + 2 in all."""
    default = [np.array([1.0, 3.0]), np.array([4.0, 2.0])]
    even = [np.array([2.0, 2.0]), np.array([3.0, 3.0])]
    found = script["fig17"].figures({"default": default, "remap": even, "dup": default, "best": even, "worst": default})
    assert found["Remap / Default"] == pytest.approx(7 / 5)
    assert found["Remap / Best"] == 1
    assert found["Default, max/min of a layer"] == pytest.approx((3 + 2) / 2)
    assert found["Default, max/min of all layers"] == 1


def test_the_gains_of_the_insights_are_written_only_with_save(tmp_path, monkeypatch, capsys):
    path = ROOT / "experiments" / "insights" / "gains.py"
    gains = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location("gains", path))
    spec.loader.exec_module(gains)
    row = {"policy": "on", "baseline": "off", "model": "m", "batch": 8, "insight": "1: duplication"}
    rows = [{**row, "speedup": speedup} for speedup in (1.0, 1.2)]
    monkeypatch.setattr(gains, "read_results", lambda folder: SimpleNamespace(rows=rows))
    monkeypatch.setattr(gains, "SAVED", tmp_path / "results.json")
    gains.main(tmp_path, save=False)
    assert "1.100x" in capsys.readouterr().out
    assert not gains.SAVED.exists()
    gains.main(tmp_path, save=True)
    assert json.loads(gains.SAVED.read_text())["1"]["most"] == pytest.approx(1.1)
