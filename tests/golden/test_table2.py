"""Table II: what the page shows is what the script prints, and what it says of the paper's sums holds."""

import importlib.util
import sys

import pytest
from kit import ROOT

FOLDER = ROOT / "experiments" / "table2"


@pytest.fixture(scope="module")
def table2():
    """The script as a module; dataclasses look their module up by its name."""
    spec = importlib.util.spec_from_file_location("table2", FOLDER / "table2.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_the_page_shows_what_the_script_prints(table2, capsys):
    table2.main()
    printed = capsys.readouterr().out.splitlines()
    page = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(printed) > 20
    assert [line for line in printed if line not in page] == []


def test_the_papers_rows_do_not_add_up_in_area(table2):
    assert sum(unit.mm2 for unit in table2.UNITS) == pytest.approx(8.6348)
    assert sum(unit.mw for unit in table2.UNITS) == pytest.approx(table2.TOTAL_MW)


def test_one_unit_a_die_and_sram_by_its_bits(table2):
    atu, cache = (unit for unit in table2.UNITS if unit.name in ("address translation unit", "heatmap cache"))
    assert (atu.count(25), atu.count(24), cache.count(25)) == (25, 24, 1)
    assert atu.ours(24) == pytest.approx(24 * 512 * 68 * 0.03e-6)  # 512 entries of 68 bits
    assert all(unit.um2_a_bit() < table2.CELL_UM2 / 3 for unit in table2.UNITS if unit.kind == "sram")
