"""CPU milliseconds per MoE layer run of every engine, beside plain SimPy in the same run and the paper's own simulator.

    python benchmarks/layer_runs.py [POLICY ...]

The experiment is the one of the shared reference: Llama-4 Maverick on 5 x 5 dies, 235 real requests, prefill and 15
steps of 24 layers (found through WSS_SHARED or ../shared; else a synthetic trace of the same size). All times are those
that a result states of its run, divided by the layer runs: `run` is the whole run, routing included, and `layer run`
what is in it for the policy's layer runs: planning, simulation and accounts. `planning` is the median of planning
alone; the paper's physics does not state it. They are those of a second run: what is compiled is so already.
(Earlier versions timed the simulation alone as `layer run`, so theirs is less, and its ratio more.)

Plain SimPy is a textbook model of the same layer runs: a process for each third of an expert that a task reads and
computes, a `Resource` for each compute unit, HBM, LLC port and link. It simulates each eighth of the plans that the
policy makes in `fluid compiled`. The last column is the published simulator on another machine, from
reference/artifact.json. Compare ratios, not milliseconds: machines differ, and this one may be busy.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import simpy

from wss.config import load
from wss.execution import run
from wss.policies import Allocation, LayerView
from wss.records import Plan
from wss.traces import TraceReader, write_trace

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("WSS_SHARED", ROOT.parent / "shared"))
CONFIG = ROOT / "configs" / "llama4_maverick.yaml"
POLICIES = ("base", "ep", "pred", "allo", "allo_pred")
EVERY = 8  # plain SimPy simulates each eighth layer run
SLICES = 3  # an expert's matrices
LOOK_UP_S, STORE_S = 110e-9, 30e-9  # at the port of an LLC
ENGINES = {
    "paper compiled": ["physics=paper", "engine=compiled"],
    "paper python": ["physics=paper", "engine=simpy"],
    "fluid compiled": ["network=fluid", "engine=compiled"],
    "fluid simpy": ["network=fluid", "engine=simpy"],
}


@dataclass(frozen=True, eq=False)
class Noted(Allocation):
    """Allocates as another policy does, and notes what it sees and plans."""

    like: Allocation
    layer_runs: list[tuple[LayerView, Plan]]

    def allocate(self, view: LayerView) -> Plan:
        """Return the other's plan."""
        plan = self.like.allocate(view)
        self.layer_runs.append((view, plan))
        return plan


def real_trace(path: Path) -> bool:
    """Write the 235 requests in the order of the reference to *path*; False if they are not here."""
    requests, meta = [], None
    for subject in ("abstract_algebra", "anatomy"):
        name = f"meta-llama__Llama-4-Maverick-17B-128E-Instruct__mmlu__{subject}.parquet"
        file = SHARED / "traces" / "parquet" / name
        if not file.exists():
            return False
        with TraceReader(file) as reader:
            requests += sorted(reader.requests(), key=lambda request: str(request.request))
            meta = reader.meta
    write_trace(path, meta, requests)
    return True


def published() -> dict[str, float]:
    """Return the paper's own simulator's ms per layer run by policy; none if the reference is not here."""
    file = SHARED / "reference" / "artifact.json"
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    return {
        r["policy"]: 1e3 * r["cpu_s"] / r["kernels"]
        for r in rows
        if r["wafer"].startswith("dojo") and r["batch"] == 235
    }


def slice_of_task(env: simpy.Environment, units: list[simpy.Resource], view: LayerView, task: Sequence[float]):
    """Read and compute a slice: look-up, HBM (requested and sent over links if it is another die's), compute."""
    die, source, compute_s, read_s = task
    dies, costs = view.num_dies, view.costs

    def held(resources: Sequence[int], duration: float):
        """Hold *resources* together, taken in the order of their numbers, so that nobody waits in a circle."""
        requests = []
        for r in sorted(resources):
            request = units[r].request()
            yield request
            requests.append((units[r], request))
        yield env.timeout(duration)
        for unit, request in requests:
            unit.release(request)

    def route(start: int, end: int) -> list[int]:
        """Return the units that are the links from die to die."""
        return [3 * dies + link for link in view.routes[start, end] if link >= 0]

    yield from held([2 * dies + die], LOOK_UP_S)
    if source != die:
        yield from held(route(die, source), costs.hop / 2 * view.hops[die, source])
    yield from held([dies + source], read_s)
    env.process(held([2 * dies + source], STORE_S))
    if source != die:
        yield from held(route(source, die), view.transfers[source, die] / SLICES)
    yield from held([die], compute_s)


