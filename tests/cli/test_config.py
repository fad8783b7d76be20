"""A sound file gives a frozen experiment; every fault of an unsound one is named, in its place, at once."""

import dataclasses
import json
import os
from dataclasses import replace

import pytest

from wss.config import TraceFile, json_schema, load
from wss.config.document import scalar
from wss.engine.specs import FluidSpec
from wss.errors import ConfigError
from wss.hardware import WAFERS
from wss.models import MODELS
from wss.policies import POLICIES
from wss.policies.allocation.basic import Algorithm1, Chunked, Home
from wss.policies.prediction import TokenHeatmap
from wss.traces.synthetic.spec import SYNTHS

SOUND = """\
model: deepseek_v3
wafer: dojo
trace: {synth: deepseek_v3}
policies: [base, ep]
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "x.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def faults_of(path, *settings):
    with pytest.raises(ConfigError) as error:
        load(path, settings, allow_code=True)
    return [fault.replace(str(path), "x.yaml") for fault in error.value.faults]


def test_presets_by_name_and_defaults(write):
    experiment = load(str(write(SOUND)))
    assert experiment.model is MODELS["deepseek_v3"]
    assert experiment.wafer is WAFERS["dojo"]
    assert experiment.trace is SYNTHS["deepseek_v3"]
    assert experiment.policies == (POLICIES["base"], POLICIES["ep"])
    assert (experiment.batch, experiment.steps, experiment.layers, experiment.seed) == (4096, 4, "all", 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        experiment.batch = 1


INLINE = """\
model:
  name: tiny
  num_layers: 4
  moe_layers: [1, 3]
  num_experts: 8
  top_k: 2
  hidden_size: 64
  moe_intermediate_size: 32
wafer:
  mesh: [2, 3]
  die:
    flops: {fp16: 1 TFLOPS}
    hbm: {bandwidth: 1 TB/s, size: 1 GB, latency: 300 ns, reserve: 0.2}
    llc: {size: 1 MiB}
  link: {bandwidth: 500 GB/s, latency: 0.1 us, request: 16 B, granule: 128 B}
trace: {path: t.parquet, order: string}
batch: 7
steps: all
layers: [3]
network: {kind: fluid}
window: 1
policies:
  - base
  - {name: mine, preset: allo, allocation: {kind: algorithm1, block: 512}}
  - {name: chunky, allocation: chunked}
