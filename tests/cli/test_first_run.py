"""What a first run pays for: imports of other packages, and compiling, which is announced."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from kit import ROOT

import wss.compile_cache
from wss.cli import cli

SLOW = {"numba", "networkx", "pyarrow", "scipy", "pydantic"}

CONFIG = """
model: gpt_oss_20b
wafer: dojo
trace: {synth: {preset: gpt_oss_20b, requests: 8, decode_tokens: 2}}
batch: 8
steps: 1
layers: [3]
policies: [ep]
baseline: ep
"""


@pytest.mark.parametrize(
    "code",
    [
        "import wss",
        "from wss.cli import cli; cli(['list'], standalone_mode=False)",
        "from wss.cli import cli; cli(['--help'], standalone_mode=False)",
        "from wss.cli import cli; cli(['schema'], standalone_mode=False)",
        f"from wss.cli import cli; cli(['run', {str(ROOT / 'configs' / 'deepseek_v3.yaml')!r}, '--dry-run'])",
    ],
    ids=["import", "list", "help", "schema", "dry-run"],
)
def test_what_runs_nothing_imports_no_slow_package(code):
    begin = "import atexit, json, sys; atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))"
    done = subprocess.run([sys.executable, "-c", f"{begin}\n{code}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    needed = {"pydantic"} if "schema" in code else set()
    if "--dry-run" in code:  # it checks the configuration, builds the wafer, and looks into the trace
        needed = {"networkx", "pyarrow", "pydantic"}
    assert not (SLOW - needed) & set(json.loads(done.stderr.splitlines()[-1]))


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Return a function that begins a run with or without options, and gives what it prints before its first layer."""
    (tmp_path / "small.yaml").write_text(CONFIG)
    monkeypatch.setattr("wss.execution.run", lambda *_: sys.exit(0))  # it would compile
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    return lambda *options: CliRunner().invoke(cli, ["run", str(tmp_path / "small.yaml"), *options]).stderr


def test_a_first_run_announces_that_it_compiles(started, tmp_path):
    assert started().startswith("compiling the simulator's inner loops: once per installation")
    assert started("--quiet") == ""
    assert started("--dry-run") == ""
    (tmp_path / "cache" / "engine_0").mkdir(parents=True)
    (tmp_path / "cache" / "engine_0" / "rng.mix-34.py311.nbi").touch()
    assert started() != "", "another function was compiled before, the engine was not"
    (tmp_path / "cache" / "engine_0" / "layer_compiled.run_tasks-176.py311.nbi").touch()
    assert started() == ""


def test_nothing_is_announced_where_compiling_is_switched_off(started, monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert started() == ""


def test_the_engines_are_where_the_announcement_looks_for_them():
    for module in wss.compile_cache.ENGINES:
        assert [*(ROOT / "wss" / "engine").rglob(f"{module}.py")], module
