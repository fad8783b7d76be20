"""Settings that are not read: those that the physics, wafer, trace or policy in use ignores, and why.

There is one table, `RULES`, beside what each `Physics` does not read. A setting without effect is refused if it differs
from its default, or from the preset's value, so that nobody mistakes an unchanged figure for a result. Names, sources
and all seeds except that of faults are exempt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from wss.config.document import Place
from wss.config.physics import PHYSICS, Values
from wss.engine.specs import NETWORKS, FluidSpec
from wss.hardware import WAFERS, FaultSpec, SwitchedSpec, WaferSpec
from wss.policies import SEAMS, CopyRules, Policy
from wss.policies.allocation.basic import Algorithm1, Chunked, InTurn
from wss.policies.caching import Lru
from wss.policies.placement import REPLICATING
from wss.policies.placement.eplb import Eplb
from wss.policies.placement.layout_file import LayoutFile
from wss.policies.prediction import Never
from wss.traces.synthetic.spec import SYNTHS, SynthSpec

AT_HOMES = ("home", "even", "nearest")  # allocations that compute every expert where it was placed
LABELS = ("name", "source", "about", "seed")  # affect figures not at all, or only by chance


@dataclass(frozen=True)
class Rule:
    """Settings that are not read, and the condition for it.

    Attributes
    ----------
    paths
        The settings, such as ``wafer.die.sms``, with all below them.
    applies
        Whether they are not read, given all values of an experiment.
    why
        The reason in the message.
    presets
        Values that are accepted anyway, as they come with a preset; each has the paths as attributes.
    """

    paths: tuple[str, ...]
    applies: Callable[[Values], bool]
    why: str
    presets: tuple[Mapping[str, Any], ...]


def _is_mesh(values: Values) -> bool:
    return isinstance(values.get("wafer"), WaferSpec)


def _synth(values: Values) -> SynthSpec | None:
    trace = values.get("trace")
    return trace if isinstance(trace, SynthSpec) else None


def _has_llc(values: Values) -> bool:
    return "wafer" not in values or values["wafer"].die.llc.size > 0


def _drawn_by_seed(values: Values) -> bool:
    """Whether the seed affects anything: routing, the order of recorded requests, or the layers of a sample."""
    trace, layers, model = values.get("trace"), values.get("layers"), values.get("model")
    if trace is None or model is None or isinstance(trace, SynthSpec) or trace.order == "mixed":
        return True
    sampled = getattr(layers, "sample", None)
    return sampled is not None and sampled < len(model.moe_layers)


_ALL_WAFERS = tuple({"wafer": wafer} for wafer in WAFERS.values())
_MESHES = tuple({"wafer": wafer} for wafer in WAFERS.values() if isinstance(wafer, WaferSpec))
_TRACES = tuple({"trace": synth} for synth in (SynthSpec(), *SYNTHS.values()))

RULES: tuple[Rule, ...] = (
    Rule(
        ("wafer.die.sms",),
        lambda values: values.get("gemm") == "ideal",
        "gemm: ideal uses only peak FLOP/s",
        _ALL_WAFERS,
    ),
    Rule(
        ("layer_overhead",),
        lambda values: values.get("gemm") != "measured" and values.get("layer_overhead") == "none",
        "only gemm: measured comes with an overhead",
        (),
    ),
    Rule(
        ("wafer.die.llc.bandwidth", "wafer.die.llc.hit", "wafer.die.llc.write"),
        lambda values: not _has_llc(values),
        "an LLC of size 0 holds nothing",
        _ALL_WAFERS,
    ),
    Rule(
        ("wafer.link.granule",),
        lambda values: "wafer" in values and values["wafer"].link.request == 0,
        "requests of 0 bytes use no link",
        _ALL_WAFERS,
    ),
    Rule(
        ("wafer.nic", "wafer.fabric"),
        lambda values: isinstance(values.get("wafer"), SwitchedSpec) and values["wafer"].nodes == 1,
        "a single node has no traffic between nodes; give wafer.nodes",
        tuple({"wafer": wafer} for wafer in WAFERS.values() if isinstance(wafer, SwitchedSpec)),
    ),
    Rule(
        ("trace.curve", "trace.skew", "trace.skew_spread"),
        lambda values: (synth := _synth(values)) is not None and bool(synth.loads),
        "the popularity of experts is that of trace.synth.loads",
        _TRACES,
    ),
    Rule(
        ("trace.drift_share",),
        lambda values: (synth := _synth(values)) is not None and synth.drift_at == 0,
        "nothing drifts; give trace.synth.drift_at",
        _TRACES,
    ),
    Rule(
        ("trace.group_limit",),
        lambda values: (synth := _synth(values)) is not None and synth.groups == 1,
        "there is one group of experts; give trace.synth.groups",
        _TRACES,
    ),
    Rule(
        ("faults.seed",),
        lambda values: isinstance(values.get("faults"), FaultSpec) and values["faults"].die_yield >= 1,
        "without a yield below 1 no die is drawn dead; give faults.yield",
        ({"faults": FaultSpec()},),
    ),
    Rule(
        ("replications",),
        lambda values: not _drawn_by_seed(values),
        "recorded requests are taken in a given order, and no layers are sampled, so all seeds give the same",
        (),
    ),
    Rule(
        ("dispatch.counting",),
        lambda values: values.get("dispatch") is not None and values["dispatch"].once_per == "expert",
        "a token that is sent once for each expert is counted by its experts",
        ({"dispatch": type("Default", (), {"counting": "expected"})},),
    ),
    Rule(
        ("dispatch.sharing",),
        lambda values: (
            values.get("dispatch") is not None
            and (not isinstance(values.get("network"), FluidSpec) or values["dispatch"].once_per == "node")
        ),
        "only flows that go directly over the fluid network share links in proportion or max-min fairly",
        ({"dispatch": type("Default", (), {"sharing": "proportional"})},),
    ),
)


def _rule_of_physics(paths: tuple[str, ...], why: str) -> Rule:
    """Return the rule of *paths* that a physics does not read."""
    on_wafer = paths[0].startswith("wafer.")
    return Rule(paths, _is_mesh if on_wafer else lambda values: True, why, _MESHES if on_wafer else ())


def unread(values: Values, defaults: Values) -> Iterator[tuple[Place, str]]:
    """Yield the settings in *values*, all of an experiment's, that are not read, with messages.

    What the physics does not read has one message.
    """
    own = [_rule_of_physics(paths, why) for paths, why in PHYSICS[values["physics"]].unread]
    said = tuple(path for rule in own for path in rule.paths)
    for rule in (*own, *RULES):
        if not rule.applies(values):
            continue
        for path in rule.paths:
            first, *rest = path.split(".")
            if first not in values or (rule not in own and path.startswith(said)):
                continue
            allowed = [_at(preset[first], rest) for preset in rule.presets] or [defaults[first]]
            for place, shown in _differences(_at(values[first], rest), allowed, (first, *rest)):
                yield _as_written(place, values), f"{shown} changes nothing: {rule.why}; leave it out"
    yield from _of_policies(values)


def _at(value: Any, steps: list[str]) -> Any:
    for step in steps:
        value = getattr(value, step)
    return value


def _differences(value: Any, allowed: list[Any], place: Place) -> Iterator[tuple[Place, str]]:
    """Yield the innermost paths at which *value* equals none of the *allowed* values, and the value there."""
    alike = [other for other in allowed if type(other) is type(value)]
    if is_dataclass(value) and alike:
        for field in fields(value):
            if field.name not in LABELS:
                others = [getattr(other, field.name) for other in alike]
                yield from _differences(getattr(value, field.name), others, (*place, field.name))
    elif isinstance(value, dict) and alike:
        for key, item in value.items():
            yield from _differences(item, [other[key] for other in alike if key in other], (*place, str(key)))
    elif not any(value == other for other in alike):
        yield place, _shown(value)


def _shown(value: Any) -> str:
    """Return the name of *value* in a configuration."""
    kinds = [name for name, cls in NETWORKS.items() if type(value) is cls]
    if kinds:
        return f"'{kinds[0]}'"
    name = getattr(value, "name", None) if is_dataclass(value) else repr(value)
    return name or f"a {type(value).__name__}"


def _as_written(place: Place, values: Values) -> Place:
    """Return *place* as in a configuration: synthetic routing is below trace.synth."""
    if place[0] == "trace" and _synth(values) is not None:
        return ("trace", "synth", *place[1:])
    return place


def _of_policies(values: Values) -> Iterator[tuple[Place, str]]:
    """Yield the parameters of a policy's parts that its other parts leave unread."""
    for number, policy in enumerate(values.get("policies", ())):
        for place, what in (*_of_parts(policy), *_of_copies(policy, values)):
            yield ("policies", number, *place), f"{what}; leave it out"


