"""CPU milliseconds per MoE layer run of every engine, beside plain SimPy in the same run and the paper's own simulator.

    python benchmarks/layer runs.py [POLICY ...]

The experiment is the one of the shared reference: Llama-4 Maverick on 5 x 5 dies, 235 real requests, prefill and 15
steps of 24 layers (found through WSS_SHARED or ../shared; else a synthetic trace of the same size). `run` is the whole
run, trace and planning included; `layer_run` is the engine alone. Both are second runs: what is compiled is so already.
Plain SimPy is a textbook model of the same layer runs: a process for each slice of a task, a `Resource` for each unit
and edge. The last column is the published simulator on another machine, from reference/artifact.json. Compare ratios,
not milliseconds: machines differ, and this one may be busy.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import simpy

import wss.engine.paper.layer
import wss.serving.moe_layer
from wss.config import load
from wss.engine.paper.machine import MISS, REQUEST_BYTES, SLICES, STORE, Machine
from wss.execution import run
from wss.traces import TraceReader, write_trace

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("WSS_SHARED", ROOT.parent / "shared"))
POLICIES = ("base", "ep", "pred", "allo", "allo_pred")
EVERY = 8  # plain SimPy runs each eighth layer run
ENGINES = {  # settings, and the function that runs a layer run
    "paper compiled": (
        ["physics=paper", "engine=compiled"],
        (wss.engine.paper.layer, "compiled_paper_layer"),
    ),
    "paper python": (["physics=paper", "engine=simpy"], (wss.engine.paper.layer, "_in_python")),
    "fluid compiled": (["network=fluid", "engine=compiled"], (wss.serving.moe_layer, "compiled_layer")),
    "fluid simpy": (["network=fluid", "engine=simpy"], (wss.serving.moe_layer, "simulate_layer")),
}
PaperRun = tuple[Machine, np.ndarray, np.ndarray]  # tasks, and which slices are read remotely


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


@contextmanager
def watched(module: object, name: str, see: Callable[..., None]):
    """Time every call of a module's function: *see* is told the CPU seconds, the arguments and the result."""
    plain = getattr(module, name)

    def timed(*arguments):
        started = time.process_time()
        result = plain(*arguments)
        see(time.process_time() - started, arguments, result)
        return result

    setattr(module, name, timed)
    yield
    setattr(module, name, plain)


def slice_of_task(env: simpy.Environment, units: list[simpy.Resource], machine: Machine, task, remote: bool):
    """Read and compute one slice: look-up, DRAM (over the links both ways if *remote*), compute, store."""
    expert, die, compute_ns, read_ns = task
    dies, home = machine.num_dies, machine.home[expert]

    def held(resources, duration):
        """Hold *resources* together, taken in the order of their numbers, so that nobody waits in a circle."""
        taken = []
        for r in sorted(resources):
            request = units[r].request()
            yield request
            taken.append((r, request))
        yield env.timeout(duration)
        for r, request in taken:
            units[r].release(request)

    yield from held([2 * dies + die], MISS)
    if remote:
        there, back = machine.routes[die][home], machine.routes[home][die]
        yield from held(there, machine.link_ns(len(there), REQUEST_BYTES))
        yield from held([dies + home], machine.slice_ns)
        env.process(held([2 * dies + home], STORE))
        yield from held(back, machine.link_ns(len(back), machine.slice_bytes))
    else:
        yield from held([dies + die], read_ns)
        env.process(held([2 * dies + die], STORE))
    yield from held([die], compute_ns)


def with_simpy(machine: Machine, tasks: np.ndarray, remote_slices: np.ndarray) -> int:
    """Return the time of a layer run as plain SimPy has it."""
    env = simpy.Environment()
    units = [simpy.Resource(env) for _ in range(machine.num_resources)]
    _, read, compute = machine.costs(tasks[:, 2])
    columns = np.column_stack((tasks[:, :2], compute, read)).tolist()
    for task, slices in zip(columns, remote_slices.tolist(), strict=True):
        for part in range(SLICES):
            env.process(slice_of_task(env, units, machine, task, part < slices))
    env.run()
    return int(env.now)


def measured(policy: str, trace: list[str], engine: str) -> tuple[float, float, list[PaperRun]]:
    """Return ms per layer run, of the whole run and of the engine, and the layer runs of the artifact."""
    settings, function = ENGINES[engine]
    settings = [*settings, *trace, "batch=235", "steps=15", f"policies=[{policy}]", f"baseline={policy}"]
    layer_runs: list[PaperRun] = []
    for _ in range(2):
        inside = []
        layer_runs.clear()

        def see(seconds, arguments, result, inside=inside):
            inside.append(seconds)
            if engine == "paper compiled":
                layer_runs.append((arguments[0], arguments[3], result.remote_slices))

        with watched(*function, see):
            started = time.process_time()
            run(load(ROOT / "configs" / "llama4_maverick.yaml", settings))
            whole = time.process_time() - started
    return 1e3 * whole / len(inside), 1e3 * sum(inside) / len(inside), layer_runs


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
        print("CPU ms a layer run                  run   layer run   x plain SimPy   x published (its run)")
        for policy in policies or POLICIES:
            trace = [f"trace.path={file}"] if is_real else []
            plain, known = 0.0, theirs.get(policy, float("nan"))
            for engine in ENGINES:
                whole, inside, layer_runs = measured(policy, trace, engine)
                if layer_runs:
                    some = layer_runs[::EVERY]
                    started = time.process_time()
                    for layer_run in some:
                        with_simpy(*layer_run)
                    plain = 1e3 * (time.process_time() - started) / len(some)
                    print(f"{policy:10} {'plain SimPy':18} {'':>8} {plain:8.2f} {1:15.1f}")
                ratios = f"{plain / inside:15.1f} {known / whole:13.1f} ({known:.1f} ms)"
                print(f"{policy:10} {engine:18} {whole:8.3f} {inside:8.3f} {ratios}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
