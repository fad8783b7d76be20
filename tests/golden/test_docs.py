"""README and docs are parsed, loaded and, at reduced size, executed: commands, configurations, Python, links."""

import ast
import importlib
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner
from kit import ROOT
from kit.pages import all_pages, blocks, commands, name_of, small_files

import wss
from wss.cli import cli
from wss.config import load
from wss.config.sweep_file import load_sweep
from wss.execution import run

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
PAGES = all_pages()
RESULTS = (ROOT / "docs" / "reference" / "results.md").read_text(encoding="utf-8")
ELSEWHERE = ("docs/python.md", "docs/advise.md")  # executed by tests of their own: they start processes, or need dumps
EXECUTED = [
    page
    for page in PAGES
    if any(block.language in ("sh", "python") for block in blocks(page)) and name_of(page) not in ELSEWHERE
]
# Their tables hold a command, or the text of `wss/metrics/figures.py`, in one cell.
WIDE = ("experiments/README.md",)
# What sets up an environment, which a test has.
SET_UP = ("git clone", "cd ", "python3 -m venv", ". .venv", "python -m pip install -e")
OWN_FILES = {"DUMP", "my_policy.yaml", "my_model.yaml"}
TOOLS = ("ruff check .", "ruff format --check .", "mypy wss", "lint-imports", "python -m pytest", "python -m sphinx")


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_runs_small(name):
    path = ROOT / "configs" / f"{name}.yaml"
    layers = load(path).model.moe_layers[:2]
    result = run(load(path, ["batch=64", "steps=1", "precision=fp8", f"layers={list(layers)}"]))
    assert {r["policy"] for r in result.to_dict()["runs"]} == {"base", "ep", "pred", "allo", "allo_pred"}


def test_the_two_set_up_commands_are_there():
    assert "python -m pip install -e . && python -m wss run configs/deepseek_v3.yaml" in README
    assert "python -m pip install -e '.[test]' && python -m pytest" in README


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == wss.__version__


@pytest.mark.slow
def test_the_readme_shows_what_the_main_job_prints():
    experiment = load(ROOT / "configs" / "deepseek_v3.yaml")
    table = run(experiment).table()
    shown = re.search(r"```text\n(.*?)\n```", README, re.S)
    assert shown is not None
    assert shown[1] == table.split("\n\nstep:")[0]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_lines_fit(page):
    """In tables too, except one."""
    lines = page.read_text(encoding="utf-8").splitlines()
    if name_of(page) in WIDE:
        lines = [line for line in lines if not line.startswith("|")]
    most = 100 if page == ROOT / "README.md" else 120
    assert [line for line in lines if len(line) > most] == []
    assert len(lines) <= 150 or page != ROOT / "README.md"


def test_every_command_of_the_pages_is_one_of_wss():
    """Its command and its options; values are not checked."""
    found = 0
    for page in PAGES:
        for words in commands(page):
            try:
                _parse(words)
            except click.UsageError as error:
                pytest.fail(f"{name_of(page)}: wss {shlex.join(words)}: {error.message}")
            found += 1
    assert found >= 100


def _parse(words):
    """Parse the words after `wss` without doing or checking anything."""
    # A command keeps its help option, with the names of its first context.
    command, context = cli, click.Context(cli, info_name="wss", **cli.context_settings)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        if "write" in command.commands and words[0] not in command.commands:
            words = ["write", *words]  # `wss placement CONFIG`
        name, command, words = command.resolve_command(context, words)
        context = click.Context(command, info_name=name, parent=context)
    command.make_parser(context).parse_args(list(words))


def test_every_script_that_a_page_runs_is_there():
    for page in PAGES:
        for script in re.findall(r"^ *python ([\w/]+\.py)", page.read_text(encoding="utf-8"), re.M):
            ast.parse((ROOT / script).read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=name_of)