def _of_parts(policy: Policy) -> Iterator[tuple[Place, str]]:
    predicts, placement = not isinstance(policy.prediction, Never), policy.placement
    if not predicts and policy.caching != Lru():
        yield ("caching",), "changes nothing: without a prediction there are no copies to evict"
    computes_at_homes = [name for name in AT_HOMES if type(policy.allocation) is SEAMS["allocation"].classes[name]]
    if predicts and computes_at_homes:
        what = f"changes nothing: with allocation: {computes_at_homes[0]} no die fetches an expert that it could keep"
        yield ("prediction",), what
    near = policy.allocation.near if isinstance(policy.allocation, Algorithm1) else None
    replicates = type(placement) not in SEAMS["placement"].classes.values() or isinstance(
        placement, (*REPLICATING, LayoutFile)
    )
    if near is not None and not predicts and not replicates:
        what = f"'{near}' changes nothing: without copies or replicas the home is the only holder"
        yield ("allocation", "near"), what
    if isinstance(placement, Eplb) and placement.nodes == 1 and placement.groups != Eplb().groups:
        what = f"{placement.groups} changes nothing: groups matter where there are nodes, such as nodes: rows"
        yield ("placement", "groups"), what


def _of_copies(policy: Policy, values: Values) -> Iterator[tuple[Place, str]]:
    rules = policy.copies
    if isinstance(policy.prediction, Never):
        if rules != CopyRules():
            yield ("copies",), "changes nothing: without a prediction there are no copies"
    elif rules.serve == "all_dies" and isinstance(policy.allocation, InTurn | Chunked):
        what = "'all_dies' changes nothing: this allocation reads from homes and own copies alone"
        yield ("copies", "serve"), what
    elif rules.room == "reserve" and "wafer" in values and values["wafer"].die.hbm.reserve == 0:
        yield ("copies", "room"), "'reserve' leaves no room for copies: wafer.die.hbm.reserve is 0"
