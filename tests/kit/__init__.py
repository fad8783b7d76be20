"""Small wafers, plans and views for the tests."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from wss.cli import main
from wss.compiling import compiled
from wss.engine.layer import simulate_layer
from wss.engine.llc import Llcs
from wss.engine.specs import NETWORKS, NetworkSpec
from wss.engine.work import LayerWork, WaferNetwork
from wss.hardware import WAFERS, SwitchedSpec, Wafer, WaferSpec, build
from wss.hardware.specs import DieSpec, HbmSpec, LinkSpec, LlcSpec
from wss.memory.copies import ExpertCopies
from wss.memory.hbm import HbmBudget
from wss.policies import Caching, Costs, LayerView, PlacementView, Pool, PredictionView, Signal
from wss.policies.caching import Lru
from wss.policies.placement.basic import contiguous_homes, holders_of
from wss.policies.validation import sealed
from wss.records import LayerRun, Plan

ROOT = Path(__file__).resolve().parents[2]


def wss(*words: object) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process, which spares the imports of a new one, and return how it ended."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PYTHONSAFEPATH", "1")
        patch.setattr(sys, "argv", ["wss", *map(str, words)])
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(sys.argv, code, out.getvalue(), err.getvalue())


def in_plain_python(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call *function*; compiled functions run as plain Python, and so do all that they call."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "__call__", lambda function, *arguments: function.py_func(*arguments))
        return function(*arguments)


def shared(*parts: str) -> Path:
    """A path in the shared data, or a skip that says why."""
    base = Path(os.environ.get("WSS_SHARED", ROOT.parent / "shared"))
    path = base.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path} is absent: real traces and references are not shipped; set WSS_SHARED to their folder")
    return path


def study(folder: str, script: str) -> ModuleType:
    """A script of experiments/, imported with its folder on the path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "experiments" / folder)
        return importlib.import_module(script)


def wafer_of(
    mesh: tuple[int, int] = (5, 5),
    *,
    hbm: float = 3.35e12,
    link: float = 1.7e12,
    hop: float = 200e-9,
    start: float = 410e-9,
    flops: float = 989e12,
    hbm_size: float = 80e9,
    llc: float = 0.0,
) -> Wafer:
    """A wafer whose reads start *start* seconds after their issue, hops apart."""
    die = DieSpec(
        flops={"fp16": flops},
        hbm=HbmSpec(bandwidth=hbm, size=hbm_size, latency=start),
        llc=LlcSpec(size=llc, miss=0.0),
    )
    return build(WaferSpec(mesh=mesh, die=die, link=LinkSpec(bandwidth=link, latency=hop)))


def nodes_of(nodes: int, gpus: int, *, llc: float = 0.0) -> Wafer:
    """H100s in *nodes* of *gpus* each, whose LLCs hold *llc* bytes."""
    spec = WAFERS["h100_nvl8"]
    assert isinstance(spec, SwitchedSpec)
    die = replace(spec.die, llc=replace(spec.die.llc, size=llc))
    return build(replace(spec, nodes=nodes, gpus=gpus, die=die))


def plan_of(*tasks: tuple[int, int, int, int] | tuple[int, int, int, int, bool]) -> Plan:
    """Tasks as (expert, die, tokens, source) or (expert, die, tokens, source, copy)."""
    columns = [np.array([task[i] for task in tasks], np.int64) for i in range(4)]
    copy = np.array([len(task) > 4 and task[4] for task in tasks], np.bool_)
    return Plan(expert=columns[0], die=columns[1], tokens=columns[2], source=columns[3], copy=copy)


def simulate(
    wafer: Wafer,
    plan: Plan,
    nbytes: float,
    compute: float | list[float] | np.ndarray = 0.0,
    window: int = 2,
    network: str = "fluid",
) -> LayerRun:
    """Run one layer run; *compute* is seconds a task."""
    seconds = np.broadcast_to(np.asarray(compute, np.float64), len(plan.expert))
    return run_layer(NETWORKS[network](), wafer, plan, nbytes, seconds, window)


