"""What comes from a stranger runs nothing, names no other file, and stays text."""

import csv
import json
import re
import subprocess
from xml.etree import ElementTree

import pytest
from kit import ROOT
from kit.sweeps import TINY, do, sweep_file

import wss
from wss.config.sweep_file import load_sweep
from wss.errors import ConfigError
from wss.escaping import for_csv, for_markdown, for_terminal, is_plain_name, lines_for_terminal
from wss.report.report import Results, read_results, write_report
from wss.sweeps.check import _commit


def test_no_program_of_a_strangers_repository_runs(tmp_path, monkeypatch):
    package = tmp_path / ".venv" / "lib" / "wss" / "__init__.py"  # wss installed within the stranger's repository
    package.parent.mkdir(parents=True)
    package.write_text("")
    script = tmp_path / "e.sh"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/PWNED\ncat\n")
    script.chmod(0o755)
    git = ("git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b")
    (tmp_path / ".gitattributes").write_text("*.txt filter=own\n")
    (tmp_path / "a.txt").write_text("a")
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "x"], ["config", "core.fsmonitor", script]):
        subprocess.run([*git, *arguments], check=True)
    subprocess.run([*git, "config", "filter.own.clean", script], check=True)
    (tmp_path / "a.txt").write_text("b")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))
    here = _commit()
    monkeypatch.setattr(wss, "__file__", str(package))
    assert _commit() is None
    assert not (tmp_path / "PWNED").exists()
    assert (here is None) == (not (ROOT / ".git").exists())


@pytest.mark.parametrize("name", ["..", ".", ".a", "-x", "a/b", "a\\b", "a\0b", "a\nb", "x" * 201, "é" * 101, "", 3])
def test_a_name_that_is_no_plain_file_name_is_refused_in_one_line(tmp_path, name):
    assert not is_plain_name(name)
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps({"name": name, "config": {}, "grid": {"batch": [8]}}))
    with pytest.raises(ConfigError) as error:
        load_sweep(path)
    (fault,) = (fault for fault in error.value.faults if ": name: " in fault)
    assert fault.isprintable()
    assert fault.endswith("is not right; give plain text without '/', not begun by '-' or '.', of at most 200 bytes")


def test_plain_names_are_taken():
    assert all(map(is_plain_name, ["fig12", "a b", "a..b", "größe", "x" * 200]))


@pytest.mark.parametrize("what", ["axis", "label", "value"])
def test_a_label_with_control_characters_is_refused(tmp_path, what):
    bad = "a\x1b[31mb"
    grid = {"axis": {bad: [8]}, "label": {"a": {bad: {"batch": 8}}}, "value": {"gemm": ["ideal", bad]}}[what]
    path = tmp_path / "s.yaml"
    path.write_text(json.dumps({"config": {}, "grid": grid}))
    with pytest.raises(ConfigError, match="give it a label without control characters"):
        load_sweep(path)


def test_csv_takes_the_force_from_formulas_and_leaves_the_rest():
    formulas = ["=cmd|calc!A1", "@SUM(1)", "+1+cmd", "-1+cmd", "\t=1", "  =1", "＝1"]
    assert [for_csv(text) for text in formulas] == [f"'{text}" for text in formulas]
    plain = ["-", "-1.5", "+2e3", "a=b", "", "half", 3, -2.5, True, None]
    assert [for_csv(value) for value in plain] == plain


def test_markdown_shows_what_comes_from_outside_as_it_is():
    assert for_markdown("<script>alert(1)</script>") == "&lt;script&gt;alert(1)&lt;/script&gt;"
    assert for_markdown("[a](javascript:b) | `c` *d* \\") == r"\[a\](javascript:b) \| \`c\` \*d\* " + "\\\\"
    assert for_markdown("a\n# b\x1b[0m") == r"a # b?\[0m"
    assert (for_markdown("deepseek_v3"), for_markdown("__x__")) == ("deepseek_v3", r"\_\_x\_\_")


def test_a_terminal_gets_no_control_characters():
    assert for_terminal("a\x1b[2Jb\r\n\u202ec\udcff") == "a?[2Jb???c?"
    assert lines_for_terminal("a\nb\x07") == "a\nb?"


def test_a_hostile_sweep_is_drawn_as_text(tmp_path, monkeypatch):
    """Labels, names and titles in every format, and the settings of a stranger's matplotlibrc."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    monkeypatch.chdir(tmp_path)
    text = TINY.replace("[base, ep, pred, allo, allo_pred]", "[base, {name: '<b>|=1', preset: ep}]")
    grid = """grid:\n  "=H(1)":\n    '@S|<script>': {batch: 8}\n    '[a](javascript:b)': {batch: 16}\n"""
    path = sweep_file(tmp_path, text + grid)
    do(path, tmp_path / "out")
    results = read_results(tmp_path / "out")
    hostile = Results("<img src=x>\n# t\x1b", results.axes, results.rows, results.links, ["<i>note</i>"])
    written = write_report(hostile, tmp_path / "report", "svg")
    for picture in (file for file in written if file.suffix == ".svg"):
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(picture.read_bytes()).iter()}
        assert not tags & {"script", "img", "b"}
    report = written[-1].read_text()
    assert not re.search(r"<(?!/?$)[a-z]|(?<!\\)\]\(javascript|\x1b|\n# t", report)
    lines = (tmp_path / "out" / "results.csv").read_text().splitlines()
    assert not [cell for line in csv.reader(lines) for cell in line if cell[:1] in ("=", "@", "+")]
