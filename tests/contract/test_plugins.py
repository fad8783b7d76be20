"""Plug-ins: policies and parts that installed packages offer by entry points."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from kit.runs import SMALL

from wss.cli import cli
from wss.config import json_schema, load
from wss.config.sweep_file import load_sweep
from wss.errors import ConfigError
from wss.execution import layout_of, run
from wss.sweeps import tasks_of

MODULE = """\
from dataclasses import dataclass
from wss.policies import Allocation, Policy
from wss.policies.allocation.basic import Home, InTurn
print("{name} is imported")

@dataclass(frozen=True, kw_only=True)
class Turned(InTurn):
    twice: bool = False

@dataclass(frozen=True, kw_only=True)
class Nothing(Allocation):
    pass

@dataclass(frozen=True, kw_only=True)
class Stranger:
    def allocate(self, view):
        return Home().allocate(view)

@dataclass(frozen=True, kw_only=True)
class Prophet(Home):
    signals = frozenset({"tomorrow"})

class Bare:
    def allocate(self, view):
        return Home().allocate(view)

MINE = Policy(name="anything", allocation=Turned(offset=3), about="mine")
NUMBER = 3

def made():
    return MINE

def fails():
    raise RuntimeError("not\\ntoday")

def leaves():
    raise SystemExit(3)
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Installs packages as pip leaves them: a module, and a folder beside it that says what it offers."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    names = []

    def install(name, entry_points, module=MODULE):
        names.append(name)
        (site / f"{name}.py").write_text(module.replace("{name}", name), encoding="utf-8")
        info = site / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entry_points)
        monkeypatch.setattr(sys, "path", list(sys.path))
        sys.path.insert(0, str(site / f"as of {name}"))  # what is installed is looked up anew

    yield install
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


def faults(path, *settings):
    """The lines in which a configuration is refused."""
    with pytest.raises(ConfigError) as error:
        load(path, settings)
    assert all("\n" not in fault for fault in error.value.faults)
    return error.value.faults


def test_policies_and_parts_are_named_as_built_in_ones(installed, small):
    installed(
        "plugged_one",
        "[wss.policies]\nmine = plugged_one:MINE\nours = plugged_one:made\n"
        "[wss.allocations]\nturned = plugged_one:Turned\n",
    )
    parts = "{name: part, allocation: {kind: turned, offset: 3}}, {name: more, preset: mine, prediction: token_heatmap}"
    experiment = load(small, [f"policies=[base, mine, ours, {parts}]", "steps=1"])
    assert [policy.name for policy in experiment.policies] == ["base", "mine", "ours", "part", "more"]
    runs = {r["policy"]: r["decode_time_s"] for r in run(experiment).to_dict()["runs"]}
    assert runs["mine"] == runs["ours"] == runs["part"] != runs["base"]
    (plain,) = (policy for policy in experiment.plain()["policies"] if policy["name"] == "part")
    assert plain["allocation"] == {"kind": "plugged_one:Turned", "offset": 3, "twice": False}
    assert layout_of(experiment, "mine").text == layout_of(experiment, "base").text


def test_nothing_is_imported_until_it_is_named(installed, small, capsys):
    installed("plugged_idle", "[wss.policies]\nidle = plugged_idle:MINE\n[wss.rebalancings]\nidly = plugged_idle:X\n")
    load(small)
    listed = CliRunner().invoke(cli, ["list"]).output
    assert "policies: idle  plugged_idle:MINE, of the package plugged_idle" in listed
    assert "rebalancings: idly  plugged_idle:X, of the package plugged_idle" in listed
    assert "idle" in json_schema()["properties"]["policies"]["items"]["anyOf"][0]["enum"]
    assert "plugged_idle" not in sys.modules
    load(small, ["policies=[base, idle]"])
    assert capsys.readouterr().out == "plugged_idle is imported\n"