def run_layer(
    network: NetworkSpec, wafer: Wafer, plan: Plan, nbytes: float, seconds: np.ndarray, window: int
) -> LayerRun:
    """Run one layer run with empty LLCs over *network*."""
    work = LayerWork(layer=0, plan=plan, nbytes=nbytes, compute=seconds, window=window)
    return simulate_layer(WaferNetwork(wafer, network), Llcs(wafer.spec.die.llc, wafer.num_dies, nbytes), work)


def pool_of(
    last_use: list[int],
    uses: list[int] | None = None,
    predicted: list[float] | None = None,
    new: list[bool] | None = None,
) -> Pool:
    """Copies that one die may evict; by default all are held and used once; *predicted* is every signal of theirs."""
    none = [0] * len(last_use)
    values = np.array(predicted or none, np.float64)
    return Pool(
        signals=dict.fromkeys((Signal.EXPECTED_TOKENS, Signal.NEXT_USE), values),
        new=np.array(new or none, np.bool_),
        last_use=np.array(last_use, np.int64),
        uses=np.array(uses or [1] * len(last_use), np.int64),
    )


def shown_of(transitions: np.ndarray, plan: Plan, num_dies: int = 25) -> PredictionView:
    """What a prediction by *transitions* is shown of *plan*."""
    values = {Signal.TRANSITIONS: transitions}
    return PredictionView(signals=values, plan=plan, num_experts=len(transitions), num_dies=num_dies)


def copies_of(
    placed: np.ndarray,
    room: np.ndarray,
    nbytes: float,
    rule: Caching | None = None,
    reserve: float | None = None,
    capacity: float | None = None,
) -> ExpertCopies:
    """Copies of *nbytes* each in *room* bytes [dies] that experts *placed* [layers, experts, dies] leave."""
    rule = Lru() if rule is None else rule
    usable = room if capacity is None else capacity
    budget = HbmBudget(usable, usable - room, nbytes, reserve)
    return ExpertCopies(placed, budget, rule, rule.evict)


def placement_view(
    wafer: Wafer,
    load: np.ndarray,
    capacity: int = 10**9,
    coactivation: np.ndarray | None = None,
    **changes: object,
) -> PlacementView:
    """A view with a prefill of *load*, [layers, experts]; a layer run has as many tokens as the first layer had.

    An HBM read takes as long as 10 tokens.
    """
    none = np.zeros((*load.shape, load.shape[1]), np.int64)
    usual: dict[str, Any] = {
        "signals": {Signal.PREFILL_LOAD: load, Signal.COACTIVATION: none if coactivation is None else coactivation},
        "layers": tuple(range(len(load))),
        "num_experts": load.shape[1],
        "tokens": int(load[0].sum()),
        "capacity": capacity,
        "coordinates": wafer.coordinates,
        "hops": wafer.hops,
        "costs": Costs(hbm_read=10.0, link_read=20.0, hop=1.0, token=1.0),
    }
    return PlacementView(**(usual | changes))


def contiguous(num_experts: int, num_dies: int) -> np.ndarray:
    """The contiguous placement of one layer, [experts, dies]."""
    return holders_of(contiguous_homes(num_experts, num_dies)[None], num_dies)[0]


def view_of(wafer: Wafer, counts: np.ndarray, holders: np.ndarray, order: np.ndarray | None = None) -> LayerView:
    """A layer run on *wafer*; experts are first seen in *order*, by default that of their numbers.

    Its arrays are sealed, as in a run: so compiled policies are compiled once for both.
    """
    return LayerView(
        layer=0,
        counts=sealed(counts),
        order=sealed(np.flatnonzero(counts) if order is None else order),
        primary_die=sealed(holders.argmax(axis=1)),
        replicas=sealed(np.asarray(holders, np.int64)),
        sources=sealed(np.asarray(holders) > 0),
        hops=wafer.hops,
        routes=wafer.routes,
        costs=Costs(hbm_read=26e-6, link_read=52e-6, hop=0.4e-6, token=0.09e-6),
    )
