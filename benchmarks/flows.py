"""Flows per CPU-second of the three networks of `wss flows`, beside ns.py in the same run.

    python -m pip install ns.py                  # for this benchmark alone
    python benchmarks/flows.py SCENARIO.json ...

ns.py is the plain SimPy implementation that one can install: a link is its `Port` (FIFO at a rate) and its `Wire`
(latency), transfers are 1 MB packets. Our packet network has the same. What is timed is the hot loop, the scenario
read before. Compare ratios, not seconds: machines differ, and this one may be busy.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import simpy
from ns.packet.packet import Packet
from ns.port.port import Port
from ns.port.wire import Wire

from wss.execution import Scenario, read_scenario, run_flows

CHUNK = 1e6


class Hop:
    """Hands a packet that has crossed a link to the next one of its route, or notes that it has arrived."""

    def __init__(self, env: simpy.Environment, ports: list[Port], scenario: Scenario, finish: np.ndarray):
        self._env, self._ports, self._scenario, self._finish = env, ports, scenario, finish

    def put(self, packet: Packet) -> None:
        f, hop = packet.flow_id, packet.prio["hop"]
        if hop == self._scenario.lengths[f]:
            self._finish[f] = max(self._finish[f], self._env.now)
        else:
            packet.prio["hop"] += 1
            self._ports[self._scenario.paths[f, hop]].put(packet)


def with_ns_py(scenario: Scenario) -> np.ndarray:
    """Return when each flow ends, its packets over ns.py's ports and wires."""
    env = simpy.Environment()
    ports = [Port(env, 8 * scenario.bandwidth) for _ in scenario.links]
    finish = scenario.start.copy()
    hop = Hop(env, ports, scenario, finish)
    for port in ports:
        port.out = Wire(env, lambda: scenario.latency)
        port.out.out = hop

    def send(start: float, packets: list[tuple[int, int]]):
        yield env.timeout(start)
        for i, f in packets:
            packet = Packet(env.now, min(CHUNK, scenario.nbytes[f] - i * CHUNK), i, flow_id=f)
            packet.prio["hop"] = 0
            hop.put(packet)

    for start in np.unique(scenario.start):
        flows = np.flatnonzero(scenario.start == start)
        packets = sorted((i, f) for f in flows.tolist() for i in range(int(np.ceil(scenario.nbytes[f] / CHUNK))))
        env.process(send(start, packets))
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
    print("scenario                      network    flows per CPU-s   x ns.py")
    for path in paths:
        scenario = read_scenario(Path(path))
        plain = flows_per_s(scenario, lambda s=scenario: with_ns_py(s), 0.1)
        ours = [flow["finish_s"] for flow in run_flows(scenario, "packet", CHUNK, 0, "full")["flows"]]
        apart = 1e6 * np.abs(ours - with_ns_py(scenario)).max()
        print(f"{scenario.name:28}  {'ns.py':8} {plain:17,.0f} {1:9.1f}   {apart:.2g} us from packet at most")
        for network in ("fluid", "packet", "circuit"):
            rate = flows_per_s(scenario, lambda s=scenario, n=network: run_flows(s, n, CHUNK, 0, "full"))
            print(f"{scenario.name:28}  {network:8} {rate:17,.0f} {rate / plain:9.1f}")


if __name__ == "__main__":
    main(sys.argv[1:])
