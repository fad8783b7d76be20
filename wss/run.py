"""The whole walk: one experiment in, one result out. The only place where all parts meet."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from wss import __version__, hardware
from wss.config import Experiment, TraceFile
from wss.engine import NETWORKS, NetworkModel, simulate_kernel
from wss.errors import CapacityError, ConfigError, TraceError
from wss.hardware import GEMMS, Wafer
from wss.metrics import Ledger, summarise
from wss.models.shape import BYTES_PER_WEIGHT
from wss.policies import Copies, Costs, KernelView, Policy
from wss.records import BoolArray, FloatArray, Plan
from wss.traces import Kernel, Replay, RequestRouting, TraceMeta, TraceReader
from wss.traces.synth import synth_meta, synthesise

Progress = Callable[[str, int, int], None]


def _quiet(what: str, done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """What a run found: the summary as it is written, and the ledgers behind it, by policy name."""

    summary: dict[str, Any]
    ledgers: tuple[Ledger, ...]
    wafer: Wafer
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class _Batch:
    """The requests that decode together."""

    meta: TraceMeta
    digest: str | None
    requests: list[RequestRouting]
    steps: int
    notes: tuple[str, ...]


def run(experiment: Experiment, progress: Progress = _quiet) -> Result:
    """Run *experiment*.

    Raises
    ------
    CapacityError
        If the weights do not fit the wafer.
    TraceError, ConfigError
        If the trace cannot be read, does not fit the model, or is shorter than the experiment.
    """
    started, wall, cpu = datetime.now(UTC), time.perf_counter(), time.process_time()
    wafer = hardware.build(experiment.wafer)
    policies = sorted(experiment.policies, key=lambda policy: policy.name)
    sites = [_Site(experiment, wafer, policy) for policy in policies]
    batch = _open_batch(experiment, progress)
    replay = Replay(
        batch.requests, experiment.batch, batch.steps, _layer_indices(experiment), experiment.model.num_experts
    )
    total = (batch.steps + replay.has_prefill) * len(replay.layers) * len(sites)
    done = 0
    for kernel in replay.kernels():
        for site in sites:
            site.run(kernel)
            done += 1
            progress("simulating", done, total)

    times = {"start": started.isoformat(), "wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    notes = batch.notes if replay.has_prefill else (*batch.notes, "the trace has no prefill: heatmaps start empty")
    summary = _summary(experiment, batch, replay, [site.ledger for site in sites], wafer, notes, times)
    return Result(summary=summary, ledgers=tuple(site.ledger for site in sites), wafer=wafer, notes=notes)


class _Site:
    """One policy at work on the wafer: its copies, its network, its ledger."""

    def __init__(self, experiment: Experiment, wafer: Wafer, policy: Policy) -> None:
        model, precision = experiment.model, experiment.precision
        self._policy, self._wafer, self._window = policy, wafer, experiment.window
        self._layers = experiment.layers_run
        self._bytes = model.expert_bytes(precision)
        self._peak = experiment.wafer.die.flops[precision]
        self._flop = model.flop_per_token
        self._gemm = GEMMS[experiment.gemm]
        self._network: NetworkModel = NETWORKS[experiment.network](wafer)
        placed = policy.placement.place(len(model.moe_layers), model.num_experts, wafer.hops)
        room = _room(placed, experiment, wafer)
        kept = placed[list(_layer_indices(experiment))]
        self._home = kept.argmax(axis=2)
        self._copies = Copies(kept, room, self._bytes, policy.caching)
        link = experiment.wafer.link
        self._costs = Costs(
            hbm_read=self._bytes / experiment.wafer.die.hbm.bandwidth,
            link_read=self._bytes / link.bandwidth,
            hop=2 * link.latency,
            token=self._flop / self._peak,
        )
        self.ledger = Ledger(policy.name, model, wafer, precision)

    def run(self, kernel: Kernel) -> None:
        """Plan the kernel, decide what to copy, simulate it, and enter it in the ledger."""
        view = KernelView(
            layer=kernel.layer,
            counts=_sealed(kernel.counts),
            order=_sealed(kernel.order),
            home=_sealed(self._home[kernel.layer]),
            holders=_sealed(self._copies.holders(kernel.layer)),
            hops=self._wafer.hops,
            costs=self._costs,
        )
        plan = self._policy.allocation.allocate(view)
        check_plan(plan, view, self._policy.name)
        wanted = self._policy.prediction.wanted(_sealed(kernel.heat), plan) & plan.remote
        before = self._copies.evictions
        plan = Plan(
            expert=plan.expert,
            die=plan.die,
            tokens=plan.tokens,
            source=plan.source,
            copy=self._copies.admit(kernel.layer, plan, wanted),
        )
        compute = self._gemm(plan.tokens.astype(np.float64), self._flop, self._peak)
        outcome = simulate_kernel(self._network, self._wafer.num_dies, plan, self._bytes, compute, self._window)
        evicted = self._copies.evictions - before
        self.ledger.enter(kernel.step, self._layers[kernel.layer], kernel.counts, plan, compute, outcome, evicted)


def _sealed(array: Any) -> Any:
    """Return a view of *array* that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view


