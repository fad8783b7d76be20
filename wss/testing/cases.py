"""Test cases for policies: healthy and damaged wafers, and layer runs with edge cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Literal

import numpy as np

from wss import hardware
from wss.config import Experiment
from wss.hardware import WAFERS as PRESETS
from wss.hardware import FaultSpec, Wafer
from wss.models import ModelShape
from wss.policies import Placement, PlacementView, Policy
from wss.records import IntArray
from wss.serving.routing_stream import RoutingStream
from wss.serving.scheduler import Schedule
from wss.traces import RecordedRouting, RequestRouting
from wss.traces.synthetic.spec import SynthSpec
from wss.traces.transitions import RoutingCounts
from wss.workload.request import fixed_batch

BATCH = 2048
Engine = Literal["auto", "simpy", "compiled"]

# The wafers: a preset, changes to it, and its faults.
_DAMAGE = FaultSpec(dies=((0, 0), (2, 2)), links=(((3, 3), (4, 3)),))
_WAFERS: dict[str, tuple[str, dict[str, object], FaultSpec | None]] = {
    "5x5": ("dojo", {}, None),
    "3x8": ("tsmc_sow", {}, None),
    "8x8": ("dojo", {"mesh": (8, 8)}, None),
    "5x5 damaged": ("dojo", {}, _DAMAGE),
    "a die alone": ("dojo", {"mesh": (1, 1)}, None),
    "8 GPUs on NVLink": ("h100_nvl8", {}, None),
}
WAFERS = tuple(_WAFERS)


@cache
def wafer_of(name: str) -> Wafer:
    """Return the wafer *name* of `WAFERS`."""
    preset, changes, faults = _WAFERS[name]
    return hardware.build(replace(PRESETS[preset], **changes), faults)  # type: ignore[arg-type]


def model_of(num_experts: int) -> ModelShape:
    """Return a model of three MoE layers with experts of 12.6 MB in FP16."""
    return ModelShape(
        name=f"{num_experts} experts",
        num_layers=4,
        moe_layers=(1, 2, 3),
        num_experts=num_experts,
        top_k=1 if num_experts < 50 else 2,
        hidden_size=1024,
        moe_intermediate_size=2048,
    )


def with_room(wafer: Wafer, model: ModelShape, extra: int | None) -> Wafer:
    """Return *wafer* with HBM for an even share of all layers and *extra* experts per die; None for no change.

    The buffers of a whole layer run fit beside them.
    """
    if extra is None:
        return wafer
    experts = len(model.moe_layers) * -(-model.num_experts // wafer.num_dies) + extra
    usable = experts * model.expert_bytes("fp16") + BATCH * model.top_k * model.activation_bytes
    hbm = wafer.spec.die.hbm
    hbm = replace(hbm, size=usable / (1 - hbm.reserve) * (1 + 1e-9))
    return replace(wafer, spec=replace(wafer.spec, die=replace(wafer.spec.die, hbm=hbm)))


def experiment_of(policy: Policy, wafer: Wafer, model: ModelShape, engine: Engine) -> Experiment:
    """Return the experiment in which *policy* is tried; it runs the first and the last layer."""
    return Experiment(
        model=model,
        wafer=wafer.spec,
        trace=SynthSpec(requests=8, prompt_max=8),  # gives only the co-activations; layer runs are `stream_of`
        batch=BATCH,
        steps=len(STEPS) - 1,
        layers=(model.moe_layers[0], model.moe_layers[-1]),
        engine=engine,
        policies=(policy,),
        baseline=policy.name,
    )


@dataclass(frozen=True)
class Step:
    """One step of the trial: its label, the number of requests with a token, and the expert of each token.

    *expert* takes the index of each request, [requests], the number of experts, and a random generator.
    """

    label: str
    requests: int
    expert: Callable[[IntArray, int, np.random.Generator], IntArray]


def _skewed(request: IntArray, experts: int, draws: np.random.Generator) -> IntArray:
    """Draw experts from Zipf's law, with the popular ones at random indices."""
    popular: IntArray = draws.permutation(experts)
    return popular[draws.zipf(1.4, len(request)) % experts]


STEPS = (
    Step("prefill", BATCH, _skewed),
    Step("as many tokens for each expert", BATCH, lambda request, experts, _: request % experts),
    Step("one hot expert", BATCH, lambda request, experts, _: np.where(request < experts, request, experts // 2)),
    Step("skewed counts", BATCH, _skewed),
    Step("one expert with all tokens", BATCH, lambda request, experts, _: request * 0 + experts - 1),
    Step("every other expert without tokens", BATCH, lambda request, experts, _: 2 * request % (experts + experts % 2)),
    Step("skewed counts again", BATCH, _skewed),
    Step("few tokens", 9, lambda request, experts, draws: draws.integers(0, experts, len(request))),
    Step("a single token", 1, lambda request, experts, _: request * 0 + experts // 3),
)


@cache
def _requests(num_experts: int, *, prefill: bool) -> list[RequestRouting]:
    """Return the requests with the layer runs of `STEPS`; the layers are drawn independently."""
    model, draws = model_of(num_experts), np.random.default_rng(num_experts)
    steps = STEPS if prefill else STEPS[1:]
    experts = np.empty((BATCH, len(steps), len(model.moe_layers), model.top_k), np.int16)
    request = np.arange(BATCH)
    for at, step in enumerate(steps):
        for layer in range(len(model.moe_layers)):
            first = step.expert(request, num_experts, draws)
            experts[:, at, layer] = (first[:, None] + 2 * np.arange(model.top_k)) % num_experts
    lengths = [sum(number < step.requests for step in steps) for number in range(BATCH)]
    return [
        RequestRouting(
            request=number,
            position=np.arange(length, dtype=np.int32),
            num_prefill=int(prefill),
            experts=experts[number, :length],
        )
        for number, length in enumerate(lengths)
    ]


@cache
def stream_of(num_experts: int, *, prefill: bool = True) -> RoutingStream:
    """Return the layer runs of the trial: those of `STEPS`, with or without the prefill, which is the first."""
    requests = _requests(num_experts, prefill=prefill)
    lengths = [request.num_prefill for request in requests], [request.num_decode for request in requests]
    schedule = Schedule("static", fixed_batch(*lengths, BATCH), BATCH, len(STEPS) - 1)
    layers = (0, len(model_of(num_experts).moe_layers) - 1)
    counts = partial(RoutingCounts, len(layers), num_experts, transitions=True, layer_transitions=True)
    source = RecordedRouting(requests, schedule.computed, layers, num_experts)
    return RoutingStream(schedule, source, counts, num_experts)


@dataclass(frozen=True, kw_only=True)
class Scattered(Placement):
    """Every expert on die e mod D and on random others, with up to three replicas per die: covers all layouts."""

    def place(self, view: PlacementView) -> IntArray:
        """Return the replicas, [layers, experts, dies]."""
        experts, dies = view.num_experts, view.num_dies
        placed = np.tile(np.arange(experts)[:, None] % dies == np.arange(dies), (view.num_layers, 1, 1))
        draws = np.random.default_rng(experts)
        extra = draws.random(placed.shape) < 0.1
        replicas: IntArray = (placed | extra).astype(np.int64)
        return replicas * draws.integers(1, 4, replicas.shape)
