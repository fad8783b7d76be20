"""The index of experiments is whole, links lead somewhere, and scripts outside wss use public names."""

import ast
import importlib
import re

import pytest
from kit import ROOT

FOLDERS = sorted(path.parent for path in (ROOT / "experiments").glob("*/README.md"))
SCRIPTS = sorted([*(ROOT / "experiments").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")])


def named(path):
    return path.relative_to(ROOT).as_posix()


def trees(path):
    return ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def imported(path):
    """The modules of wss that a script imports, and the name it takes from each; None for the module itself."""
    for node in trees(path):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names if alias.name.split(".")[0] == "wss")
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "wss":
            yield from ((node.module, alias.name) for alias in node.names)


def test_every_study_has_one_row_in_the_index_and_its_command_names_files_that_are_there():
    text = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ") and "](" in line]
    assert [row[1] for row in rows] == [f"[{folder.name}]({folder.name}/README.md)" for folder in FOLDERS]
    for row in rows:
        assert len(row) == 5, row
        (file,) = re.findall(r"experiments/\S+\.(?:py|yaml)", row[2])
        assert (ROOT / file).exists(), file


def test_every_folder_of_scripts_or_sweeps_has_a_readme():
    parents = {path.parent for path in (ROOT / "experiments").rglob("*") if path.suffix in (".py", ".yaml")}
    assert parents == set(FOLDERS)


def test_every_file_that_a_readme_links_to_is_there():
    for text in sorted((ROOT / "experiments").rglob("README.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", text.read_text(encoding="utf-8")):
            assert (text.parent / target).exists(), (named(text), target)


@pytest.mark.parametrize("path", SCRIPTS, ids=named)
def test_scripts_use_no_private_names_of_wss(path):
    for module, name in imported(path):
        private = [word for word in [*module.split("."), name or ""] if word.startswith("_")]
        assert not private, (module, name)
    for node in trees(path):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            assert isinstance(node.value, ast.Name), ast.unparse(node)
            assert node.value.id == "self", ast.unparse(node)


@pytest.mark.parametrize("path", [path for path in SCRIPTS if path.parent.name == "benchmarks"], ids=named)
def test_benchmarks_use_what_packages_export(path):
    for module, name in imported(path):
        found = importlib.import_module(module)
        if module.count(".") > 1 or (module != "wss" and hasattr(found, "__path__")):  # not wss.records and its like
            assert name in found.__all__, (module, name)
