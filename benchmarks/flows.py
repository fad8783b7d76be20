"""Flows per CPU-second of the three networks of `wss flows`, beside a plain SimPy network in the same run.

    python benchmarks/flows.py SCENARIO.json ...

The plain one is what one writes first with SimPy: a process for each chunk, a `Resource` of capacity 1 for each link,
1 MB chunks. Compare ratios, not seconds: machines differ, and this one may be busy.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simpy

from wss.run.flows import Scenario, read_scenario, run_flows

CHUNK = 1e6


def plain_simpy(scenario: Scenario) -> np.ndarray:
    """Return when each flow ends, chunks queueing first come, first served at SimPy resources."""
    env = simpy.Environment()
    links = [simpy.Resource(env) for _ in scenario.links]
    finish = scenario.start.copy()

    def carry(f: int, nbytes: float):
        yield env.timeout(scenario.start[f])
        for link in scenario.paths[f, : scenario.lengths[f]]:
            with links[link].request() as turn:
                yield turn
                yield env.timeout(nbytes / scenario.bandwidth)
            yield env.timeout(scenario.latency)
        finish[f] = max(finish[f], env.now)

    for f, nbytes in enumerate(scenario.nbytes):
        for first in np.arange(0, nbytes, CHUNK):
            env.process(carry(f, min(CHUNK, nbytes - first)))
    env.run()
    return finish


def flows_per_s(scenario: Scenario, act: Callable[[], object], least: float = 0.5) -> float:
    """Return flows per CPU-second of *act*, repeated for *least* CPU-seconds."""
    act()
    started, rounds = time.process_time(), 0
    while time.process_time() - started < least:
        act()
        rounds += 1
    return len(scenario.ids) * rounds / (time.process_time() - started)


def main(paths: list[str]) -> None:
    """Print a row for each scenario and network."""
    print("scenario                      network    flows per CPU-s   x plain SimPy")
    for path in paths:
        scenario = read_scenario(Path(path))
        plain = flows_per_s(scenario, lambda s=scenario: plain_simpy(s), 0.1)
        print(f"{scenario.name:28}  {'SimPy':8} {plain:17,.0f} {1:15.1f}")
        for network in ("fluid", "packet", "circuit"):
            rate = flows_per_s(scenario, lambda s=scenario, n=network: run_flows(s, n, CHUNK, 0, "full"))
            print(f"{scenario.name:28}  {network:8} {rate:17,.0f} {rate / plain:15.1f}")


if __name__ == "__main__":
    main(sys.argv[1:])
