"""Small faults that reviewers found, each with the case that showed it."""

import ast
import os
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from kit import ROOT

from wss.cli import cli
from wss.config import plugins
from wss.errors import ConfigError
from wss.files import write_whole
from wss.policies import POLICIES
from wss.report.report import read_results
from wss.serving.policy_host import PolicyHost

RUN = """\
model: gpt_oss_20b
wafer: dojo
trace: {synth: gpt_oss_20b}
batch: 8
steps: 1
layers: [0]
policies: [base, eplb_online]
"""


def test_a_run_whose_policies_have_other_figures_than_the_first_is_drawn(tmp_path):
    (tmp_path / "c.yaml").write_text(RUN)
    for words in (("run", tmp_path / "c.yaml", "--out", tmp_path / "r", "--quiet"), ("report", tmp_path / "r")):
        done = CliRunner().invoke(cli, [str(word) for word in words])
        assert done.exit_code == 0, (done.output, done.exception)


def test_compiled_code_lets_signals_through():
    """Without nogil, the thread that waits for signals never runs while compiled code does."""
    for path in (ROOT / "wss").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("njit"):
                assert "nogil" in [keyword.arg for keyword in node.keywords], (path, node.lineno)


def test_a_program_of_the_users_own_keeps_its_current_folder(tmp_path):
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("import wss\n")
    (package / "__main__.py").write_text("import beside\nprint(beside.HERE)\n")
    (tmp_path / "beside.py").write_text("HERE = 'it is here'\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)} | {"PYTHONSAFEPATH": ""}
    command = [sys.executable, "-m", "mine"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "it is here\n", done.stderr


def test_what_lies_beside_a_class_of_ones_own_is_not_installed(tmp_path, monkeypatch):
    info = tmp_path / "evil-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[wss.allocations]\nevil = evil:Evil\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "evil" in plugins.offered("wss.allocations")
    monkeypatch.setattr(plugins, "ADDED", {str(tmp_path)})
    assert "evil" not in plugins.offered("wss.allocations")


def test_a_link_stays_when_what_it_leads_to_is_replaced(tmp_path):
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_text("old")
    link.symlink_to(real)
    write_whole(link, lambda part: part.write_text("new"), "")
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_a_policy_that_fails_inside_a_library_is_named_by_its_own_line():
    def allocate(view):
        return np.argmin(view)

    line = allocate.__code__.co_firstlineno + 1
    with pytest.raises(ConfigError, match=rf"its allocation failed at test_mended\.py:{line} \(ValueError"):
        PolicyHost(POLICIES["ep"]).call("allocation", allocate, [])


def test_a_report_of_a_sweep_that_is_not_done_says_so(tmp_path):
    (tmp_path / "tasks").mkdir()
    with pytest.raises(ConfigError, match="is an unfinished sweep; run the same"):
        read_results(tmp_path)


def test_settings_of_numba_in_the_current_folder_are_refused(tmp_path):
    (tmp_path / ".numba_config.yaml").write_text("- a\n")
    command = [sys.executable, "-m", "wss", "list"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == ".numba_config.yaml: numba would take its settings from here; run wss in another folder\n"


def test_the_end_does_not_wait_for_a_pipe_that_is_full():
    program = (
        "import os, signal\nfrom wss.ending import end_on_signals\nend_on_signals()\n"
        "os.set_blocking(2, False)\n"
        "try:\n    while True: os.write(2, b'x' * 65536)\nexcept BlockingIOError: os.set_blocking(2, True)\n"
        "os.kill(os.getpid(), signal.SIGINT)\nsignal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.wait(300) == 130
