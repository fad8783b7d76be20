"""Settings given in Python: the experiment that the command line makes of the same, and its results."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from kit import ROOT
from kit.runs import SMALL, without_host

import wss
from wss.cli import cli
from wss.config import TraceFile, load
from wss.config.experiment import LayerSample
from wss.engine.specs import PacketSpec
from wss.hardware import FaultSpec
from wss.models import Precision
from wss.policies import Policy
from wss.policies.allocation.basic import Algorithm1, Home
from wss.traces.synthetic.spec import SYNTHS

QWEN = "qwen3_235b"


@dataclass(frozen=True, kw_only=True)
class Mine(Home):
    strength: int = 1


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


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
