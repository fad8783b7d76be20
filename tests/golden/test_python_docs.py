"""The Python examples of the documents and the notebooks are executed, at a reduced size."""

import importlib.util
import json
import sys

import pytest
from kit import ROOT
from kit.examples import cells_of, execute, python_of

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
pytest.importorskip("matplotlib", reason="draws with the extra 'plot'")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def pages():
    spec = importlib.util.spec_from_file_location("notebook_pages", ROOT / "docs" / "notebook_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_page_on_python_runs(tmp_path, capsys):
    found = execute(python_of((ROOT / "docs" / "python.md").read_text(encoding="utf-8")), "python.md")
    assert found["trace"].num_rows == 64 * 20
    assert [row["policy"] for row in found["study"].rows] == ["base", "ep", "snake"] * 3
    for name in ("speedup", "links", "layers", "batches"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5_000, name
    said = capsys.readouterr().out.splitlines()
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    for line in said[-2:]:
        assert f"    # {line}\n" in text


def test_there_are_two_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["first_steps", "own_policy"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_without_jupyter(path):
    found = execute(cells_of(path), path.name)
    assert found["result"].figure("ep", "speedup").value > 0


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_the_form_of_nbformat(path):
    """The schema of nbformat 4.5, as far as it applies; cells have no outputs, which would go stale."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook.keys() == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        code = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert cell.keys() == {"cell_type", "id", "metadata", "source"} | code
        assert not cell.get("outputs")
        assert all(line.endswith("\n") for line in cell["source"][:-1])
        assert all(len(line) <= 121 for line in cell["source"])


def test_notebooks_become_pages_in_markdown(tmp_path):
    written = pages().write_pages(ROOT / "docs" / "notebooks", tmp_path / "pages")
    assert [page.name for page in written] == ["first_steps.md", "own_policy.md"]
    for page, path in zip(written, NOTEBOOKS, strict=True):
        text = page.read_text(encoding="utf-8")
        assert text.startswith("# ")
        assert python_of(text) == [f"{cell}\n" for cell in cells_of(path)]


def test_outputs_that_are_text_are_on_the_page():
    cell = {"cell_type": "code", "source": ["print(1)"], "outputs": [{"output_type": "stream", "text": ["1\n"]}]}
    title = {"cell_type": "markdown", "source": ["# Title"]}
    text = pages().as_markdown({"cells": [title, cell]}, "a.ipynb")
    assert "```python\nprint(1)\n```\n\n```text\n1\n```" in text


def test_the_examples_leave_no_module_behind():
    assert "notebook_pages" not in sys.modules
