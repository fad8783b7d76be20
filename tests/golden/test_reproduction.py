"""The page of the paper's claims is what the experiments' results say, and figure 12 is the paper's."""

import importlib.util
import json

import pytest
from kit import ROOT

SCRIPT = ROOT / "experiments" / "reproduction" / "table.py"


@pytest.fixture
def table():
    spec = importlib.util.spec_from_file_location("reproduction_table", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_holds_what_the_command_writes(table):
    page = table.PAGE.read_text(encoding="utf-8")
    assert table.page(page, table.results()) == page


def test_every_claim_has_a_mark_and_a_cause_where_it_differs(table):
    for row in table.rows(table.results()):
        *_, mark, cause = row
        assert mark in table.MARKS.values()
        assert cause or mark == "Reproduced", row


def test_a_figure_that_no_experiment_has_written_is_named(table):
    results = table.results()
    del results["fig12"]["paper"]["deepseek_v3"]
    with pytest.raises(SystemExit, match="DeepSeek-V3: KeyError 'deepseek_v3'; run the experiment"):
        table.rows(results)


def test_figure_12_is_the_papers_under_its_physics():
    """Averages over 24 points: within 3% for Allo and Allo+Pred, 7% for Pred."""
    content = json.loads((ROOT / "experiments" / "fig12" / "results.json").read_text(encoding="utf-8"))
    found = content["paper"]["all"]
    assert found["pred"] == pytest.approx(3.0, rel=0.07)
    assert found["allo"] == pytest.approx(6.3, rel=0.03)
    assert found["allo_pred"] == pytest.approx(6.63, rel=0.03)