REFUSED = {
    "gone": ("nowhere_at_all:MINE", "policy", "'gone', nowhere_at_all:MINE of the package plugged_bad, cannot be load"),
    "absent": ("plugged_bad:ABSENT", "policy", "cannot be loaded (AttributeError"),
    "number": ("plugged_bad:NUMBER", "policy", "'number' of the package plugged_bad is a int; it should be a wss.pol"),
    "fails": ("plugged_bad:fails", "policy", "'fails' of the package plugged_bad cannot be made (RuntimeError: not to"),
    "ep": ("plugged_bad:MINE", "policy", "'ep' is built in, and the package plugged_bad has a plug-in of that name; r"),
    "home": ("plugged_bad:Turned", "allocation", "'home' is built in, and the package plugged_bad has a plug-in of "),
    "away": ("nowhere_at_all:Turned", "allocation", "cannot be loaded (ModuleNotFoundError"),
    "bare": ("plugged_bad:Bare", "allocation", "'bare' is not a dataclass"),
    "nothing": ("plugged_bad:Nothing", "allocation", "'nothing' has no method 'allocate'; it is no allocation"),
    "stranger": ("plugged_bad:Stranger", "allocation", "'stranger' is no allocation; derive it from wss.policies.All"),
    "prophet": ("plugged_bad:Prophet", "allocation", "'prophet' declares the signals frozenset({'tomorrow'}); it sho"),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_plugin_that_is_no_good_is_refused_in_one_line(installed, small, name):
    target, kind, line = REFUSED[name]
    group = "wss.policies" if kind == "policy" else "wss.allocations"
    installed("plugged_bad", f"[{group}]\n{name} = {target}\n")
    value = name if kind == "policy" else f"{{name: mine, allocation: {name}}}"
    (fault,) = faults(small, f"policies=[base, {value}]")
    assert fault.startswith(f"--set policies=[base, {value}]: policies.1")
    assert line in fault


def test_a_plugin_that_ends_the_program_when_it_is_imported_or_made_does_not(installed, small):
    installed("plugged_end", "[wss.policies]\nends = plugged_end:MINE\n", "raise SystemExit(3)\n")
    assert "cannot be loaded (SystemExit: 3)" in faults(small, "policies=[base, ends]")[0]
    installed("plugged_exit", "[wss.policies]\nleaves = plugged_exit:leaves\n")
    assert "cannot be made (SystemExit: 3)" in faults(small, "policies=[base, leaves]")[0]


def test_a_name_that_two_packages_offer_is_refused(installed, small):
    for package in ("plugged_left", "plugged_right"):
        installed(package, f"[wss.policies]\nmine = {package}:MINE\n")
    (fault,) = faults(small, "policies=[base, mine]")
    assert "'mine' is offered by the package plugged_left and the package plugged_right; uninstall all but" in fault


def test_a_misspelt_name_is_told_what_it_is_like(installed, small):
    installed("plugged_near", "[wss.policies]\nsplendid = x:Y\n[wss.allocations]\nmarvellous = x:Y\n")
    assert "did you mean 'splendid'" in faults(small, "policies=[base, splendit]")[0]
    assert "did you mean 'marvellous'" in faults(small, "policies=[base, {name: a, allocation: marvelous}]")[0]


def test_the_source_of_a_plugin_is_part_of_a_task(installed, tmp_path, monkeypatch):
    installed("plugged_swept", "[wss.policies]\nmine = plugged_swept:MINE\n")
    sweep = tmp_path / "sweep.yaml"
    config = "".join(f"  {line}\n" for line in SMALL.replace("ep, pred, allo, allo_pred", "mine").splitlines())
    sweep.write_text(f"name: tiny\nconfig:\n{config}grid: {{seed: [0]}}\n", encoding="utf-8")
    _, mine = tasks_of(load_sweep(sweep))[0]
    assert "module plugged_swept" in mine.outside
    module = tmp_path / "site" / "plugged_swept.py"
    module.write_text(module.read_text() + "# changed\n")
    monkeypatch.setattr("wss.config.dependencies._LOADED", {})  # as in another process
    _, changed = tasks_of(load_sweep(sweep))[0]
    assert changed.key != mine.key


def test_what_planning_takes_is_kept_apart(small):
    summary = run(load(small)).to_dict()
    planning = summary["provenance"]["times"].pop("planning")
    assert "cpu" not in json.dumps(summary["runs"])
    assert set(planning) == {"base", "ep", "pred", "allo", "allo_pred"}
    for cost in planning.values():
        assert cost["kernels"] == 3 * 4
        assert set(cost["parts_median_cpu_s"]) == {"allocation", "prediction"}  # none evicts: there is room
        assert 0 < cost["median_cpu_s"] <= cost["largest_cpu_s"] < 60
        assert cost["placement_cpu_s"] > 0


def test_the_package_imports_no_test_tools():
    code = "import sys, wss.testing; assert not {'pytest', 'hypothesis'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