def with_simpy(view: LayerView, plan: Plan) -> float:
    """Return the time of a layer run in plain SimPy, s."""
    env = simpy.Environment()
    units = [simpy.Resource(env) for _ in range(3 * view.num_dies + int(view.routes.max()) + 1)]
    read_s = view.costs.latency + view.costs.hbm_read / SLICES
    for die, source, tokens in zip(plan.die.tolist(), plan.source.tolist(), plan.tokens.tolist(), strict=True):
        task = (die, source, view.costs.token * tokens / SLICES, read_s)
        for _ in range(SLICES):
            env.process(slice_of_task(env, units, view, task))
    env.run()
    return env.now


def settings_of(policy: str, trace: list[str], engine: str) -> list[str]:
    """Return the settings of a run."""
    return [*ENGINES[engine], *trace, "batch=235", "steps=15", f"policies=[{policy}]", f"baseline={policy}"]


def plain_ms(policy: str, trace: list[str]) -> float:
    """Return ms per layer run of plain SimPy, over each eighth layer run of *policy*."""
    experiment = load(CONFIG, settings_of(policy, trace, "fluid compiled"))
    (own,), layer_runs = experiment.policies, []
    run(replace(experiment, policies=(replace(own, allocation=Noted(own.allocation, layer_runs)),)))
    some = layer_runs[::EVERY]
    started = time.process_time()
    for view, plan in some:
        with_simpy(view, plan)
    return 1e3 * (time.process_time() - started) / len(some)


def measured(policy: str, trace: list[str], engine: str) -> tuple[float, float, float | None]:
    """Return ms per layer run: of the whole run, of its layer runs, and the median of planning, if it is stated."""
    experiment = load(CONFIG, settings_of(policy, trace, engine))
    run(experiment)
    result = run(experiment)
    times, layer_runs = result.provenance["times"], len(result.ledgers[0].rows)
    planning = times["planning"][policy].get("median_cpu_s")
    return (
        1e3 * times["cpu_s"] / layer_runs,
        1e3 * times["layer_runs_cpu_s"][policy] / layer_runs,
        None if planning is None else 1e3 * planning,
    )


def main(policies: list[str]) -> None:
    """Print a row for each policy and engine."""
    unknown = set(policies) - set(POLICIES)
    if unknown:
        sys.exit(f"no policy {', '.join(sorted(unknown))}; give some of {', '.join(POLICIES)}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "t.parquet"
        is_real = real_trace(file)
        theirs = published() if is_real else {}
        print("235 real requests" if is_real else "a synthetic trace (the real requests are not here)")
        print("CPU ms a layer run                  run  layer run  planning   x plain SimPy   x published (its run)")
        for policy in policies or POLICIES:
            trace = [f"trace.path={file}"] if is_real else []
            plain, known = plain_ms(policy, trace), theirs.get(policy, float("nan"))
            print(f"{policy:10} {'plain SimPy':18} {'':>8} {plain:10.3f} {'':>9} {1:15.1f}", flush=True)
            for engine in ENGINES:
                whole, inside, planning = measured(policy, trace, engine)
                planned = "" if planning is None else f"{planning:.3f}"
                ratios = f"{plain / inside:15.1f} {known / whole:13.1f} ({known:.1f} ms)"
                print(f"{policy:10} {engine:18} {whole:8.3f} {inside:10.3f} {planned:>9} {ratios}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
