"""A configuration is data: code that a file names runs only if it is allowed, and none of the current folder does."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import wss
from wss.cli import cli
from wss.config import load
from wss.config.sweep_file import load_sweep
from wss.errors import ConfigError
from wss.policies import SEAMS
from wss.sweeps import tasks_of
from wss.sweeps.execute import run_chunk

MODULE = """\
from dataclasses import dataclass
from wss.engine.specs import FluidSpec
from wss.policies.allocation.basic import Home
print("code runs")

@dataclass(frozen=True, kw_only=True)
class Mine(Home):
    strength: int = 1

@dataclass(frozen=True, kw_only=True)
class Network(FluidSpec):
    pass
"""
TINY = """\
model: {name: tiny, num_layers: 2, moe_layers: [0, 1], num_experts: 8, top_k: 2, hidden_size: 512,
        moe_intermediate_size: 256, source: made up}
wafer: {preset: dojo, mesh: [2, 2]}
trace: {synth: {requests: 8, prompt_min: 2, prompt_max: 4, decode_tokens: 3, clusters: 4, subjects: 2}}
batch: 8
steps: 1
baseline: ep
"""
OWN = "policies: [ep, {name: mine, allocation: 'own_code:Mine'}]\n"
ALLOW = "if you trust it, add --allow-code (or set WSS_ALLOW_CODE=1, in Python wss.load(path, allow_code=True))"


def as_sweep(text, grid="grid: {seed: [0]}\n"):
    return "config:\n" + "".join(f"  {line}\n" for line in text.splitlines()) + grid


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with `theirs/`, where a class lies beside the files that name it; neither is on the path."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for name, text in (("run", TINY + OWN), ("sweep", as_sweep(TINY + OWN))):
        (theirs / f"{name}.yaml").write_text(text, encoding="utf-8")
    (theirs / "own_code.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("WSS_ALLOW_CODE", raising=False)
    yield tmp_path
    sys.modules.pop("own_code", None)


def refused(read, *arguments, **more):
    """The lines in which *read* refuses; no code has run."""
    with pytest.raises(ConfigError) as error:
        read(*arguments, **more)
    assert "own_code" not in sys.modules
    return error.value.faults


@pytest.mark.parametrize("seam", [*SEAMS, "network"])
def test_a_class_that_a_file_names_is_refused_in_one_line(folder, seam):
    part = f"{{name: mine, preset: ep, {seam}: {{kind: 'own_code:Mine', strength: 2}}}}"
    policies = f"policies: [ep, {part if seam in SEAMS else 'base'}]\n"
    network = "network: own_code:Network\n" if seam == "network" else ""
    Path("theirs/run.yaml").write_text(TINY + network + policies)
    key, name, line = ("network", "Network", 8) if network else (f"policies.1.{seam}.kind", "Mine", 8)
    (fault,) = refused(load, "theirs/run.yaml")
    assert fault.startswith(f"theirs/run.yaml:{line}:")
    assert fault.endswith(f": {key}: 'own_code:{name}' would run code that the file names; {ALLOW}")


COMMANDS = {
    "run": ["run", "theirs/run.yaml", "--out", "r"],
    "placement": ["placement", "theirs/run.yaml", "--policy", "ep"],
    "sweep": ["sweep", "theirs/sweep.yaml", "--workers", "1"],
    "check": ["check", "theirs/sweep.yaml", "--workers", "1", "--update"],
}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_that_reads_a_configuration_takes_the_permission(folder, command):
    invoke = CliRunner().invoke
    done = invoke(cli, COMMANDS[command])
    assert isinstance(done.exception, ConfigError), done.output
    assert str(done.exception).endswith(ALLOW)
    assert "own_code" not in sys.modules
    assert isinstance(invoke(cli, COMMANDS[command], env={"WSS_ALLOW_CODE": "0"}).exception, ConfigError)
    assert invoke(cli, [*COMMANDS[command], "--allow-code"]).exit_code == 0
    assert "own_code" in sys.modules
    again = ["--force"] if command == "run" else []
    assert invoke(cli, [*COMMANDS[command], *again], env={"WSS_ALLOW_CODE": "1"}).exit_code == 0
    if command == "check":
        expected = Path("theirs/expected/sweep.json").read_text()
        assert '"renew": "python -m wss check theirs/sweep.yaml --allow-code --update"' in expected


def test_a_class_beside_the_configuration_is_found_with_permission_and_hides_nothing(folder):
    before = list(sys.path)
    assert wss.load("theirs/run.yaml", allow_code=True).policies[1].allocation.strength == 1
    assert sys.path == [*before, str(folder / "theirs")]


def test_a_setting_needs_no_permission_and_lends_the_file_none(folder):
    Path("own_code.py").write_text(MODULE)
    mine = "policies=[ep, {name: mine, allocation: {kind: 'own_code:Mine', strength: 2}}]"
    assert refused(load, "theirs/run.yaml", ["policies.mine.allocation.strength=2"])
    assert refused(load, "theirs/run.yaml", ["policies.mine.prediction=never", "network=fluid"])
    assert refused(load_sweep, Path("theirs/sweep.yaml"), ["policies.mine.allocation.strength=2"])
    assert load("theirs/run.yaml", [mine]).policies[1].allocation.strength == 2
    pieces = ["policies.mine.allocation=own_code:Mine", "policies.mine.allocation.strength=3"]
    assert load("theirs/run.yaml", pieces).policies[1].allocation.strength == 3
    (point,) = load_sweep(Path("theirs/sweep.yaml"), pieces).points
    assert point.experiment.policies[1].allocation.strength == 3
    assert str(folder / "theirs") not in sys.path


def test_what_an_axis_names_is_of_the_file(folder):
    text = TINY + OWN.replace("own_code:Mine", "home")
    Path("theirs/sweep.yaml").write_text(
        as_sweep(text, "grid: {a: {one: {policies.mine.allocation: 'own_code:Mine'}, two: {window: 1}}}\n")
    )
    (fault,) = refused(load_sweep, Path("theirs/sweep.yaml"), ["policies.ep.allocation=home"])
    assert "policies.mine.allocation: 'own_code:Mine' would run code" in fault
    assert len(load_sweep(Path("theirs/sweep.yaml"), allow_code=True).points) == 2


def test_a_file_that_a_sweep_names_is_asked_for_permission_too(folder):
    Path("sweep.yaml").write_text("config: theirs/run.yaml\ngrid: {seed: [0]}\n")
    (fault,) = refused(load_sweep, Path("sweep.yaml"))
    assert fault.startswith("theirs/run.yaml:8:")
    (point,) = load_sweep(Path("sweep.yaml"), allow_code=True).points
    assert point.experiment.policies[1].allocation.strength == 1


def test_a_worker_finds_what_was_allowed(folder, monkeypatch, capsys):
    chunk = tasks_of(load_sweep(Path("theirs/sweep.yaml"), allow_code=True))[0]
    packed, path = pickle.dumps(chunk), list(sys.path)
    monkeypatch.setattr(sys, "path", [entry for entry in path if str(folder) not in entry])  # as on a worker of dask
    monkeypatch.chdir("/")
    del sys.modules["own_code"]
    results = dict(run_chunk(packed, 0, path))
    assert all(isinstance(result, dict) for result in results.values())
    assert capsys.readouterr().out == "code runs\n" * 2


# What Python has imported before it comes to wss, and what wss needs of it and of others.
BEFORE = "import runpy, sys; print(*{name.partition('.')[0] for name in sys.modules})"
OTHERS = {"annotated_types", "click", "msgspec", "networkx", "numba", "numpy", "pyarrow", "pydantic", "scipy", "simpy"}


@pytest.fixture
def hostile(folder, monkeypatch):
    """A folder with a module of every name that wss imports, its own apart; each ends the program."""
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    done = subprocess.run([sys.executable, "-c", BEFORE], cwd="/", capture_output=True, text=True, check=True)
    for name in {*sys.stdlib_module_names, *OTHERS, "tqdm", "yaml"} - set(done.stdout.split()):
        Path(f"{name}.py").write_text(f"raise SystemExit('{name} of the current folder runs')\n")
    return folder


def python_m_wss(*words):
    done = subprocess.run([sys.executable, "-m", "wss", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_of_the_current_folder_is_imported(hostile):
    assert "deepseek_v3" in python_m_wss("list")


@pytest.mark.parametrize(
    ("start", "leaves"), [(["-mwss", "--version"], True), (["-m", "mine", "wss"], False), (["-m", "mine"], False)]
)
def test_only_python_m_wss_leaves_the_current_folder(tmp_path, monkeypatch, start, leaves):
    """A program of the user's own is found where Python finds it, whatever its arguments."""
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("import wss")
    (tmp_path / "mine" / "__main__.py").write_text("import beside")
    (tmp_path / "beside.py").write_text("")
    (tmp_path / "click.py").write_text("raise SystemExit('click of the current folder runs')" if leaves else "")
    done = subprocess.run([sys.executable, *start], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_nothing_of_the_current_folder_is_imported_by_workers_either(hostile):
    assert "\nseed 0\n" in python_m_wss("sweep", "theirs/sweep.yaml", "--allow-code", "--workers", "2")


def test_wss_in_the_current_folder_is_found_by_those_that_it_starts(tmp_path):
    code = "import sys, wss; sys.path[:] = [{0!r}, *sys.path]; wss.__file__ = {0!r} + '/wss/__init__.py'\n"
    code += "wss._leave_current_folder(); print(sys.path[0] != {0!r}, sys.path[-1] == {0!r})"
    command = [sys.executable, "-c", code.format(os.fspath(tmp_path.resolve()))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"


BROKEN = {  # the module, the class that is named, and the message
    "no Python": ("x = 1\ndef f(:\n", "Mine", "theirs/own_code.py:2: SyntaxError: invalid syntax; correct that line"),
    "no such module": (
        "import os\nimport nowhere_at_all\n",
        "Mine",
        "theirs/own_code.py:2: ModuleNotFoundError: No module named 'nowhere_at_all'; install that module, or correct",
    ),
    "an error": (
        "import numpy\n\nnumpy.zeros(-1)\n",
        "Mine",
        "theirs/own_code.py:3: ValueError: negative dimensions are not allowed; correct that line",
    ),
    "no such class": (MODULE, "Mien", "the module 'own_code' has no 'Mien'; did you mean 'Mine'?"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_module_that_cannot_be_imported_is_named_by_file_and_line(folder, kind):
    text, name, message = BROKEN[kind]
    Path("theirs/own_code.py").write_text(text)
    Path("theirs/run.yaml").write_text(TINY + OWN.replace("own_code:Mine", f"own_code:{name}"))
    with pytest.raises(ConfigError) as error:
        load("theirs/run.yaml", allow_code=True)
    (fault,) = error.value.faults
    assert f"policies.1.allocation: 'own_code:{name}' cannot be imported: {message}" in fault


def test_a_module_that_is_nowhere_is_no_module(folder):
    Path("theirs/run.yaml").write_text(TINY + OWN.replace("own_code", "nowhere_at_all"))
    with pytest.raises(ConfigError, match="there is no module"):
        load("theirs/run.yaml", allow_code=True)
