"""No setting is ignored: each one changes a figure or is refused, in the same words from YAML, --set and Python."""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from decimal import Decimal
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import yaml
from kit import ROOT

from wss.config import Experiment, load
from wss.config.experiment import LayerSample
from wss.config.sweep_file import load_sweep
from wss.engine.specs import AllToAllSpec, CircuitSpec, FluidSpec, PacketSpec
from wss.errors import ConfigError, OldSpellingWarning, WssError
from wss.execution import run
from wss.hardware import WAFERS, FaultSpec
from wss.hardware.specs import SwitchedSpec, WaferSpec
from wss.models import MODELS, ModelShape
from wss.policies import POLICIES, LoadHistorySpec, Policy
from wss.policies.allocation.basic import Chunked, Home
from wss.policies.caching import Lfu
from wss.policies.placement.eplb import Eplb
from wss.policies.prediction import TokenHeatmap
from wss.traces.synthetic.spec import SynthSpec

TINY = ModelShape(
    name="tiny", num_layers=4, moe_layers=(1, 2, 3), num_experts=12, top_k=2, hidden_size=1024,
    moe_intermediate_size=2048,
)  # fmt: skip
SYNTH = SynthSpec(
    skew=1.2, requests=40, decode_tokens=6, prompt_min=2, prompt_max=5, groups=4, group_limit=2, drift_at=2,
    drift_share=0.6, sticky_first=0.3, sticky_last=0.4, carry=0.4, subjects=3, clusters=5,
)  # fmt: skip
DOJO, NODES = WAFERS["dojo"], WAFERS["h100_nvl8"]
assert isinstance(DOJO, WaferSpec)
assert isinstance(NODES, SwitchedSpec)
CUT = Policy(name="cut", allocation=Chunked())  # several dies read one expert, so that LLCs hit


def short_of_room(wafer: Any, size: float) -> Any:
    """*wafer* with so small an HBM that copies have to go."""
    return replace(wafer, die=replace(wafer.die, hbm=replace(wafer.die.hbm, size=size)))


MESH = Experiment(
    model=TINY, wafer=short_of_room(replace(DOJO, mesh=(2, 3)), 120e6), trace=SYNTH, batch=40, steps=3, layers=(1, 2),
    policies=(CUT, *(POLICIES[name] for name in ("base", "pred", "allo", "eplb", "cross_hierarchy"))),
)  # fmt: skip
BASES = {
    "fluid": MESH,
    "packet": replace(MESH, network=PacketSpec(chunk=1e6, window=4)),
    "circuit": replace(MESH, network=CircuitSpec(hbm_share=0.9, link_share=0.8)),
    "dispatch": replace(MESH, dispatch=AllToAllSpec()),
    "faults": replace(MESH, wafer=short_of_room(replace(DOJO, mesh=(3, 3)), 90e6), faults=FaultSpec(dies=((1, 1),))),
    "nodes": replace(
        MESH, wafer=short_of_room(replace(NODES, nodes=2, gpus=3), 90e6), dispatch=AllToAllSpec(once_per="node")
    ),
    "paper": Experiment(
        model=MODELS["llama4_maverick"], wafer=replace(DOJO, mesh=(2, 3)), trace=replace(SYNTH, requests=30), batch=30,
        steps=2, layers=(1, 47), physics="paper", policies=(POLICIES["base"], POLICIES["allo_pred"]),
    ),
}  # fmt: skip