def check_plan(plan: Plan, view: KernelView, policy: str) -> None:
    """Check that a plan computes every token once, on dies that exist, from dies that hold the weights.

    Raises
    ------
    ConfigError
        If not; a user's own policy can be at fault.
    """
    faults = []
    dies = (plan.die >= 0) & (plan.die < view.num_dies) & (plan.source >= 0) & (plan.source < view.num_dies)
    if not dies.all():
        faults.append(f"uses dies that do not exist; there are 0..{view.num_dies - 1}")
    elif not view.holders[plan.expert, plan.source].all():
        faults.append("reads an expert from a die that does not hold it; use view.holders")
    if (plan.tokens <= 0).any():
        faults.append("has a task without tokens; leave it out")
    if not np.array_equal(np.bincount(plan.expert, plan.tokens, len(view.counts)).astype(np.int64), view.counts):
        faults.append("does not compute every token once; hand out view.counts")
    if len(np.unique(plan.expert * view.num_dies + plan.die)) != len(plan.expert):
        faults.append("has an (expert, die) twice; merge the tasks")
    if faults:
        raise ConfigError(*(f"policy {policy}: its plan of layer {view.layer} {fault}" for fault in faults))


def _room(placed: BoolArray, experiment: Experiment, wafer: Wafer) -> FloatArray:
    """Return the bytes each die has left for copies, [dies]; placed experts of all layers count, run or not."""
    expert_bytes = experiment.model.expert_bytes(experiment.precision)
    need = placed.sum(axis=(0, 1)) * expert_bytes
    room: FloatArray = wafer.usable_hbm - need
    if (room >= 0).all():
        return room
    total, usable = float(need.sum()), wafer.num_dies * wafer.usable_hbm
    short = float(-room.min())
    fitting = [
        name
        for name in experiment.wafer.die.flops
        if need.max() * experiment.model.expert_bytes(name) / expert_bytes <= wafer.usable_hbm  # type: ignore[arg-type]
    ]
    advice = f"precision {' or '.join(fitting)} fits" if fitting else "no precision of this die fits"
    dies = int(np.ceil(total / wafer.usable_hbm))
    raise CapacityError(
        f"{experiment.model.name} in {experiment.precision} does not fit {experiment.wafer.name}: its routed experts are "
        f"{total:.0f} bytes ({BYTES_PER_WEIGHT[experiment.precision]:g} B a weight), usable HBM is {usable:.0f} bytes, "
        f"short by {max(total - usable, 0):.0f} bytes in all and {short:.0f} bytes on the fullest die; {advice}, "
        f"or at least {dies} such dies"
    )


def _layer_indices(experiment: Experiment) -> tuple[int, ...]:
    """Return the places, among all MoE layers, of those that are run."""
    place = {layer: i for i, layer in enumerate(experiment.model.moe_layers)}
    return tuple(place[layer] for layer in experiment.layers_run)


def _open_batch(experiment: Experiment, progress: Progress) -> _Batch:
    """Read or make the requests of the batch, no more of them than it needs."""
    if isinstance(experiment.trace, TraceFile):
        return _read_batch(experiment, experiment.trace)
    spec = experiment.trace
    steps = spec.decode_tokens if experiment.steps == "all" else experiment.steps
    if steps > spec.decode_tokens:
        raise ConfigError(f"steps: {steps} are more than the synthetic trace has; give at most {spec.decode_tokens} or set trace.synth.decode_tokens")
    count = min(experiment.batch, spec.requests)
    requests = []
    for request in synthesise(spec, experiment.model, experiment.seed, requests=count, decode_tokens=steps):
        requests.append(request)
        progress("making the synthetic trace", len(requests), count)
    meta = synth_meta(spec, experiment.model, experiment.seed, count)
    notes = ["the routing is synthetic: made up from named parameters, not recorded"]
    return _Batch(meta=meta, digest=None, requests=requests, steps=steps, notes=(*notes, *_repeats(experiment, count)))


