"""The table of figures: documented row by row, and read by all that shows, compares or estimates figures."""

import pytest
from kit import ROOT
from kit.runs import SMALL
from kit.sweeps import TINY, do, sweep_file

from wss.config import load
from wss.config.sweep_file import load_sweep
from wss.execution import run
from wss.metrics import figures
from wss.metrics.figures import Figure, Value
from wss.metrics.measures import ratio
from wss.report.sweep_folder import read_sweep, sweep_table
from wss.sweeps.check import Moved, expected_of

NEW = Figure("mean_die_share", "share", "mean of the dies' times over the time of layer runs",
             ratio("mean_die_time_s", "time_s"), run="evenness", sweep="mean of dies", sign=1)  # fmt: skip


@pytest.fixture
def new_row(monkeypatch):
    monkeypatch.setattr(figures, "FIGURES", (*figures.FIGURES, NEW))


def test_the_page_has_a_line_for_each_figure():
    page = (ROOT / "docs" / "reference" / "results.md").read_text(encoding="utf-8").splitlines()
    start = page.index("| figure | unit | meaning |") + 2
    lines = page[start : page.index("", start)]
    assert lines == [f"| `{each.name}` | {each.unit} | {each.meaning} |" for each in figures.FIGURES]


def test_names_are_distinct():
    assert len(figures.by_name()) == len(figures.FIGURES)


def test_a_run_has_no_figure_that_is_not_in_the_table(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    for row in run(load(path, ["steps=1"])).to_dict()["runs"]:
        assert set(row) <= {figure.name for figure in figures.FIGURES}


def test_a_new_row_is_in_the_summary_and_in_the_table_of_a_run(new_row, tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    result = run(load(path))
    for own, ledger in zip(result.to_dict()["runs"], result.ledgers, strict=True):
        share = sum(row.mean_die_time_s for row in ledger.decode) / sum(row.time_s for row in ledger.decode)
        assert own["mean_die_share"] == pytest.approx(share, rel=1e-12)
        assert own["mean_die_share"] == pytest.approx(1 / own["imbalance"], rel=1e-12)
    assert "evenness" in result.table()


def test_a_new_row_is_estimated_where_layers_are_sampled(new_row):
    settings = ["layers.sample=4", "batch=16", "steps=1", "policies=[base, ep]"]
    (own, _) = run(load(ROOT / "configs" / "gpt_oss_20b.yaml", settings)).to_dict()["runs"]
    low, high = own["ci95"]["mean_die_share"]
    assert 0 < low < own["mean_die_share"] < high < 1.5
    assert own["mean_die_share"] * own["imbalance"] == pytest.approx(1, rel=1e-12)


def test_a_new_row_is_in_a_sweep_and_in_its_check(new_row, tmp_path):
    text = TINY + "grid:\n  batch: [8, 16]\ncheck: {figures: [mean_die_share]}\n"
    path = sweep_file(tmp_path, text)
    do(path, tmp_path / "out")
    rows, _ = read_sweep(tmp_path / "out")
    assert all(0 < row["mean_die_share"] <= 1 for row in rows)
    assert "mean of dies" in sweep_table(["batch"], rows).splitlines()[0]
    values = expected_of(load_sweep(path), "", rows, path)["values"]
    assert [each["mean_die_share"] for each in values] == [row["mean_die_share"] for row in rows]
    assert moved("mean_die_share", 0.8, 0.7) == "worse"


def moved(figure, expected, found):
    """The verdict of a figure that has moved."""
    return Moved(labels={}, policy="ep", figure=figure, expected=expected, found=found, share=0.1).verdict


@pytest.mark.parametrize("figure", ["speedup", "throughput_tokens_per_s", "throughput_paper_tokens_per_s"])
def test_more_is_better(figure):
    assert (moved(figure, 1.0, 2.0), moved(figure, 2.0, 1.0)) == ("better", "worse")


@pytest.mark.parametrize("figure", ["decode_time_s", "hops", "prefill_hops", "link_bytes", "bound_ratio", "imbalance"])
def test_less_is_better(figure):
    assert (moved(figure, 1.0, 2.0), moved(figure, 2.0, 1.0)) == ("worse", "better")


@pytest.mark.parametrize("figure", ["llc_hits", "mean_link_utilization", "decode_time_s_low", "batch"])
def test_neither_is_better(figure):
    assert moved(figure, 1.0, 2.0) == "moved"


def test_a_value_has_the_interval_over_seeds_if_there_is_one():
    assert (Value(2.0).low, Value(2.0).high) == (None, None)
    assert (Value(2.0, layers=(1.0, 3.0)).low, Value(2.0, layers=(1.0, 3.0)).high) == (1.0, 3.0)
    both = Value(2.0, layers=(1.0, 3.0), seeds=(0.5, 3.5))
    assert (both.low, both.high) == (0.5, 3.5)