# What may change no figure of these runs, and why.
NO_FIGURE = {
    "seed": "chance: exempt",
    "name": "a label",
    "source": "a label",
    "baseline": "changes speedups alone",
    "engine": "both engines give the same figures",
    "policies": "each policy has tests of its own",
    "moe_layers": "is walked as layers",
    "num_layers": "is a fact of the model; it changes what layers there may be",
    "loads": "is a file; test_synth reads it",
    "workload": "goes with loads",
    "drift_to": "goes with loads",
    "requests": "beyond the batch there are none to run",
    "decode_tokens": "beyond the steps there are none to run",
    "flops": "is walked by precision in test_gemm",
    "expert_groups": "is read by EPLB where there are nodes",
    "num_shared_experts": "is a fact of the model, for serving",
    "dense_intermediate_size": "is a fact of the model, for serving",
    "shared_intermediate_size": "is a fact of the model, for serving",
    "vocab_size": "is a fact of the model, for serving",
    "router": "is read when logits are imported",
    "attention": "is a fact of the model, for serving",
    "duplex": "of three dies in a row nothing goes both ways here",
    "reserve": "of the HBM is read where copies are short of room, in pred",
}


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all plain fields below *value*."""
    for field in fields(value):
        inside = getattr(value, field.name)
        if is_dataclass(inside):
            yield from leaves(inside, (*path, field.name))
        else:
            yield (*path, field.name)


def at(value: Any, path: tuple[str, ...]) -> Any:
    for step in path:
        value = getattr(value, step)
    return value


def put(value: Any, path: tuple[str, ...], new: Any) -> Any:
    """*value* with *new* at *path*."""
    return replace(value, **{path[0]: new if len(path) == 1 else put(getattr(value, path[0]), path[1:], new)})


def hint_of(value: Any, path: tuple[str, ...]) -> Any:
    """The type of the field at *path*, without what else is said of it."""
    return get_type_hints(type(at(value, path[:-1])))[path[-1]]


def others(value: Any, hint: Any) -> list[Any]:
    """Values that may stand where *value* does."""
    options = [option for part in (hint, *get_args(hint)) if get_origin(part) is not None for option in get_args(part)]
    words = [option for option in options if isinstance(option, str) and option != value]
    if isinstance(value, str):
        return words
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, int):
        return [value + 1, value - 1, 2 * value]
    if isinstance(value, float):
        return [value * 1.5, value * 0.5, value * 0.01, 0.5, 1e-7]
    if isinstance(value, tuple) and value and isinstance(value[0], int):
        return [(value[0], value[1] + 1), (value[0], value[1] - 1)]
    return []


@cache
def figures(name: str) -> list[Any]:
    return rows_of(BASES[name])


def rows_of(experiment: Experiment) -> list[Any]:
    result = run(experiment)
    return [[replace(row, layer=0) for row in ledger.rows] for ledger in result.ledgers]


QUICK = ("fluid", "paper")  # the others are walked in the slow tests
CASES = [
    pytest.param(name, path, marks=[pytest.mark.slow] * (name not in QUICK))
    for name, base in BASES.items()
    for path in leaves(base)
    if not NO_FIGURE.keys() & set(path[1:] or path)
    and (name, path) != ("paper", ("wafer", "die", "hbm", "size"))  # changes the note on how much does not fit
]


@pytest.mark.parametrize(
    ("name", "path"), CASES, ids=lambda value: value if isinstance(value, str) else ".".join(value)
)
def test_each_setting_changes_a_figure_or_is_refused(name, path):
    base = BASES[name]
    owner = at(base, path[:-1])
    hint = get_type_hints(type(owner), include_extras=True)[path[-1]]
    tried, refused = 0, 0
    for other in others(at(base, path), hint):
        if other == at(base, path):
            continue
        tried += 1
        try:
            if rows_of(put(base, path, other)) != figures(name):
                return
        except (WssError, ValueError):
            refused += 1
    if tried:
        assert refused == tried, f"{'.'.join(path)} changes nothing"


LLAMA4 = (ROOT / "configs" / "llama4_maverick.yaml").read_text(encoding="utf-8")
BAD: dict[str, tuple[str, Any, str]] = {  # setting: as YAML, as Python, and why it is refused
    "batch": ("2.5", 2.5, "2.5 is not right; it should be a whole number"),
    "batch ": ("true", True, "True is not right; it should be"),
    "batch  ": ("0", 0, "0 is not right; it should be greater than or equal to 1"),
    "steps": ("0", 0, "0 is not right; it should be greater than or equal to 1"),
    "steps ": ("-1", -1, "-1 is not right; it should be greater than or equal to 1"),
    "steps  ": ("many", "many", "'many' is not right; it should be 'all' or"),
    "window": ("0", 0, "0 is not right; it should be greater than or equal to 1"),
    "seed": ("-1", -1, "-1 is not right; it should be greater than or equal to 0"),
    "replications": ("0", 0, "0 is not right; it should be greater than or equal to 1"),
    "replications ": ("2.5", 2.5, "2.5 is not right; it should be a whole number"),
    "engine": ("fast", "fast", "'fast' is not right; it should be 'auto', 'simpy' or 'compiled'"),
    "physics": ("real", "real", "'real' is not a known physics; known: paper, paper_artifact, wss"),
    "gemm": ("h100", "h100", "'h100' is not a known GEMM model; did you mean 'h800'?"),
    "precision": ("fp7", "fp7", "'fp7' is not right; it should be"),
    "precision ": ("fp4", "fp4", "the die has no peak for 'fp4', only for fp16, fp8"),
    "baseline": ("dup", "dup", "'dup' is not among the policies; give one of base, ep, pred, allo, allo_pred"),
    "layers": ("[3, 1]", (3, 1), "[3, 1] is not ascending; list each layer once, lowest first"),
    "layers ": ("[2, 4]", (2, 4), "[2, 4] are not MoE layers of the model; it has 24 in 1..47"),
    "layers  ": ("[]", (), "() is not right; it should have at least 1 item"),
    "policies": (
        "[base, base]",
        (POLICIES["base"], POLICIES["base"]),
        "'base' is there twice; give each policy a name of its own",
    ),
    "faults": ("{dies: [[9, 9]]}", FaultSpec(dies=((9, 9),)), "dies: [9, 9] is not on the mesh"),
}


@pytest.mark.parametrize("key", BAD)
def test_a_setting_is_refused_in_the_same_words_everywhere(key, tmp_path):
    """From YAML, from --set and from Python: the same but for the place."""
    written, value, what = BAD[key]
    name = key.strip()
    lines = [line for line in LLAMA4.splitlines() if not line.startswith(f"{name}:")]
    path = tmp_path / "bad.yaml"
    path.write_text("\n".join([*lines, f"{name}: {written}", ""]), encoding="utf-8")
    good = load(ROOT / "configs" / "llama4_maverick.yaml")
    found = []
    for make in (
        lambda: load(path),
        lambda: load(ROOT / "configs" / "llama4_maverick.yaml", [f"{name}={written}"]),
        lambda: replace(good, **{name: value}),
    ):
        with pytest.raises(ConfigError) as error:
            make()
        found.append([re.search(rf"\b{name}[.\w]*: (.*)", fault)[1] for fault in error.value.faults])
    assert any(line.startswith(what.replace("()", "[]")) for line in found[0]), found[0]
    assert found[0] == found[1] == found[2]


NOT_READ = {  # beside physics: paper
    "wafer.die.sms=100": {"wafer": replace(DOJO, die=replace(DOJO.die, sms=100))},
    "wafer.link.latency=1 us": {"wafer": replace(DOJO, link=replace(DOJO.link, latency=1e-6))},
    "network=packet": {"network": PacketSpec()},
    "gemm=ideal": {"gemm": "ideal"},
    "window=7": {"window": 7},
}


@pytest.mark.parametrize("setting", NOT_READ)
def test_what_the_papers_physics_does_not_read_is_refused(setting):
    path = ROOT / "configs" / "llama4_maverick.yaml"
    good = load(path, ["physics=paper"])
    with pytest.warns(OldSpellingWarning, match="paper_artifact is the old spelling of paper"):
        assert load(path, ["physics=paper_artifact"]) == good
    with pytest.warns(OldSpellingWarning):
        assert replace(good, physics="paper_artifact") == good
    with pytest.raises(ConfigError) as error:
        load(path, ["physics=paper", setting])
    with pytest.raises(ConfigError) as in_python:
        replace(good, **NOT_READ[setting])
    assert all("changes nothing: physics: paper has its own" in fault for fault in error.value.faults)
    strip = {fault.removeprefix(f"--set {setting}: ") for fault in error.value.faults}
    assert strip == {fault.removeprefix("experiment: ") for fault in in_python.value.faults}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"trace": replace(SYNTH, drift_at=0)}, "trace.synth.drift_share: 0.6 changes nothing: nothing drifts"),
        ({"trace": replace(SYNTH, groups=1)}, "trace.synth.group_limit: 2 changes nothing: there is one group"),
        ({"dispatch": AllToAllSpec(once_per="expert", counting="exact")}, "dispatch.counting: 'exact' changes nothing"),
        (
            {"dispatch": AllToAllSpec(sharing="max_min"), "network": PacketSpec()},
            "dispatch.sharing: 'max_min' changes nothing: only flows that go directly over the fluid network",
        ),
        ({"faults": FaultSpec(seed=4)}, "faults.seed: 4 changes nothing: without a yield below 1 no die is drawn dead"),
        ({"faults": FaultSpec(dies=((0, 0),), seed=3)}, "faults.seed: 3 changes nothing: without a yield below 1"),
        ({"policies": (Policy(name="base", allocation=Chunked(), caching=Lfu()),)}, "policies.0.caching: changes"),
        (
            {"policies": (Policy(name="base", allocation=Chunked(), placement=Eplb(groups=4)),)},
            "policies.0.placement.groups: 4 changes nothing: groups matter where there are nodes",
        ),
        (
            {"policies": (Policy(name="base", allocation=Home(), prediction=TokenHeatmap()),)},
            "policies.0.prediction: changes nothing: with allocation: home no die fetches an expert that it could keep",
        ),
        ({"gemm": "ideal", "wafer": replace(DOJO, die=replace(DOJO.die, sms=100))}, "wafer.die.sms: 100 changes"),
        (
            {"wafer": replace(DOJO, die=replace(DOJO.die, llc=replace(DOJO.die.llc, size=0.0, hit=1e-6)))},
            "wafer.die.llc.hit: 1e-06 changes nothing: an LLC of size 0 holds nothing",
        ),
        (
            {"wafer": replace(DOJO, link=replace(DOJO.link, request=0.0, granule=99.0))},
            "wafer.link.granule: 99.0 changes nothing: requests of 0 bytes use no link",
        ),
        ({"wafer": replace(NODES, nic=replace(NODES.nic, latency=1e-6))}, "wafer.nic.latency: 1e-06 changes nothing"),
    ],
)
def test_what_is_left_unread_is_refused(changes, what):
    with pytest.raises(ConfigError) as error:
        replace(MESH, **changes)
    assert any(fault.startswith(f"experiment: {what}") for fault in error.value.faults), error.value.faults


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"faults": FaultSpec(die_yield=0.999, seed=1)},
            "by faults.yield 0.999 and faults.seed 1 no die is drawn dead",
        ),
        ({"wafer": replace(DOJO, mesh=(2, 3)), "faults": FaultSpec(die_yield=0.8, seed=1)}, None),
        ({"layers": LayerSample(sample=6)}, "layers.sample is 6, and the model has 3 MoE layers: all are run"),
        ({"layers": "all"}, None),
    ],
)
def test_what_comes_to_nothing_is_noted(changes, said):
    notes = run(replace(MESH, steps=1, policies=MESH.policies[1:2], **changes)).notes
    assert [note for note in notes if "drawn dead" in note or "all are run" in note] == ([said] if said else [])


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"model": "deepseek_v3"}, "model: 'deepseek_v3' is not right; give a ModelShape"),
        ({"model": replace(TINY, num_experts=5000)}, "model.num_experts: 5000 is not right; it should be less than or"),
        ({"wafer": replace(DOJO, link=replace(DOJO.link, bandwidth=-1.0))}, "wafer.link.bandwidth: '-1.0 B/s' is out"),
        ({"wafer": replace(DOJO, link=replace(DOJO.link, latency="fast"))}, "wafer.link.latency: 'fast' is not a time"),
        (
            {"trace": replace(SYNTH, skew=float("nan"))},
            "trace.synth.skew: nan is not right; it should be a finite number",
        ),
        ({"network": "fluid"}, "network: 'fluid' is not right; give a network"),
        ({"network": PacketSpec(window=0)}, "network.window: 0 is not right; it should be greater"),
        ({"policies": ()}, "policies: () is not right; give policies"),
        ({"policies": (replace(POLICIES["base"], name=""),)}, "policies.0.name: is missing or not plain text"),
        ({"policies": (replace(POLICIES["base"], allocation=3),)}, "policies.0.allocation: 3 is no allocation"),
        ({"policies": (replace(POLICIES["eplb"], placement=Eplb(extra=-1)),)}, "policies.0.placement.extra: -1 is not"),
        (
            {"wafer": replace(DOJO, link=replace(DOJO.link, bandwidth="3 TB/s"))},
            "wafer.link.bandwidth: '3 TB/s' is not a bandwidth in Python, which takes SI numbers (B/s); give 3e+12",
        ),
        (
            {"wafer": replace(DOJO, die=replace(DOJO.die, llc=replace(DOJO.die.llc, size="64 MiB")))},
            "wafer.die.llc.size: '64 MiB' is not a size in Python, which takes SI numbers (B); give 67108864",
        ),
        (
            {"wafer": replace(DOJO, die=replace(DOJO.die, flops={"fp16": "989 TFLOPS"}))},
            "wafer.die.flops.fp16: '989 TFLOPS' is not a compute rate in Python",
        ),
        (
            {"wafer": replace(DOJO, link=replace(DOJO.link, bandwidth=Decimal("3e12")))},
            "wafer.link.bandwidth: Decimal('3E+12') is not a bandwidth in Python",
        ),
        ({"planning": "20 us"}, "planning: '20 us' is not right; give 'free', 'charged' or seconds"),
        ({"precision": {"weights": "fp8", "compute": "fp16"}}, "precision: {'weights': 'fp8', 'compute': 'fp16'} is"),
        ({"model": replace(TINY, moe_layers=[1, 2])}, "model.moe_layers: [1, 2] is a list; Python takes a tuple"),
        ({"model": replace(TINY, expert_groups=0)}, "model.expert_groups: 0 is not right; it should be greater"),
        ({"model": replace(TINY, expert_matrices=2.0)}, "model.expert_matrices: 2.0 is a float; give 2"),
        ({"model": replace(TINY, name="")}, "model.name: '' is not right; it should have at least 1 character"),
        (
            {"policies": (replace(POLICIES["base"], history="loads.json"),)},
            "policies.0.history: 'loads.json' is not right; give LoadHistorySpec(path=...)",
        ),
        (
            {"policies": (replace(POLICIES["eplb"], history=LoadHistorySpec(path="l.json", only=["loads"])),)},
            "policies.0.history.only: ['loads'] is a list; Python takes a tuple",
        ),
        (
            {"policies": (replace(POLICIES["base"], allocation=Chunked),)},
            "policies.0.allocation: Chunked is a class; give an object, such as Chunked()",
        ),
        ({"network": FluidSpec}, "network: <class 'wss.engine.specs.FluidSpec'> is not right; give a network"),
        ({"faults": FaultSpec(dies=[[1, 1]])}, "faults.dies: [[1, 1]] is a list; Python takes a tuple"),
        (
            {"network": FluidSpec(), "dispatch": AllToAllSpec(dispatch_bytes=-1.0)},
            "dispatch.dispatch_bytes: -1.0 is not",
        ),
    ],
)
def test_what_python_alone_can_get_wrong(changes, what):
    with pytest.raises(ConfigError) as error:
        replace(MESH, **changes)
    assert any(fault.startswith(f"experiment: {what}") for fault in error.value.faults), error.value.faults


def test_numbers_of_numpy_are_taken_for_pythons():
    found = replace(MESH, batch=np.int64(40), seed=np.int32(0), steps=np.int64(3), layers=(np.int64(1), np.int64(2)))
    assert found == MESH
    assert {type(found.batch), type(found.seed), type(found.steps), *map(type, found.layers)} == {int}
    link = replace(DOJO.link, bandwidth=np.float32(2**40))
    assert replace(MESH, wafer=replace(DOJO, link=link)).wafer.link.bandwidth == 2**40


@pytest.mark.parametrize("wrong", [None, "many", (), [1]], ids=str)
@pytest.mark.parametrize("name", ["packet", "nodes"])
def test_a_wrong_type_in_any_field_is_refused_by_name_and_never_a_traceback(name, wrong):
    """Deep in a specification too: whoever writes ``replace(wafer, mesh=5)`` reads our words."""
    base = BASES[name]
    for path in leaves(base):
        if wrong is None and type(None) in get_args(hint_of(base, path)):
            continue
        if path[0] == "policies" or isinstance(at(base, path), str | tuple | dict):
            continue  # may be right
        with pytest.raises((ConfigError, ValueError)) as error:
            put(base, path, wrong)
        said = getattr(error.value, "faults", (str(error.value),))
        assert all(path[-1] in fault or path[0] in fault for fault in said), (path, said)


def test_a_point_of_a_sweep_that_sets_what_is_not_read_is_refused_before_anything_runs(tmp_path):
    sweep = {
        "config": yaml.safe_load(LLAMA4),
        "grid": {"physics": ["wss", "paper"], "gemm": ["h800", "ideal"]},
    }
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(sweep), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_sweep(path)
    (fault,) = error.value.faults
    assert "gemm: 'ideal' changes nothing: physics: paper has its own network" in fault


SWEEPS = [path for path in sorted((ROOT / "experiments").rglob("*.yaml")) if path.stem != "claims"]


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_no_shipped_sweep_sets_what_is_not_read(path):
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert load_sweep(path, allow_code=True).points if "config" in content else load(path)