def _read_batch(experiment: Experiment, source: TraceFile) -> _Batch:
    with TraceReader(Path(source.path)) as reader:
        notes = _fit(experiment, reader)
        ids = reader.request_ids().tolist()
        if source.order == "string":
            ids.sort(key=str)
        chosen = ids[: experiment.batch]
        by_id = {request.request: request for request in reader.requests(set(chosen), len(chosen))}
        requests = [by_id[number] for number in chosen]
        longest = max(request.num_decode for request in requests)
        if longest == 0:
            raise TraceError(f"{source.path}: its first {len(requests)} requests have no decode tokens; decode is what is simulated")
        if experiment.steps != "all" and experiment.steps > longest:
            raise ConfigError(f"steps: {experiment.steps} are more than the longest request of {source.path} decodes; give at most {longest}")
        if reader.meta.synthetic:
            notes.append("the routing is synthetic: made up from named parameters, not recorded")
        return _Batch(
            meta=reader.meta,
            digest=reader.digest(),
            requests=requests,
            steps=longest if experiment.steps == "all" else experiment.steps,
            notes=(*notes, *_repeats(experiment, len(requests))),
        )


def _fit(experiment: Experiment, reader: TraceReader) -> list[str]:
    """Check that the trace is of the model's shape; return a warning if it is of another model's name."""
    meta, model = reader.meta, experiment.model
    faults = [
        f"{reader.path}: has {key} {_short(getattr(meta, key))}, the model {model.name} has {_short(getattr(model, key))}; "
        "give a trace of this model"
        for key in ("num_experts", "top_k", "moe_layers")
        if getattr(meta, key) != getattr(model, key)
    ]
    if faults:
        raise TraceError(*faults)
    return [] if meta.model == model.name else [f"the trace is of {meta.model}, the model is {model.name}; their shapes agree"]


def _short(value: Any) -> str:
    return f"{len(value)} layers in {value[0]}..{value[-1]}" if isinstance(value, tuple) else str(value)


def _repeats(experiment: Experiment, unique: int) -> list[str]:
    if unique >= experiment.batch:
        return []
    return [f"the batch of {experiment.batch} repeats the {unique} requests of the trace cyclically"]


def _summary(
    experiment: Experiment,
    batch: _Batch,
    replay: Replay,
    ledgers: list[Ledger],
    wafer: Wafer,
    notes: tuple[str, ...],
    times: dict[str, Any],
) -> dict[str, Any]:
    """Put together summary.json."""
    all_layers = experiment.layers_run == experiment.model.moe_layers
    tokens = sum(replay.tokens(step) for step in range(1, batch.steps + 1)) if all_layers else None
    figures = {ledger.policy: summarise(ledger, wafer, tokens) for ledger in ledgers}
    baseline = figures[experiment.baseline]["decode_time_s"]
    common = {
        "model": experiment.model.name,
        "wafer": experiment.wafer.name,
        "network": experiment.network,
        "gemm": experiment.gemm,
        "precision": experiment.precision,
        "synthetic": batch.meta.synthetic,
        "batch": experiment.batch,
        "unique_requests": len(batch.requests),
        "layers_run": len(replay.layers),
        "steps_run": batch.steps,
        "baseline": experiment.baseline,
    }
    runs = [{"policy": name, **common, "speedup": baseline / f["decode_time_s"], **f} for name, f in figures.items()]
    packages = ("networkx", "numba", "numpy", "pyarrow", "simpy")
    return {
        "schema": "wss-summary/1",
        "provenance": {
            "version": __version__,
            "config": experiment.plain(),
            "seed": experiment.seed,
            "trace": {
                "sha256": batch.digest,
                "model": batch.meta.model,
                "source": batch.meta.source,
                "note": batch.meta.note,
            },
            "notes": list(notes),
            "host": {
                "python": platform.python_version(),
                "platform": platform.platform(),
                "packages": {name: version(name) for name in packages},
            },
            "times": times,
        },
        "runs": runs,
    }
