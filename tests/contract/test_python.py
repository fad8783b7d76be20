"""`import wss`: its names, presets and types."""

import inspect
import subprocess
import sys

import pytest
from kit import ROOT

import wss

NAMES = {
    *("load", "run", "run_many", "sweep", "Experiment", "Policy", "Result", "open_trace", "write_trace"),
    *("MODELS", "WAFERS", "POLICIES", "WssError", "__version__"),
}


def test_the_names_are_all_there_and_complete_in_an_editor():
    assert set(wss.__all__) == NAMES == set(dir(wss))
    for name in NAMES:
        assert getattr(wss, name) is not None
    for name in ("load", "run", "run_many", "sweep", "open_trace", "write_trace"):
        function = getattr(wss, name)
        assert function.__doc__
        assert "return" in inspect.get_annotations(function), name
    with pytest.raises(AttributeError, match="has no attribute 'rum'"):
        _ = wss.rum
    assert (ROOT / "wss" / "py.typed").is_file()


def test_importing_is_fast_and_imports_little():
    code = (
        "import time, sys; start = time.process_time(); import wss; dir(wss); spent = time.process_time() - start\n"
        "print(spent, {'numba', 'numpy', 'networkx', 'pyarrow', 'scipy', 'pydantic', 'yaml', 'simpy'} & {*sys.modules})"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    spent, _, imported = said.partition(" ")
    assert float(spent) < 0.3
    assert imported == "set()\n"


def test_loading_imports_nothing_that_only_a_run_needs():
    code = "import sys, wss; wss.load('gpt_oss_20b'); print({'wss.execution', 'numba', 'scipy'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_presets_are_mappings_with_a_readable_repr():
    assert repr(wss.WAFERS) == "WAFERS, 4 presets:\n  dojo, tsmc_sow, dojo_enhanced, h100_nvl8"
    assert all(len(line) <= 100 for line in repr(wss.POLICIES).splitlines())
    assert dict(wss.MODELS)["deepseek_v3"] is wss.MODELS["deepseek_v3"]
    assert "deepseek" not in wss.MODELS
    assert wss.MODELS.get("deepseek") is None
    with pytest.raises(wss.WssError) as error:
        _ = wss.MODELS["deepseek"]
    assert str(error.value) == "MODELS: 'deepseek' is not known; did you mean 'deepseek_v3'?"
    assert isinstance(error.value, KeyError)
    with pytest.raises(wss.WssError):
        _ = wss.POLICIES[3]
    with pytest.raises(TypeError):
        wss.WAFERS["mine"] = wss.WAFERS["dojo"]


USER = """\
from dataclasses import replace
from pathlib import Path

import numpy as np
import wss

experiment: wss.Experiment = wss.load("qwen3_235b", batch=512, layers={"sample": 8})
result: wss.Result = wss.run(experiment, {"wafer.link.bandwidth": "2 TB/s"}, wafer=wss.WAFERS["dojo"], seed=3)
results: list[wss.Result] = wss.run_many([experiment, "deepseek_v3", Path("a.yaml"), {}], workers=2, steps="all")
policy = replace(wss.POLICIES["ep"], name="mine")
wss.run("a", policies=["base", policy, {"name": "x", "preset": "ep"}], progress=True, trace={"path": "a.parquet"})
low: float | None = result.figure("ep", "speedup").low
text: str = result.table()
folder: Path = result.write("out", force=True)
study = wss.sweep({"config": "a", "grid": {}}, out="b", steps=2)
rows: list[dict[str, object]] = [{**row} for row in study.rows]
with wss.open_trace("a.parquet") as trace:
    shapes = [request.experts.shape for request in trace.requests()]
wss.write_trace("b.parquet", [np.zeros((1, 1, 1), int)], [1], model=wss.MODELS["kimi_k2"], source="x")
names: list[str] = [*wss.MODELS]
try:
    pass
except wss.WssError as error:
    faults: tuple[str, ...] = error.faults
"""
MISUSED = """\
import wss

wss.run("qwen3_235b", bach=1)
wss.run("qwen3_235b", batch=[1024])
wss.rum("qwen3_235b")
wss.load(5)
"""


@pytest.mark.slow
def test_mypy_checks_the_code_of_users(tmp_path):
    for name, text in (("user", USER), ("misused", MISUSED)):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    words = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml")]
    words += ["--cache-dir", str(ROOT / ".mypy_cache"), "user.py", "misused.py"]  # that of the check of wss
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    said = {name: [line for line in done.stdout.splitlines() if line.startswith(name)] for name in ("user", "misused")}
    assert said["user"] == []
    assert [int(line.split(":")[1]) for line in said["misused"] if " error: " in line] == [3, 4, 5, 6]
