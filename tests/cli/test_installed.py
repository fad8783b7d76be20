"""wss as it is installed: from a wheel, anywhere; from a clone, also where the clone's folder is called wss."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from kit import ROOT

from wss.config import load, shipped
from wss.config.sweep_file import load_sweep
from wss.errors import ConfigError

SHIPPED = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
QUICK = [
    "model={num_layers: 2, moe_layers: [1], num_experts: 8, top_k: 2, hidden_size: 512, moe_intermediate_size: 256}",
    "model.name=tiny",
    "trace.synth={requests: 8, prompt_min: 2, prompt_max: 4, decode_tokens: 3, clusters: 4, subjects: 2}",
    *("batch=8", "steps=1", "policies=[ep]", "baseline=ep", "engine=simpy"),
]


def run(*command, cwd):
    """Run a command as a user would whose environment says nothing of Python."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    own["NUMBA_DISABLE_JIT"] = "1"  # compiling would take a minute, as nothing of it is kept
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture
def python(tmp_path):
    """The Python of a new environment, which has all packages of this one but wss."""
    venv.create(tmp_path / "venv", symlinks=True)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    packages = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    (site / "more.pth").write_text("\n".join(packages), encoding="utf-8")
    return tmp_path / "venv" / "bin" / "python"


@pytest.fixture
def clone(tmp_path):
    """What a clone of the repository has of the package, in a folder called wss."""
    pytest.importorskip("hatchling", reason="builds wheels; it is in the extra 'test'")
    folder = tmp_path / "work" / "wss"
    for name in ("wss", "configs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


def install(python, *what, cwd):
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(*pip, "--python", python, "install", "--no-index", "--no-deps", "--no-build-isolation", *what, cwd=cwd)


@pytest.mark.slow
def test_a_wheel_runs_anywhere(python, clone, tmp_path):
    install(python, clone, cwd=tmp_path)
    shutil.rmtree(clone)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    wss = python.with_name("wss")
    assert "Commands:" in run(wss, "--help", cwd=elsewhere)
    listed = run(wss, "list", cwd=elsewhere)
    assert [line.split()[0] for line in listed.splitlines()[1:6]] == SHIPPED
    settings = [f"--set={setting}" for setting in QUICK]
    assert "\nep " in run(wss, "run", "deepseek_v3", *settings, "--out", "r", cwd=elsewhere)
    where = run(python, "-c", "import wss; print(wss.__file__, wss.load('gpt_oss_20b').model.name)", cwd=elsewhere)
    assert where.startswith(str(tmp_path / "venv"))
    assert not list((tmp_path / "venv").rglob("site-packages/configs"))
    assert where.endswith(" openai/gpt-oss-20b\n")


@pytest.mark.slow
def test_a_clone_called_wss_hides_nothing_from_the_folder_it_is_in(python, clone, tmp_path):
    install(python, "--editable", clone, cwd=tmp_path)
    for folder in (clone.parent, clone):
        found = run(python, "-c", "import wss; print(wss.__file__)", cwd=folder)
        assert found == f"{clone / 'wss' / '__init__.py'}\n"
        assert run(python, "-m", "wss", "--version", cwd=folder).startswith("wss, version ")
    assert run(python, "-m", "wss", "list", cwd=clone.parent).split()[1] == SHIPPED[0]
    assert "wss" not in {path.name for path in (tmp_path / "venv").rglob("site-packages/*") if path.is_dir()}


def test_only_the_package_is_one():
    for folder in ("tests", "experiments", "benchmarks", "configs"):
        assert not (ROOT / folder / "__init__.py").exists(), f"{folder} would be a package beside wss"


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_configuration_is_found_by_its_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    assert load(name) == load(ROOT / "configs" / f"{name}.yaml")
    assert f"\n  {name} on a " in shipped.listed()


def test_a_file_of_that_name_wins(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("deepseek_v3").write_text((ROOT / "configs" / "gpt_oss_20b.yaml").read_text())
    assert load("deepseek_v3").model.name == "openai/gpt-oss-20b"


def test_a_sweep_may_name_one(tmp_path):
    (tmp_path / "s.yaml").write_text("config: gpt_oss_20b\ngrid: {batch: [8]}\n")
    (point,) = load_sweep(tmp_path / "s.yaml").points
    assert point.experiment.model.name == "openai/gpt-oss-20b"


@pytest.mark.parametrize("name", ["deepsek_v3", "deepseek_v3.yaml", "deepseek_v3.yml"])
def test_a_misspelt_name_is_told_the_nearest(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        load(name)
    line = f"{name}: there is no such file, and none of that name comes with wss; did you mean 'deepseek_v3'?"
    assert error.value.faults == (line,)
