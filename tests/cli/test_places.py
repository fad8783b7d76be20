"""Where a command runs and writes: odd paths, two at a time, no home, a full disk, and Python that skips asserts."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner
from kit import ROOT
from kit.sweeps import TINY, sweep_file

from wss.cli import cli
from wss.errors import OutputError
from wss.files import only_one

FEW = TINY.replace("[base, ep, pred, allo, allo_pred]", "[base, ep]")
RUN = "\n".join(line[2:] for line in FEW.splitlines() if line.startswith("  "))
NAMES = {"summary.json", "layers.parquet", "links.parquet"}


def invoke(*arguments):
    return CliRunner().invoke(cli, [str(a) for a in arguments])


def wss(*arguments, options=(), **environment):
    """Run a command in a process of its own."""
    changed = {name: value for name, value in (os.environ | environment).items() if value is not None}
    command = [sys.executable, *options, "-m", "wss", *map(str, arguments)]
    return subprocess.run(command, env=changed | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)


def figures_of(folder):
    return json.loads((folder / "summary.json").read_text())["runs"]


def test_paths_with_spaces_signs_and_links(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    odd = tmp_path / "a b ü"
    odd.mkdir()
    config = sweep_file(odd, RUN, "cfg é.yaml")
    (tmp_path / "link.yaml").symlink_to(config)
    (tmp_path / "out").symlink_to(odd, target_is_directory=True)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for path, out in ((config, odd / "o 1"), ("link.yaml", "out/o2")):
        done = invoke("run", path, "--out", out, "--quiet")
        assert done.exit_code == 0, done.output
        assert {item.name for item in Path(out).iterdir()} == NAMES
    assert figures_of(odd / "o 1") == figures_of(odd / "o2")
    for out in ("out", "dangling"):
        for force in ((), ("--force",)):
            assert isinstance(invoke("run", config, "--out", out, *force).exception, OutputError)
    assert not (tmp_path / "nowhere").exists()
    assert (odd / "cfg é.yaml").is_file()


def test_of_two_commands_in_one_folder_the_second_is_refused(tmp_path):
    refused = pytest.raises(OutputError, match="out: another command writes there now; wait for it")
    with only_one(tmp_path, "out"), refused, only_one(tmp_path, "out"):
        pass
    with only_one(tmp_path, "out"):
        pass


def test_a_sweep_holds_its_folder(tmp_path):
    path = sweep_file(tmp_path, FEW + "grid: {batch: [8]}")
    (tmp_path / "out" / "tasks").mkdir(parents=True)
    for held in (True, False):
        with only_one(tmp_path / "out" / "tasks", "") if held else nullcontext():
            done = invoke("sweep", path, "--out", tmp_path / "out", "--workers", 1, "--quiet")
        assert isinstance(done.exception, OutputError) == held
        assert (tmp_path / "out" / "sweep.json").exists() != held


def test_a_report_that_finds_no_room_leaves_nothing_half_written(tmp_path, monkeypatch):
    config = sweep_file(tmp_path, RUN, "run.yaml")
    assert invoke("run", config, "--out", tmp_path / "run", "--quiet").exit_code == 0
    real = Path.write_text

    def full(path, text, *arguments, **options):
        real(path, text[: len(text) // 2], *arguments, **options)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    done = invoke("report", tmp_path / "run", "--out", tmp_path / "report")
    assert isinstance(done.exception, OutputError)
    assert f"{tmp_path / 'report'}: cannot be written (No space left on device)" in str(done.exception)
    assert {path.name for path in tmp_path.iterdir()} == {"run.yaml", "run"}


@pytest.mark.slow
@pytest.mark.parametrize("force", [(), ("--force",)])
def test_two_runs_at_the_same_time_into_one_folder(tmp_path, force):
    config, seeds = sweep_file(tmp_path, RUN, "run.yaml"), (1, 2)
    with ThreadPoolExecutor(2) as pool:
        common = ("run", config, "--out", tmp_path / "out", "--quiet", *force)
        done = list(pool.map(lambda seed: wss(*common, "--set", f"seed={seed}"), seeds))
    assert all(each.returncode in (0, 2) and len(each.stderr.splitlines()) <= 1 for each in done)
    won = [seed for seed, each in zip(seeds, done, strict=True) if each.returncode == 0]
    assert won
    assert force or len(won) == 1
    assert {item.name for item in (tmp_path / "out").iterdir()} == NAMES
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["provenance"]["seed"] in won
    assert {item.name for item in tmp_path.iterdir()} == {"run.yaml", "out"}


@pytest.mark.slow
@pytest.mark.parametrize("home", [None, "", "/proc"])
def test_no_home_is_no_fault(tmp_path, home):
    config = sweep_file(tmp_path, RUN, "run.yaml")
    nowhere = {"HOME": home, "XDG_CACHE_HOME": None, "MPLCONFIGDIR": str(tmp_path) if home == "" else None}
    commands = [("run", config, "--out", tmp_path / "out", "--quiet"), ("report", tmp_path / "out")]
    for done in (*(wss(*command, **nowhere) for command in commands), wss("list", NUMBA_CACHE_DIR=None, **nowhere)):
        assert done.returncode == 0, done.stderr
        assert len(done.stderr.splitlines()) <= 1
    assert home != "/proc" or "cannot hold compiled code" in done.stderr


@pytest.mark.slow
def test_without_asserts_and_on_a_poor_terminal_the_figures_are_the_same(tmp_path):
    config = sweep_file(tmp_path, RUN, "run.yaml")
    outs = [tmp_path / "plain", tmp_path / "optimised"]
    for out, options in zip(outs, ((), ("-OO",)), strict=True):
        done = wss("run", config, "--set", "replications=2", "--out", out, options=options, PYTHONIOENCODING="koi8-r")
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii()
    assert figures_of(outs[0]) == figures_of(outs[1])
    bad = wss("run", config, "--set", "batch=0", options=("-OO",))
    assert (bad.returncode, len(bad.stderr.splitlines())) == (2, 1)