baseline: mine
"""


def test_everything_can_be_written_out(write):
    experiment = load(write(INLINE))
    assert experiment.model.moe_layers == (1, 3)
    assert experiment.wafer.die.hbm.bandwidth == 1e12
    assert experiment.wafer.link.latency == pytest.approx(1e-7)
    assert experiment.wafer.die.llc.size == 2**20
    assert experiment.trace == TraceFile(path="t.parquet", order="string")
    assert experiment.policies[1].allocation == Algorithm1(block=512)
    assert experiment.policies[2].allocation == Chunked()
    assert (experiment.steps, experiment.layers_run) == ("all", (3,))


def test_a_preset_with_changes(write):
    experiment = load(write(SOUND.replace("dojo", "{preset: dojo, mesh: [8, 8], link: {bandwidth: 3 TB/s}}")))
    assert experiment.wafer.mesh == (8, 8)
    assert experiment.wafer.link.bandwidth == 3e12
    assert experiment.wafer.link.latency == WAFERS["dojo"].link.latency
    assert experiment.wafer.name == "dojo (modified)"


@pytest.mark.parametrize(
    ("settings", "check"),
    [
        (["batch=1024"], lambda e: e.batch == 1024),
        (["steps=all"], lambda e: e.steps == "all"),
        (["wafer.mesh=[3, 3]"], lambda e: e.wafer.mesh == (3, 3)),
        (["wafer.link.bandwidth=3 TB/s"], lambda e: e.wafer.link.bandwidth == 3e12),
        (["wafer.die.hbm.latency=0"], lambda e: e.wafer.die.hbm.latency == 0),
        (["trace.path=t.parquet"], lambda e: e.trace == TraceFile(path="t.parquet")),
        (["trace.path=t.parquet", "trace.order=string"], lambda e: e.trace.order == "string"),
        (["trace.path=t.parquet", "trace.synth=qwen3_235b"], lambda e: e.trace is SYNTHS["qwen3_235b"]),
        (["trace.synth.requests=5"], lambda e: e.trace.requests == 5),
        (["policies=[ep]", "baseline=ep"], lambda e: e.policies == (POLICIES["ep"],)),
        (["network.kind=fluid"], lambda e: e.network == FluidSpec()),
    ],
)
def test_settings_change_one_thing(write, settings, check):
    assert check(load(write(SOUND), settings))


def test_a_setting_of_trace_path_replaces_the_whole_value(write):
    path = write(SOUND.replace("{synth: deepseek_v3}", "{path: a.parquet, order: string}"))
    assert load(path, ["trace.path=b.parquet"]).trace == TraceFile(path="b.parquet")


def test_a_users_own_class_is_named_by_module_and_class(write, tmp_path, monkeypatch):
    (tmp_path / "mine_for_test.py").write_text(
        "from dataclasses import dataclass\n"
        "from wss.policies.allocation.basic import Home\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Mine(Home):\n"
        "    __pydantic_config__ = {'extra': 'forbid', 'strict': True}\n"
        "    strength: int = 1\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    entry = "{name: mine, allocation: {kind: 'mine_for_test:Mine', strength: 3}}"
    experiment = load(write(SOUND.replace("[base, ep]", f"[base, {entry}]")), allow_code=True)
    allocation = experiment.policies[1].allocation
    assert isinstance(allocation, Home)
    assert allocation.strength == 3
    kinds = [policy["allocation"]["kind"] for policy in experiment.plain()["policies"]]
    assert kinds == ["in_turn", "mine_for_test:Mine"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e9", 1e9),
        ("-3", -3),
        ("010", 10),
        ("", None),
        ("true", True),
        *((text, text) for text in ("on", "no", "12:30:45", "0x10", "2024-01-01", "1_000")),
    ],
)
def test_plain_scalars_hold_no_surprises(text, value):
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


# what is wrong with the file -> each fault: where it stands, and a part of what is said
MALFORMED = {
    "empty": ("", ["x.yaml: is empty"]),
    "a list": ("- model", ["x.yaml:1:1: is not a mapping"]),
    "not YAML": ("model: [deepseek_v3", ["x.yaml:1:20: not YAML"]),
    "a tab": ("model:\n\t- x", ["x.yaml:2:1: not YAML"]),
    "two documents": (SOUND + "---\n" + SOUND, ["x.yaml:5:1: not YAML"]),
    "control characters": ("model: \x07", ["x.yaml: not YAML"]),
    "nested without end": ("a: " + "[" * 5000, ["x.yaml: nested too deeply"]),
    "within itself": ("model: &a [*a]", ["x.yaml: nested too deeply"]),
    "duplicate key": (SOUND + "batch: 1\nbatch: 2", ["x.yaml:6:1: batch: is given twice"]),
    "a tag": (SOUND + "batch: !!python/object:os.system 1", ["x.yaml:5:8: batch: tag"]),
    "a list as a key": (SOUND + "[a]: 1", ["x.yaml:1:1: a key is a list"]),
    "unknown key": (SOUND + "bach: 1", ["x.yaml:5:1: bach: is not a key here; did you mean 'batch'?"]),
    "missing keys": ("model: qwen3_235b", ["wafer: is missing", "trace: is missing", "policies: is missing"]),
    "unknown model": (SOUND.replace("model: deepseek_v3", "model: deepsek_v3"), ["x.yaml:1:1: model: 'deepsek_v3'"]),
    "unknown wafer": (SOUND.replace("dojo", "mojo"), ["wafer: 'mojo' is not known; did you mean 'dojo'?"]),
    "wafer a number": (SOUND.replace("dojo", "5"), ["x.yaml:2:1: wafer: 5 is not right"]),
    "unknown policy": (SOUND.replace("[base, ep]", "[base, allopred]"), ["policies.1: 'allopred'", "'allo_pred'"]),
    "no policies": (SOUND.replace("[base, ep]", "[]"), ["policies: [] is not right; give a list"]),
    "policies not a list": (SOUND.replace("[base, ep]", "base"), ["policies: 'base' is not right"]),
    "a policy twice": (SOUND.replace("[base, ep]", "[base, base]"), ["policies.1: 'base' is there twice"]),
    "a policy without name": (SOUND.replace("[base, ep]", "[base, {preset: ep}]"), ["policies.1.name: is missing"]),
    "a policy without allocation": (
        SOUND.replace("[base, ep]", "[base, {name: a}]"),
        ["policies.1.allocation: is missing"],
    ),
    "an unknown seam": (
        SOUND.replace("[base, ep]", "[base, {name: a, preset: ep, alocation: home}]"),
        ["policies.1.alocation: is not a key here; did you mean 'allocation'?"],
    ),
    "an unknown kind": (
        SOUND.replace("[base, ep]", "[base, {name: a, allocation: homee}]"),
        ["policies.1.allocation: 'homee' is not a known allocation; did you mean 'home'?"],
    ),
    "an unknown parameter": (
        SOUND.replace("[base, ep]", "[base, {name: a, allocation: {kind: algorithm1, blok: 2}}]"),
        ["policies.1.allocation.blok: is not a key here; did you mean 'block'?"],
    ),
    "a parameter out of range": (
        SOUND.replace("[base, ep]", "[base, {name: a, allocation: {kind: algorithm1, block: 0}}]"),
        ["policies.1.allocation.block: 0 is not right; it should be greater than or equal to 1"],
    ),
    "a class that is not there": (
        SOUND.replace("[base, ep]", "[base, {name: a, allocation: 'no_such_module:X'}]"),
        ["policies.1.allocation: 'no_such_module:X' cannot be imported"],
    ),
    "a class that is no dataclass": (
        SOUND.replace("[base, ep]", "[base, {name: a, allocation: 'pathlib:Path'}]"),
        ["policies.1.allocation: 'pathlib:Path' is not a dataclass"],
    ),
    "baseline not run": (SOUND + "baseline: allo", ["x.yaml:5:1: baseline: 'allo' is not among the policies"]),
    "no unit": (INLINE.replace("1 TB/s", "1e12"), ["x.yaml:13:11: wafer.die.hbm.bandwidth: 1000000000000.0"]),
    "a wrong unit": (INLINE.replace("500 GB/s", "500 GB"), ["wafer.link.bandwidth: 'GB' is a unit of size"]),
    "bits as b": (INLINE.replace("500 GB/s", "500 Gb/s"), ["wafer.link.bandwidth: 'Gb/s' is not a known unit"]),
    "a negative latency": (INLINE.replace("0.1 us", "-1 us"), ["wafer.link.latency: '-1 us' is out of range"]),
    "a bandwidth of zero": (INLINE.replace("500 GB/s", "0 GB/s"), ["wafer.link.bandwidth: '0 GB/s' is out of range"]),
    "a mesh of three": (INLINE.replace("[2, 3]", "[2, 3, 4]"), ["wafer.mesh"]),
    "a mesh of none": (INLINE.replace("[2, 3]", "[0, 3]"), ["wafer.mesh.0: 0 is not right"]),
    "a mesh too large": (INLINE.replace("[2, 3]", "[99, 99]"), ["wafer: mesh 99 x 99 has more than 1024 dies"]),
    "a reserve of one": (INLINE.replace("reserve: 0.2", "reserve: 1"), ["wafer.die.hbm.reserve: 1"]),
    "a reserve that is no number": (INLINE.replace("reserve: 0.2", "reserve: .nan"), ["wafer.die.hbm.reserve: nan"]),
    "top-k above the experts": (INLINE.replace("top_k: 2", "top_k: 9"), ["model: top_k 9 exceeds num_experts 8"]),
    "no layers": (
        INLINE.replace("moe_layers: [1, 3]", "moe_layers:"),
        ["model.moe_layers: is empty; give the MoE layers"],
    ),
    "layers not ascending": (INLINE.replace("moe_layers: [1, 3]", "moe_layers: [3, 1]"), ["model: moe_layers are not"]),
    "layers outside the model": (
        INLINE.replace("moe_layers: [1, 3]", "moe_layers: [1, 4]"),
        ["model: moe_layers leave"],
    ),
    "text for a number": (INLINE.replace("num_experts: 8", "num_experts: '8'"), ["x.yaml:5:3: model.num_experts: '8'"]),
    "true for a number": (SOUND + "batch: true", ["batch: True is not right"]),
    "a fraction for a count": (SOUND + "batch: 1.5", ["batch: 1.5 is not right"]),
    "a batch of zero": (SOUND + "batch: 0", ["batch: 0 is not right"]),
    "a batch beyond reason": (
        SOUND + "batch: 99999999999999999999999",
        ["batch: 99999999999999999999999 is not right"],
    ),
    "steps a word": (SOUND + "steps: some", ["steps: 'some' is not right; it should be 'all' or a whole number"]),
    "a negative seed": (SOUND + "seed: -1", ["seed: -1 is not right"]),
    "an unknown precision": (
        SOUND + "precision: fp32",
        ["precision: 'fp32' is not right; it should be 'fp16', 'bf16', 'fp8' or"],
    ),
    "a precision the die lacks": (SOUND + "precision: fp4", ["precision: the die has no peak for 'fp4'"]),
    "an unknown network": (SOUND + "network: fluidd", ["network: 'fluidd' is not a known network; did you mean"]),
    "an unknown GEMM model": (SOUND + "gemm: real", ["gemm: 'real' is not a known GEMM model"]),
    "layers of another model": (SOUND + "layers: [2, 3]", ["layers: [2] are not MoE layers of the model"]),
    "layers listed twice": (SOUND + "layers: [3, 3]", ["layers: [3, 3] is not ascending"]),
    "both synth and path": (
        SOUND.replace("{synth: deepseek_v3}", "{synth: deepseek_v3, path: x}"),
        ["x.yaml:3:1: trace: needs exactly one of synth and path"],
    ),
    "neither synth nor path": (SOUND.replace("{synth: deepseek_v3}", "{}"), ["trace: needs exactly one"]),
    "an unknown synth": (SOUND.replace("{synth: deepseek_v3}", "{synth: x}"), ["trace.synth: 'x' is not known"]),
    "a synth parameter out of range": (
        SOUND.replace("{synth: deepseek_v3}", "{synth: {preset: deepseek_v3, agreement: 1.5}}"),
        ["trace.synth.agreement: 1.5 is not right"],
    ),
    "synth parameters at odds": (
        SOUND.replace("{synth: deepseek_v3}", "{synth: {prompt_min: 9, prompt_max: 3}}"),
        ["trace.synth: prompt_min 9 exceeds prompt_max 3"],
    ),
    "an unknown order": (
        SOUND.replace("{synth: deepseek_v3}", "{path: x, order: sorted}"),
        ["trace.order: 'sorted' is not right; it should be 'file', 'string' or 'mixed'"],
    ),
    "four faults": (
        "model: x\nwafer: y\ntrace: {synth: z}\npolicies: [w]",
        ["x.yaml:1:1: model", "x.yaml:2:1: wafer", "x.yaml:3:9: trace.synth", "x.yaml:4:12: policies.0"],
    ),
}


@pytest.mark.parametrize("case", sorted(MALFORMED))
def test_malformed(write, case):
    text, expected = MALFORMED[case]
    faults = faults_of(write(text))
    for part in expected:
        assert any(part in fault for fault in faults), faults
    if case != "unknown policy":
        assert len(faults) == len(expected)
    for fault in faults:
        assert "\n" not in fault
        assert fault.startswith("x.yaml")
        assert len(fault) < 400


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("batch", "--set batch: is not a setting; write --set a.b=value"),
        ("=3", "is not a setting"),
        ("a..b=3", "is not a setting"),
        ("batch=x", "--set batch=x: batch: 'x' is not right"),
        ("wafer.hbm.size=1 GB", "--set wafer.hbm.size=1 GB: wafer.hbm: is not a key here"),
        ("bach=3", "--set bach=3: bach: is not a key here; did you mean 'batch'?"),
        ("wafer.mash=[1, 1]", "wafer.mash: is not a key here; did you mean 'mesh'?"),
        ("wafer.mesh=[1", "not YAML"),
        ("batch.x=1", "batch is not a mapping there"),
        ("wafer.link.bandwidth=3 TB", "'TB' is a unit of size"),
        ("policies.allo.allocation.block=8", "there is no policy 'allo'; known: base"),
        ("policies.base.allocation.block=8", "block=8: policies.base.allocation.block: is not a key here"),
        ("policies.base=3", "policies.base is a whole policy; set a part of it, such as policies.base.allocation"),
        ("policies.bas=3", "there is no policy 'bas'; did you mean 'base'?"),
        ("batch=1e3", "batch: 1000.0 is not right; it should be a whole number, written without point and exponent"),
        ("wafer.mesh=[50, 50]", "--set wafer.mesh=[50, 50]: wafer.mesh: mesh 50 x 50 has more than 1024 dies"),
        ("wafer={preset: h100_nvl8, gpus: 64, nodes: 64}", "64}: wafer: nodes 64 of 64 GPUs are more than 1024 dies"),
    ],
)
def test_a_bad_setting_is_named(write, setting, expected):
    (fault,) = faults_of(write(SOUND + "batch: 3"), setting)
    assert expected in fault


def test_a_policys_parameter_is_set_by_its_name(write):
    policies = "policies: [base, allo_pred, {name: mine, allocation: algorithm1}]"
    path = write(SOUND.replace("policies: [base, ep]", policies))
    settings = ("policies.allo_pred.allocation.block=8", "policies.allo_pred.prediction.share=0.1")
    base, changed, mine = load(path, (*settings, "policies.mine.allocation.radius=2")).policies
    assert changed == replace(
        POLICIES["allo_pred"], about=changed.about, allocation=Algorithm1(block=8), prediction=TokenHeatmap(share=0.1)
    )
    assert (base, mine.allocation) == (POLICIES["base"], Algorithm1(radius=2))


def test_a_dispatch_by_name_is_changed_in_part(write):
    both = load(write(SOUND), ("dispatch=uniform", "dispatch.combine_bytes=4")).dispatch
    assert both == load(write(SOUND), ("dispatch={combine_bytes: 4}",)).dispatch
    assert both.combine_bytes == 4


def test_the_config_json_of_a_model_is_no_configuration(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "qwen3_moe", "num_experts": 8, "hidden_size": 64}', encoding="utf-8")
    (fault,) = faults_of(path)
    assert fault == "x.yaml: is the config.json of a model; name it in a configuration, as model: x.yaml"


def test_a_file_that_is_not_there_or_not_text(tmp_path):
    assert "there is no such file" in faults_of(tmp_path / "no.yaml")[0]
    assert "is not a file" in faults_of(tmp_path)[0]
    os.mkfifo(tmp_path / "pipe")
    assert "is not a file" in faults_of(tmp_path / "pipe")[0]
    (tmp_path / "x.yaml").write_bytes(b"model: \xff\xfe")
    assert "byte 7 is not UTF-8" in faults_of(tmp_path / "x.yaml")[0]


def test_the_schema_names_every_key_and_every_preset():
    schema = json_schema()
    json.dumps(schema)
    assert set(schema["properties"]) == {field.name for field in dataclasses.fields(load.__globals__["Experiment"])}
    assert schema["properties"]["wafer"]["anyOf"][0]["enum"] == sorted(WAFERS)
    assert "HbmSpec" in schema["$defs"]


BEYOND = {
    "a number of 5,000 digits": ("batch: " + "9" * 5000, "batch: "),
    "a latency of 1e300 s": ("wafer: {preset: dojo, link: {latency: 1e300 s}}", "is implausible"),
    "a bandwidth of nearly nothing": ("wafer: {preset: dojo, link: {bandwidth: 1e-300 B/s}}", "is implausible"),
    "an unknown precision": ("wafer: {preset: dojo, die: {flops: {int8: 1 TFLOPS}}}", "wafer.die.flops.int8"),
    "an endless block": (
        "policies: [base, {name: a, preset: allo, allocation: {kind: algorithm1, block: 99999999999999999999}}]",
        "policies.1.allocation.block: 99999999999999999999 is not right",
    ),
    "a part of the wrong seam": (
        "policies: [base, {name: a, preset: allo, allocation: 'wss.policies.placement.basic:Contiguous'}]",
        "is no allocation; derive it from wss.policies.Allocation",
    ),
    "no layers": ("layers: []", "layers: [] is not right; it should have at least 1 item, not 0"),
    "a policy's name of two lines": (
        'policies: [base, {name: "a\\nb", preset: ep}]',
        "policies.1.name: is missing or not plain",
    ),
}


@pytest.mark.parametrize("case", sorted(BEYOND))
def test_what_is_beyond_belief_is_refused(write, case):
    line, expected = BEYOND[case]
    key = line.split(":")[0]
    kept = [own for own in SOUND.splitlines() if not own.startswith(f"{key}:")]
    (fault,) = faults_of(write("\n".join([*kept, line])))
    assert expected in fault
    assert "\n" not in fault


def test_one_peak_can_be_changed_and_the_others_stay(write):
    flops = load(write(SOUND), ["wafer.die.flops.fp8=5 PFLOPS"]).wafer.die.flops
    assert flops == {"fp16": 989e12, "fp8": 5e15}


def test_a_huge_file_is_not_read(tmp_path):
    (tmp_path / "x.yaml").write_text("x" * 2_000_000)
    assert "is larger than 1000000 bytes" in faults_of(tmp_path / "x.yaml")[0]


def test_a_parameter_that_a_users_class_has_not_is_refused(tmp_path, monkeypatch):
    (tmp_path / "their_policy.py").write_text(
        "from dataclasses import dataclass\n\n\n@dataclass(frozen=True)\nclass Near:\n    radius: int = 2\n\n"
        "    def allocate(self, view):\n        ...\n"
    )
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "e.yaml"
    path.write_text(
        "{model: qwen3_235b, wafer: dojo, trace: {synth: qwen3_235b}, baseline: near,"
        " policies: [{name: near, allocation: {kind: 'their_policy:Near', radiuss: 0}}]}"
    )
    with pytest.raises(ConfigError, match=r"radiuss: is not a parameter of 'their_policy:Near'; did you mean 'radius'"):
        load(path, allow_code=True)


def test_packets_too_small_are_refused(tmp_path):
    path = tmp_path / "e.yaml"
    path.write_text(
        "{model: qwen3_235b, wafer: dojo, trace: {synth: qwen3_235b}, baseline: ep, policies: [ep],"
        " network: {kind: packet, chunk: 1 B}}"
    )
    with pytest.raises(ConfigError, match=r"network\.chunk: cuts an expert into 37748736 chunks"):
        load(path)
