"""`import wss`: its names, what they take, and errors with the words of the command line."""

import inspect
import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from kit import ROOT
from kit.runs import SMALL, without_host
from kit.sweeps import TINY

import wss
from wss.cli import cli
from wss.config import TraceFile, load
from wss.config.experiment import LayerSample
from wss.config.sweep_file import load_sweep
from wss.engine.specs import FluidSpec, PacketSpec
from wss.errors import CapacityError, ConfigError, OutputError, TraceError, UnknownNameError
from wss.hardware import FaultSpec
from wss.models import Precision
from wss.policies import Policy
from wss.policies.allocation.basic import Algorithm1, Home
from wss.traces.synthetic.spec import SYNTHS

QWEN = "qwen3_235b"
NAMES = {
    *("load", "run", "run_many", "sweep", "Experiment", "Policy", "Result", "open_trace", "write_trace"),
    *("MODELS", "WAFERS", "POLICIES", "WssError", "__version__"),
}


@dataclass(frozen=True, kw_only=True)
class Mine(Home):
    strength: int = 1


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    path = tmp_path_factory.mktemp("python") / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return wss.run(path, policies=["ep", "base"])


# The package.


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


# Settings: one experiment, however it is given.

BIG = Algorithm1(block=512)
SAME = {
    "a number": (["batch=512"], {"batch": 512}),
    "a number of numpy": (["batch=512"], {"batch": np.int64(512)}),
    "a preset": (["wafer=tsmc_sow"], {"wafer": "tsmc_sow"}),
    "a preset's object": (["wafer=tsmc_sow"], {"wafer": wss.WAFERS["tsmc_sow"]}),
    "a preset with changes": (["wafer={preset: dojo, mesh: [4, 4]}"], {"wafer": {"preset": "dojo", "mesh": (4, 4)}}),
    "an object with changes": (
        ["wafer={preset: dojo, mesh: [4, 4]}"],
        {"wafer": {"preset": wss.WAFERS["dojo"], "mesh": [4, 4]}},
    ),
    "a part": (["wafer.link.bandwidth=3.4 TB/s"], {"settings": {"wafer.link.bandwidth": "3.4 TB/s"}}),
    "text as for --set": (["wafer.link.bandwidth=3.4 TB/s"], {"settings": ["wafer.link.bandwidth=3.4 TB/s"]}),
    "a part after the whole": (
        ["wafer=tsmc_sow", "wafer.link.latency=100 ns"],
        {"settings": {"wafer.link.latency": "100 ns"}, "wafer": "tsmc_sow"},
    ),
    "a model": (
        ["model=kimi_k2", "trace.synth=kimi_k2"],
        {"model": wss.MODELS["kimi_k2"], "trace": {"synth": "kimi_k2"}},
    ),
    "synthetic routing": (["trace={synth: deepseek_v3}"], {"trace": SYNTHS["deepseek_v3"]}),
    "a part of it": (["trace.synth.skew=1.25"], {"settings": {"trace.synth.skew": 1.25}}),
    "sampled layers": (["layers.sample=8"], {"layers": {"sample": 8}}),
    "sampled layers as an object": (["layers.sample=8"], {"layers": LayerSample(sample=8)}),
    "layers as a range": (["layers=[3, 4, 5]"], {"layers": range(3, 6)}),
    "layers as an array": (["layers=[3, 4, 5]"], {"layers": np.arange(3, 6)}),
    "replications": (["replications=3"], {"replications": 3}),
    "a network": (["network={kind: packet, chunk: 2 MiB}"], {"network": PacketSpec(chunk=2.0**21)}),
    "a network written out": (
        ["network={kind: packet, chunk: 2 MiB}"],
        {"network": {"kind": "packet", "chunk": "2 MiB"}},
    ),
    "a trace": (["trace.path=a.parquet"], {"trace": TraceFile(path="a.parquet")}),
    "a path": (["trace.path=a.parquet"], {"trace": {"path": Path("a.parquet")}}),
    "a precision": (
        ["precision={weights: mxfp4, compute: fp8}"],
        {"precision": Precision(weights="mxfp4", compute="fp8")},
    ),
    "faults": (["faults={dies: [[2, 2]]}"], {"faults": FaultSpec(dies=((2, 2),))}),
    "a dispatch": (["dispatch=uniform"], {"dispatch": "uniform"}),
    "a planning time": (["planning=20 us"], {"planning": "20 us"}),
    "policies": (
        ["policies=[base, ep, {name: big, preset: allo, allocation: {block: 512}}]"],
        {"policies": ("base", wss.POLICIES["ep"], {"name": "big", "preset": "allo", "allocation": BIG})},
    ),
    "a policy with changes": (
        ["policies=[base, {name: x, preset: ep, prefetching: popular}]"],
        {"policies": ["base", {"name": "x", "preset": wss.POLICIES["ep"], "prefetching": "popular"}]},
    ),
    "a part of a policy": (
        ["policies.allo.allocation.block=512"],
        {"settings": {"policies.allo.allocation.block": 512}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_settings_in_python_give_the_experiment_of_the_command_line(name):
    texts, given = SAME[name]
    expected = load(QWEN, texts)
    assert wss.load(QWEN, **given) == expected
    assert wss.load(wss.load(QWEN), **given) == expected
    assert expected != load(QWEN)


def test_an_experiment_made_of_objects_is_changed_like_one_of_names():
    experiment = wss.load(QWEN, network=PacketSpec(chunk=2.0**20), precision=Precision(weights="mxfp4", compute="fp8"))
    changes = {"network.chunk": "2 MiB", "precision.weights": "fp8"}
    again = wss.load(experiment, changes)
    assert (again.network, again.precision) == (PacketSpec(chunk=2.0**21), Precision(weights="fp8", compute="fp8"))
    sampled = wss.load(wss.load(QWEN, layers={"sample": 8}), {"layers.sample": 9})
    assert sampled.layers == LayerSample(sample=9)


def test_an_experiment_is_written_out_in_a_mapping():
    content = {"model": QWEN, "wafer": wss.WAFERS["dojo"], "trace": {"synth": QWEN}, "policies": ("base", "ep")}
    before = repr(content)
    assert wss.load(content, {"trace.synth.skew": 1.2, "wafer.mesh": [4, 4]}) == load(
        QWEN, ["policies=[base, ep]", "trace.synth.skew=1.2", "wafer.mesh=[4, 4]"]
    )
    assert repr(content) == before, "what the caller gives stays as it is"


def test_a_policy_of_ones_own_runs_beside_presets(small):
    too = {"name": "too", "preset": "ep", "allocation": Mine()}
    policies = ["base", Policy(name="mine", allocation=Mine(strength=2)), too]
    found = wss.run(small, {"policies.mine.allocation.strength": 3}, policies=policies)
    assert found.experiment.policies[1].allocation == Mine(strength=3)
    assert found.figure("mine", "speedup") == found.figure("too", "speedup")


def test_a_run_in_python_is_that_of_the_command_line(small, tmp_path):
    settings = ["batch=20", "wafer.link.bandwidth=1 TB/s", "replications=2"]
    words = ["run", str(small), "--out", str(tmp_path / "out"), *(f"--set={setting}" for setting in settings)]
    assert CliRunner().invoke(cli, words, catch_exceptions=False).exit_code == 0
    found = wss.run(small, {"wafer.link.bandwidth": "1 TB/s"}, batch=20, replications=2)
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert without_host(found.to_dict()) == without_host(written)
    folder = found.write(str(tmp_path / "mine"))
    assert {path.name for path in folder.iterdir()} == {path.name for path in (tmp_path / "out").iterdir()}


def test_a_name_works_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert wss.load("deepseek_v3") == load(ROOT / "configs" / "deepseek_v3.yaml")


# Errors: WssError, with the words of the command line.

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
        "sweep: grid.wafer.0: is no plain value; give labels",
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


# Results.


def test_a_result_in_two_lines_and_as_html(result):
    said = repr(result).splitlines()
    assert said[0] == "Result: tiny on dojo (modified), batch 40, 3 decode steps, SYNTHETIC routing"
    assert said[1].startswith("  speedup over base: ep ")
    assert said[1].endswith("x, base 1.00x")
    html = result._repr_html_()
    assert html.startswith("<p><b>SYNTHETIC routing</b>")
    assert "\nbase " in html
    named = replace(result, notes=("<script>alert(1)</script>",))
    assert "<script>" not in named._repr_html_()
    assert "&lt;script&gt;" in named._repr_html_()


def test_figures_of_a_result_by_name(result):
    assert result.figure("ep", "speedup").value > 1
    for policy, figure, right in (
        ("epp", "speedup", "policy: 'epp' is not in this result; did you mean 'ep'?"),
        ("ep", "speed", "figure: 'speed' is not in this result; did you mean 'speedup'?"),
        (["ep"], "speedup", "policy: ['ep'] is not in this result; known: base, ep"),
    ):
        with pytest.raises(wss.WssError) as error:
            result.figure(policy, figure)
        assert str(error.value) == right
        assert isinstance(error.value, UnknownNameError)


def test_tables_of_a_result_are_those_of_all_its_policies(result):
    for name in ("layers", "links"):
        own = pa.concat_tables([getattr(result.runs[policy], name) for policy in ("base", "ep")])
        assert getattr(result, name).equals(own)


def test_pictures_of_a_result(result, tmp_path):
    plt = pytest.importorskip("matplotlib.pyplot", reason="draws with the extra 'plot'")
    for what in ("speedup", "hops", "decode_time_s", "links", "layers"):
        fig = result.plot(what)
        fig.savefig(tmp_path / "a.png")
        assert (tmp_path / "a.png").stat().st_size > 3_000
    assert [axis.get_title() for axis in result.plot("links").axes[:2]] == [
        f"{policy}, busiest {result.figure(policy, 'max_link_utilization').value:.1%}" for policy in ("ep", "base")
    ]
    (bars,) = result.plot("speedup").axes
    assert [patch.get_height() for patch in bars.patches] == [
        result.figure(policy, "speedup").value for policy in ("ep", "base")
    ]
    assert plt.get_fignums() == []
    for what, right in (
        ("speed", "plot: 'speed' is no figure; did you mean 'speedup'?"),
        ("link", "plot: 'link' is no figure; did you mean 'links'?"),
        ("moved_bytes", "plot: this result has no moved_bytes; give another figure, such as speedup"),
    ):
        with pytest.raises(wss.WssError) as error:
            result.plot(what)
        assert str(error.value) == right


def test_pictures_need_an_extra(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(wss.WssError, match=r"^plot: needs matplotlib; install wss with the extra 'plot'$"):
        result.plot()


def test_the_backend_of_a_notebook_stays(result, monkeypatch):
    matplotlib = pytest.importorskip("matplotlib", reason="draws with the extra 'plot'")
    monkeypatch.setattr(matplotlib, "use", lambda backend: pytest.fail("changes the user's backend"))
    result.plot("links")


# Several experiments.


def test_many_experiments_are_each_as_if_alone(small):
    each = [wss.load(small, batch=20), wss.load(small, wafer="dojo"), wss.load(small, batch=20, window=1)]
    found = wss.run_many(each, policies=["base", "ep"])
    assert [one.experiment.batch for one in found] == [20, 40, 20]
    for experiment, one in zip(each, found, strict=True):
        alone = wss.run(experiment, policies=["base", "ep"])
        assert without_host(one.to_dict()) == without_host(alone.to_dict())
    assert wss.run_many([]) == []


def test_progress_is_off_a_bar_or_a_function(small, capsys):
    wss.run(small, policies=["base", "ep"])
    assert capsys.readouterr().err == ""
    said = []
    wss.run(small, policies=["base", "ep"], progress=lambda *done: said.append(done))
    assert said[-1] == ("simulating", said[-1][2], said[-1][2])
    wss.run(small, policies=["base", "ep"], progress=True)
    assert "simulating" in capsys.readouterr().err


def test_a_sweep_of_a_file_is_that_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY + "grid: {batch: [8, 16]}\n", encoding="utf-8")
    done = CliRunner().invoke(cli, ["sweep", "tiny.yaml", "--workers", "1", "--out", "a", "--set", "window=1"])
    assert done.exit_code == 0, done.output
    found = wss.sweep("tiny.yaml", out="b", workers=1, window=1)
    for name in ("results.parquet", "results.csv", "links.parquet"):
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes()
    assert done.stdout.startswith(found.table())
    assert [row["batch"] for row in found.rows] == [8] * 5 + [16] * 5
    assert found.results.num_rows == 10
    assert {"batch", "policy", "link"} <= set(found.links.column_names)
    assert repr(found) == "SweepResult: 10 rows in b/; axes batch; policies base, ep, pred, allo, allo_pred"
    assert found._repr_html_().startswith("<p><b>SYNTHETIC routing</b>")
    assert wss.sweep(load_sweep(Path("tiny.yaml"), ["window=1"]), out="b", workers=1).rows == found.rows


def test_a_sweep_of_a_mapping_with_a_policy_of_ones_own(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = Policy(name="mine", allocation=Mine(strength=2))
    plan = {"name": "own", "config": str(small), "grid": {"batch": [8, 16]}}
    found = wss.sweep(plan, policies=["base", mine], workers=1)
    assert found.folder == Path("results/own")
    rows = [(row["batch"], row["policy"]) for row in found.rows]
    assert rows == [(8, "base"), (8, "mine"), (16, "base"), (16, "mine")]
    alone = wss.run(small, policies=["base", mine], batch=16)
    assert found.rows[3]["speedup"] == alone.figure("mine", "speedup").value


def test_results_of_a_class_typed_into_a_notebook_are_not_kept(small, tmp_path, monkeypatch):
    """Its source may change without a trace."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Mine, "__module__", "typed_in")
    done = []
    for _ in range(2):
        policies = ["base", Policy(name="mine", allocation=Mine())]
        wss.sweep({"config": str(small), "grid": {"batch": [8]}}, policies=policies, out="own", workers=1)
        done.append(json.loads(Path("own/sweep.json").read_text())["times"]["tasks_run"])
    assert done == [2, 1], "base is kept, mine is not"


def test_workers_cannot_have_a_class_of_the_script(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Mine, "__module__", "__main__")
    policies = ["base", Policy(name="mine", allocation=Mine())]
    right = "workers: the class Mine is defined in the script itself, which worker processes do not import; put it"
    for call in (
        lambda: wss.run_many([small, wss.load(small, batch=8)], policies=policies, workers=2),
        lambda: wss.sweep({"config": str(small), "grid": {"batch": [8]}}, policies=policies, workers=2),
    ):
        with pytest.raises(wss.WssError) as error:
            call()
        assert error.value.faults[0].startswith(right)


@pytest.mark.slow
def test_a_script_without_a_guard_uses_workers(tmp_path, small):
    script = tmp_path / "script.py"
    script.write_text(
        f"import wss\nprint('once')\nsmall = wss.load({str(small)!r}, policies=['base', 'ep'])\n"
        "results = wss.run_many([wss.load(small, batch=8), small], workers=2)\n"
        "print([result.experiment.batch for result in results])\n"
        "alone = wss.run(small).figure('ep', 'speedup')\n"
        "print(results[1].figure('ep', 'speedup') == alone)\n"
        f"print(wss.sweep({{'config': {str(small)!r}, 'grid': {{'batch': [8, 16]}}}}, out='s', workers=2))\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:3] == ["once", "[8, 40]", "True"]
    assert done.stderr == ""


# Traces.


def test_a_trace_is_written_and_read(tmp_path):
    model = wss.MODELS["gpt_oss_20b"]
    rng = np.random.default_rng(1)
    arrays = [rng.random((tokens, 24, 32)).argsort(axis=2)[..., :4] for tokens in (5, 7)]
    path = wss.write_trace(tmp_path / "a.parquet", iter(arrays), [2, 3], model=model, source="a test", note="ours")
    with wss.open_trace(path) as trace:
        assert (trace.meta.model, trace.meta.source, trace.meta.note) == (model.name, "a test", "ours")
        assert (trace.meta.moe_layers, trace.meta.num_requests, trace.num_rows) == (model.moe_layers, 2, 12)
        for request, array, prompt in zip(trace.requests(), arrays, (2, 3), strict=True):
            assert np.array_equal(request.experts, array)
            assert request.num_prefill == prompt
            assert request.position.tolist() == list(range(len(array)))
    experiment = wss.load("gpt_oss_20b", trace={"path": path}, batch=2, steps=1, layers=[0], policies=["base", "ep"])
    assert not wss.run(experiment).figure("ep", "synthetic").value


SOUND = np.arange(4 * 24 * 3).reshape(3, 24, 4) % 32
BAD = {
    "an expert that does not exist": ([np.where(SOUND == 31, 32, SOUND)], [1], "layer 7: expert 32 does not exist"),
    "an expert of another number": ([SOUND + 2**16], [1], "layer 0: expert 65536 does not exist; ids lie in 0..31"),
    "padding": ([np.where(SOUND == 31, -1, SOUND)], [1], "layer 7: expert -1 does not exist"),
    "an expert twice": ([np.zeros_like(SOUND)], [1], "experts [0, 0, 0, 0] repeat"),
    "too few layers": ([SOUND[:, :5]], [1], "request 0 has experts of shape (3, 5, 4)"),
    "no layers": ([SOUND[0]], [1], "request 0: its experts are int64 [24, 4]; give whole numbers"),
    "weights": ([SOUND / 32], [1], "request 0: its experts are float64 [3, 24, 4]; give whole numbers"),
    "ragged": ([[[[1], [1, 2]]]], [1], "request 0: its experts are float64 [0]"),
    "too long a prompt": ([SOUND], [4], "request 0 has 3 tokens, 4 of them prefill"),
    "no length": ([SOUND, SOUND], [1], "request 1: its prompt length is None"),
    "a length too many": ([SOUND], [1, 1], "there are more prompt_lengths than requests"),
    "half a token": ([SOUND], [1.5], "request 0: its prompt length is 1.5"),
    "one length": ([SOUND], 1, "experts and prompt_lengths must be lists"),
    "nothing": ([], [], "there is no request to write"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_trace_that_does_not_fit_its_model_is_not_written(name, tmp_path):
    arrays, lengths, right = BAD[name]
    with pytest.raises(TraceError) as error:
        wss.write_trace(tmp_path / "a.parquet", arrays, lengths, model="gpt_oss_20b", source="a test")
    assert right in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_trace_is_replaced_only_by_force(tmp_path):
    path = tmp_path / "a.parquet"
    for force in (False, True):
        wss.write_trace(path, [SOUND], [1], model="gpt_oss_20b", source="a test", force=force)
    with pytest.raises(OutputError, match="exists; give another path, or force=True to replace it"):
        wss.write_trace(path, [SOUND], [1], model="gpt_oss_20b", source="a test")
    path.write_text("not ours")
    with pytest.raises(OutputError, match="is no trace that wss wrote"):
        wss.write_trace(path, [SOUND], [1], model="gpt_oss_20b", source="a test", force=True)
    assert path.read_text() == "not ours"


def test_no_room_is_a_capacity_error():
    with pytest.raises(CapacityError):
        wss.run(QWEN, {"wafer.die.hbm.size": "1 GB"}, steps=1)


# Types.

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
wss.run("qwen3_235b", batch="many")
wss.rum("qwen3_235b")
wss.load(5)
"""


@pytest.mark.slow
def test_mypy_checks_the_code_of_users(tmp_path):
    for name, text in (("user", USER), ("misused", MISUSED)):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    said = {}
    for name in ("user", "misused"):
        words = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"), f"{name}.py"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        said[name] = [line for line in done.stdout.splitlines() if line.startswith(f"{name}.py")]
    assert said["user"] == []
    assert [int(line.split(":")[1]) for line in said["misused"] if " error: " in line] == [3, 4, 5, 6]
