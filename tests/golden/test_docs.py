"""What README and docs say is executed: every configuration, every command, every name of a file or figure."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner
from kit import ROOT

from wss.cli import cli
from wss.config import load
from wss.config.sweep_file import load_sweep
from wss.execution import run
from wss.records import LayerRow

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_runs_small(name):
    path = ROOT / "configs" / f"{name}.yaml"
    layers = load(path).model.moe_layers[:2]
    result = run(load(path, ["batch=64", "steps=1", "precision=fp8", f"layers={list(layers)}"]))
    assert {r["policy"] for r in result.to_dict()["runs"]} == {"base", "ep", "pred", "allo", "allo_pred"}


def commands(text):
    """The Python commands of a text's shell blocks."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("python -m ")]


def test_the_two_set_up_commands_are_there():
    assert "python -m pip install -e . && python -m wss run configs/deepseek_v3.yaml" in README
    assert "python -m pip install -e '.[test]' && python -m pytest" in README


@pytest.mark.slow
def test_the_readme_shows_what_the_main_job_prints():
    experiment = load(ROOT / "configs" / "deepseek_v3.yaml")
    table = run(experiment).table()
    shown = re.search(r"```text\n(.*?)\n```", README, re.S)
    assert shown is not None
    assert shown[1] == table.split("\n\nstep:")[0]


@pytest.mark.slow
def test_every_command_of_the_readme_works_in_order(tmp_path, monkeypatch):
    """All in this process, as starting one takes longer than most commands: `python -m wss` itself is tested below."""
    for folder in ("configs", "experiments"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    found = commands(README)
    assert len(found) >= 8
    for line in found:
        python, dash_m, wss, *words = shlex.split(line)
        assert (python, dash_m, wss) == ("python", "-m", "wss")
        words, _, file = (words[:-2], *words[-2:]) if ">" in words else (words, None, None)
        if words[0] == "run":
            layers = [] if "layers" in line else [f"layers={list(load(words[1]).model.moe_layers[:2])}"]
            words += [f"--set={setting}" for setting in ("batch=64", "steps=1", *layers)] + ["--quiet"]
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 0, (line, done.exception, done.stderr)
        if file is not None:
            Path(file).write_text(done.stdout, encoding="utf-8")


def install(project, modules, site):
    """Put into *site* what pip does of a *project*: its modules and its entry points. No index is needed for it."""
    info = site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    for name, text in modules.items():
        (site / name).write_text(text, encoding="utf-8")
    about = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(about, encoding="utf-8")
    groups = project["entry-points"].items()
    lines = [line for group, points in groups for line in (f"[{group}]", *(f"{a} = {b}" for a, b in points.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.slow
def test_the_policy_and_the_layout_of_the_docs_run_as_they_say(tmp_path):
    """Written, tested, shipped: what pip would install of the package lies beside it."""
    text = (ROOT / "docs" / "tutorials" / "own_policy.md").read_text(encoding="utf-8")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    policy, test, more = re.findall(r"```python\n(.*?)```", text, re.S)
    (package,) = re.findall(r"```toml\n(.*?)```", text, re.S)
    (tmp_path / "my_policy.py").write_text(policy, encoding="utf-8")
    (tmp_path / "test_my_policy.py").write_text(test, encoding="utf-8")
    paths = [str(ROOT), str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]
    said = []
    for line in commands(text):
        if line == "python -m pip install .":
            install(tomllib.loads(package)["project"], {"my_policy.py": policy + more}, tmp_path / "site")
            (tmp_path / "my_policy.py").unlink()
            continue
        if " -m wss " in line:
            line += " --set batch=64 --set steps=1"
        line = line.replace("python", shlex.quote(sys.executable), 1)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        said.append(done.stdout)
    mine, tested, shipped, placement, placed = said
    assert re.search(r"^mine +\d", mine, re.M)
    assert re.search(r"\b25 passed in ", tested)
    assert re.search(r"^mine +\d.*\nwide +\d", shipped, re.M)
    assert placement.startswith("wrote layout.json: 24 MoE layers, 32 experts on 25 dies, 3 slots")
    assert re.search(r"^mine +\d", placed, re.M)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="draws with the extra 'plot'")
def test_the_tutorial_of_sweeps_works_as_it_says(tmp_path):
    text = (ROOT / "docs" / "tutorials" / "sweep.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    first, mine = re.findall(r"```yaml\n(.*?)```", text, re.S)
    for name, block in (("nearest_idle.py", code), ("first.yaml", first), ("mine.yaml", mine)):
        (tmp_path / name).write_text(block, encoding="utf-8")
    assert len(load_sweep(tmp_path / "first.yaml").points) == 16
    said = []
    for line in commands(text):
        line = line.replace("python", shlex.quote(sys.executable), 1)
        done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (line, done.stderr)
        said.append(done)
    assert re.search(r"^1024 +mine_3x +\d", said[0].stdout, re.M)
    report = tmp_path / "results" / "mine" / "report"
    assert (report / "speedup.png").stat().st_size > 10_000
    assert "| 256 | mine |" in (report / "report.md").read_text()
    assert "10 tasks: 0 run" in said[2].stderr
    assert "all 20 figures hold" in said[3].stdout


@pytest.mark.slow
def test_the_python_of_the_results_runs(monkeypatch, capsys):
    text = (ROOT / "docs" / "reference" / "results.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    monkeypatch.chdir(ROOT)
    exec(compile(code, "results.md", "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert said[1] == "['base', 'ep']"
    assert "speedup is over base;" in " ".join(said)


def test_every_sweep_in_experiments_is_sound():
    found = [at for at in sorted((ROOT / "experiments").glob("*/*.yaml")) if at.stem != "claims"]
    assert len(found) >= 6
    for path in found:
        assert load_sweep(path, allow_code=True).about


def test_every_yaml_block_of_the_readme_is_sound(tmp_path):
    blocks = re.findall(r"```yaml\n(.*?)```", README, re.S)
    assert blocks
    for i, block in enumerate(blocks):
        path = tmp_path / f"{i}.yaml"
        path.write_text(block, encoding="utf-8")
        load(path)


def test_every_column_of_kernels_is_explained_and_no_other():
    text = (ROOT / "docs" / "reference" / "results.md").read_text(encoding="utf-8")
    section = text.partition("## layers.parquet")[2].partition("\n## ")[0]
    told = set(re.findall(r"`(\w+)`", section)) - {"link_bytes", "hbm_peak_bytes"}
    assert told == {field.name for field in fields(LayerRow)} | {"seed"}


def test_every_file_the_texts_link_to_is_there():
    for text in [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]:
        for target in re.findall(r"\]\(([^)#:]+)\)", text.read_text(encoding="utf-8")):
            assert (text.parent / target).exists(), (text, target)


def test_the_readme_explains_every_figure_of_the_summary(tmp_path):
    path = ROOT / "configs" / "gpt_oss_20b.yaml"
    summary = run(load(path, ["batch=64", "steps=1", "layers=[0]"])).to_dict()
    figures = (ROOT / "docs" / "reference" / "results.md").read_text(encoding="utf-8")
    for key in json.loads(json.dumps(summary))["runs"][0]:
        assert f"`{key}`" in figures, key
