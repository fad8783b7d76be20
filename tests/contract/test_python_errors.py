"""Errors in Python are WssError, with the words of the command line."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from kit import ROOT
from kit.runs import SMALL
from kit.sweeps import TINY

import wss
from wss.cli import cli
from wss.engine.specs import FluidSpec
from wss.errors import ConfigError
from wss.hardware import FaultSpec
from wss.policies import Policy
from wss.policies.allocation.basic import Home

QWEN = "qwen3_235b"


@dataclass(frozen=True, kw_only=True)
class Mine(Home):
    strength: int = 1


WRONG = {
    "an unknown setting": ("bach=1", {"bach": 1}),
    "a word for a number": ("batch=many", {"batch": "many"}),
    "part of a request": ("batch=1.5", {"batch": 1.5}),
    "too few": ("batch=0", {"batch": 0}),
    "an unknown wafer": ("wafer=tsmc", {"wafer": "tsmc"}),
    "an unknown model": ("model=deepseek", {"model": "deepseek"}),
    "a number for a wafer": ("wafer=5", {"wafer": 5}),
    "no model": ("model=null", {"model": None}),
    "one policy": ("policies=ep", {"policies": "ep"}),
    "an unknown policy": ("policies=[base, epp]", {"policies": ["base", "epp"]}),
    "a policy twice": ("policies=[base, base]", {"policies": ["base", wss.POLICIES["base"]]}),
    "an unknown part": ("policies=[base, {name: x, preset: ep, allocation: hom}]",
                        {"policies": ["base", {"name": "x", "preset": "ep", "allocation": "hom"}]}),
    "no baseline": ("policies=[ep]", {"policies": ["ep"]}),
    "a number of layers": ("layers=8", {"layers": 8}),
    "a layer that is not there": ("layers=[200]", {"layers": [200]}),
    "too small a sample": ("layers.sample=1", {"layers": {"sample": 1}}),
    "a wrong unit": ("wafer.link.bandwidth=3 TB", {"settings": {"wafer.link.bandwidth": "3 TB"}}),
    "no unit": ("wafer.link.bandwidth=3400000000000", {"settings": {"wafer.link.bandwidth": 3400000000000}}),
    "an unknown part of the wafer": ("wafer.link.bandwith=3 TB/s", {"settings": {"wafer.link.bandwith": "3 TB/s"}}),
    "a policy that is not there": ("policies.eplb.copies=1", {"settings": {"policies.eplb.copies": 1}}),
    "a whole policy": ("policies.ep=base", {"settings": {"policies.ep": "base"}}),
    "a trace that is no mapping": ("trace=a.parquet", {"trace": "a.parquet"}),
    "a trace that does not exist": ("trace.path=a.parquet", {"trace": {"path": "a.parquet"}}),
    "a dead wafer": ("faults={dies: [[9, 9]]}", {"faults": FaultSpec(dies=((9, 9),))}),
    "what nothing reads": ("network={kind: fluid, chunk: 1 MiB}", {"network": {"kind": "fluid", "chunk": "1 MiB"}}),
    "no room": ("wafer.die.hbm.size=1 GB", {"settings": {"wafer.die.hbm.size": "1 GB"}}),
    "an unknown physics": ("physics=papr", {"physics": "papr"}),
}  # fmt: skip


def body(fault, *sources):
    """An error line without what names its source."""
    for source in sources:
        fault = fault.removeprefix(f"{source}: ")
    return fault


@pytest.mark.parametrize("name", WRONG)
def test_an_error_has_the_words_of_the_command_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, given = WRONG[name]
    done = CliRunner().invoke(cli, ["run", QWEN, "--set", text, "--set", "steps=1"])
    assert isinstance(done.exception, wss.WssError)
    with pytest.raises(wss.WssError) as error:
        wss.run(QWEN, steps=1, **given)
    assert type(error.value) is type(done.exception)
    ((key, value),) = given["settings"].items() if "settings" in given else given.items()
    shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."
    file = str(ROOT / "configs" / f"{QWEN}.yaml")
    expected = [body(fault, f"--set {text}").removeprefix(file) for fault in done.exception.faults]
    found = [body(fault, f"{key}={shown}").removeprefix(file) for fault in error.value.faults]
    if name == "a word for a number":
        assert found == ["batch: 'many' is not right; it should be a valid integer"]
    assert [line.replace("(2, 2)", "[2, 2]") for line in found] == expected


@pytest.mark.parametrize("name", ["nope", "nope.yaml", "a/nope.yaml", "broken.yaml", "empty.yaml", ".", "sweep.yaml"])
def test_an_error_about_a_file_is_that_of_the_command_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file, text in (("broken.yaml", "model: ["), ("empty.yaml", ""), ("sweep.yaml", TINY + "grid: {batch: [8]}\n")):
        Path(file).write_text(text, encoding="utf-8")
    done = CliRunner().invoke(cli, ["run", name])
    assert isinstance(done.exception, wss.WssError)
    for source in (name, Path(name)):
        with pytest.raises(wss.WssError) as error:
            wss.run(source)
        assert error.value.faults == done.exception.faults


ODD = {
    "no source": (lambda: wss.load(None), "None is not right; give the path of a YAML file, a name of `wss list`"),
    "nothing in a mapping": (lambda: wss.load({}), "experiment: model: is missing; give it"),
    "an unknown key": (lambda: wss.load({"modl": 1}), "experiment: modl: is not a key here; did you mean 'model'?"),
    "settings as a number": (lambda: wss.load(QWEN, 5), "settings: 5 is not right; give a mapping"),
    "settings as text": (lambda: wss.load(QWEN, "batch=1"), "settings: 'batch=1' is not right; give a mapping"),
    "settings of numbers": (lambda: wss.load(QWEN, [5]), "settings.0: 5 is not right; give text"),
    "no key": (lambda: wss.load(QWEN, {"": 1}), "settings: '' is not a setting; give its path"),
    "a number as key": (lambda: wss.load(QWEN, {1: 1}), "settings: 1 is not a setting; give its path"),
    "a model as wafer": (
        lambda: wss.load(QWEN, wafer=wss.MODELS["kimi_k2"]),
        "wafer=ModelShape(...): wafer: ModelShape(...) is not right; give a WaferSpec or SwitchedSpec",
    ),
    "a policy as batch": (
        lambda: wss.load(QWEN, batch=wss.POLICIES["ep"]),
        "batch=Policy(...): batch: Policy(...) is not right; give plain numbers and text",
    ),
    "a part as policy": (lambda: wss.load(QWEN, policies=["ep", Mine()]), "policies.1: Mine(strength=1) is not right"),
    "a class as part": (
        lambda: wss.load(QWEN, policies=["base", Policy(name="x", allocation=Home)]),
        "policies.1.allocation: Home is a class; give an object, such as Home()",
    ),
    "a part of another kind": (
        lambda: wss.load(QWEN, policies=["base", {"name": "x", "preset": "ep", "allocation": FluidSpec()}]),
        "policies.1.allocation: FluidSpec() is no allocation; derive it from wss.policies.Allocation",
    ),
    "an unsound object": (
        lambda: wss.load(QWEN, wafer=replace(wss.WAFERS["dojo"], mesh="5x5")),
        "wafer=WaferSpec(...): wafer.mesh: '5x5' is not right",
    ),
    "a set": (lambda: wss.load(QWEN, layers={3, 4}), "layers={3, 4}: layers: {3, 4} is not right"),
    "an unknown setting of an object": (lambda: wss.load(wss.load(QWEN), bach=1), "bach=1: bach: is not a key here"),
    "one experiment for run_many": (lambda: wss.run_many(QWEN), "run_many: give a list of experiments"),
    "one of several": (lambda: wss.run_many([QWEN, "qwen"]), "qwen: there is no such file"),
    "a word for workers": (lambda: wss.run_many([QWEN], workers="all"), "workers: 'all' is not right; give a whole"),
    "no workers": (lambda: wss.sweep({"config": QWEN, "grid": {"batch": [1]}}, workers=0), "workers: 0 is not right"),
    "no sweep": (lambda: wss.sweep({"config": QWEN}), "sweep: has neither grid nor vary"),
    "no file of a sweep": (lambda: wss.sweep("nope.yaml"), "nope.yaml: there is no such file"),
    "a number for a sweep": (lambda: wss.sweep(3), "sweep: 3 is not right; give a path"),
    "an unknown axis": (
        lambda: wss.sweep({"config": QWEN, "grid": {"bach": [1]}}),
        "sweep: bach: is not a key here; did you mean 'batch'?",
    ),
    "an axis of objects": (
        lambda: wss.sweep({"config": QWEN, "grid": {"wafer": [wss.WAFERS["dojo"]]}}),
        "sweep: grid.wafer.0: is not a plain value; give labels",
    ),
    "a setting of an axis": (
        lambda: wss.sweep({"config": QWEN, "grid": {"batch": [1]}}, batch=2),
        "batch=2: the axis batch of sweep sets it; change it there",
    ),
    "no trace": (lambda: wss.open_trace("nope.parquet"), "nope.parquet: does not exist; give the path of a trace"),
    "a number for a trace": (lambda: wss.open_trace(3), "open_trace: 3 is not right; give a path"),
    "a trace of an unknown model": (
        lambda: wss.write_trace("a.parquet", [], [], model="deepseek", source="test"),
        "model: deepseek: is not a known model; did you mean 'deepseek_v3'?",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_what_only_python_can_give_is_a_clear_error_too(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, right = ODD[name]
    with pytest.raises(wss.WssError) as error:
        call()
    assert right in error.value.faults[0]
    assert all(len(fault) < 300 for fault in error.value.faults)
    assert not list(tmp_path.iterdir())


def test_a_mapping_in_python_may_name_classes_and_a_file_may_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own_part.py").write_text(
        "from dataclasses import dataclass\nfrom wss.policies.allocation.basic import Home\n"
        "@dataclass(frozen=True, kw_only=True)\nclass Own(Home):\n    pass\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    own = {"name": "own", "allocation": "own_part:Own"}
    Path("a.yaml").write_text(SMALL.replace("[base,", "[{name: own, allocation: 'own_part:Own'}, base,"))
    with pytest.raises(ConfigError, match="would run code that the file names"):
        wss.load("a.yaml")
    assert "own_part" not in sys.modules
    content = {"model": QWEN, "wafer": "dojo", "trace": {"synth": QWEN}, "policies": ["base", own]}
    assert type(wss.load(content).policies[1].allocation).__name__ == "Own"
    sys.modules.pop("own_part")