def test_every_block_is_sound(page, tmp_path, monkeypatch):
    """Python, TOML and JSON are parsed, and a configuration or a sweep is loaded."""
    monkeypatch.chdir(tmp_path)
    for block in blocks(page):
        block.write()
    for block in blocks(page):
        if block.language == "python":
            ast.parse(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "yaml":
            _load(block, tmp_path)
    _forget(tmp_path)


def _load(block, folder):
    content = yaml.safe_load(block.text)
    path = folder / (block.file or "block.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding="utf-8")
    if "config" in content:
        assert load_sweep(path, allow_code=True).points
    elif "num_experts" not in content:  # else a model
        load(path, allow_code=True)


@pytest.mark.slow
@pytest.mark.parametrize("page", EXECUTED, ids=name_of)
def test_the_blocks_of_a_page_work_in_order(page, tmp_path, monkeypatch, capsys):
    """In a folder with small copies of the files that ship; files that the page shows are written as it goes."""
    _in_small_copy(tmp_path, monkeypatch)
    names = {}
    for block in blocks(page):
        block.write()
        if block.language == "python" and block.file is None:
            exec(compile(block.text, name_of(page), "exec"), names)
        for line in block.lines if block.language == "sh" else ():
            for part in line.split(" && "):
                _do(part, page, tmp_path, monkeypatch)
            _forget(tmp_path)


def _do(line, page, folder, monkeypatch):
    """Run a line: wss in this process, as starting one takes longer than most commands; pytest in one of its own."""
    words = shlex.split(line, comments=True)
    words, file = (words[:-2], words[-1]) if ">" in words else (words, None)
    if line == "python -m pip install .":
        _install(folder)
        monkeypatch.syspath_prepend(folder / "site")
    elif words[:3] == ["python", "-m", "pytest"] and len(words) > 3:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        tests = [sys.executable, *words[1:], "-p", "no:cacheprovider"]
        done = subprocess.run(tests, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    elif words[0] == "wss" or words[:3] == ["python", "-m", "wss"]:
        said = _wss(words[1 if words[0] == "wss" else 3 :])
        if file is not None:
            Path(file).write_text(said, encoding="utf-8")
    else:
        assert line.startswith((*SET_UP, *TOOLS)), (name_of(page), line)


def _wss(words):
    """Run a command of wss, in one process, and return what it prints."""
    if words[0] in ("sweep", "check") and "--workers" not in words:
        words = [*words, "--workers", "1"]
    done = CliRunner().invoke(cli, words)
    if words[0] == "check" and "--update" in str(done.exception):  # there are no figures of the small copy yet
        whole = words[: words.index("--only")] if "--only" in words else words
        assert CliRunner().invoke(cli, [*whole, "--update"]).exit_code == 0
        done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, (words, done.exception, done.output)
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="draws with the extra 'plot'")
def test_every_command_of_the_readme_works_in_order(tmp_path, monkeypatch):
    """On small copies; those that name a file of the reader's own are run by the tutorial that makes such a file."""
    _in_small_copy(tmp_path, monkeypatch)
    done = [words for words in commands(ROOT / "README.md") if words and not OWN_FILES & {*words}]
    assert len(done) >= 9
    for words in done:
        _wss(words)


def _in_small_copy(folder, monkeypatch):
    """Work in *folder*, with small copies of the files that ship, by path and by name."""
    small_files(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("wss.config.shipped._PACKAGE", folder)
    monkeypatch.setenv("MPLBACKEND", "Agg")


def _forget(folder):
    """Drop the modules that were imported from *folder*: the next line is a process of its own to its reader."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(folder)):
            del sys.modules[name]
    importlib.invalidate_caches()


def _install(folder):
    """Put into ``site`` what pip does of the project in *folder*: its modules and its entry points."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    about, modules = project["project"], project["tool"]["setuptools"]["py-modules"]
    info = folder / "site" / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
    info.mkdir(parents=True)
    for name in modules:
        (folder / f"{name}.py").rename(folder / "site" / f"{name}.py")
    head = f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n"
    (info / "METADATA").write_text(head, encoding="utf-8")
    groups = about["entry-points"].items()
    lines = [line for group, points in groups for line in (f"[{group}]", *(f"{a} = {b}" for a, b in points.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.slow
def test_every_sweep_in_experiments_is_sound():
    found = [at for at in sorted((ROOT / "experiments").glob("*/*.yaml")) if at.stem != "claims"]
    assert len(found) >= 6
    for path in found:
        assert load_sweep(path, allow_code=True).about


def test_every_file_the_texts_link_to_is_there():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), (page, target)


def test_the_docs_explain_every_figure_of_the_summary():
    path = ROOT / "configs" / "gpt_oss_20b.yaml"
    summary = run(load(path, ["batch=64", "steps=1", "layers=[0]"])).to_dict()
    for key in json.loads(json.dumps(summary))["runs"][0]:
        assert f"`{key}`" in RESULTS, key
