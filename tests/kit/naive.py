"""One MoE layer run again, from docs/model/ alone: slow, plain, and nothing shared with wss/engine."""

from __future__ import annotations

import math

from wss.hardware import Wafer
from wss.records import Plan


def fair_rates(flows: dict[int, dict[str, float]], capacity: dict[str, float]) -> dict[int, float]:
    """Max-min fair rates: raise all together, stop those on a resource that is full; *flows* says who uses what."""
    rates: dict[int, float] = {}
    while len(rates) < len(flows):
        room = {}
        for name, most in capacity.items():
            growing = sum(use[name] for f, use in flows.items() if f not in rates and name in use)
            fixed = sum(use[name] * rates[f] for f, use in flows.items() if f in rates and name in use)
            if growing:
                room[name] = (most - fixed) / growing
        level = min(room.values())
        full = {name for name, share in room.items() if share <= level * (1 + 1e-9)}
        for f, use in flows.items():
            if f not in rates and full & set(use):
                rates[f] = level
    return rates


def uses(wafer: Wafer, source: int, die: int, copy: bool) -> dict[str, float]:
    """What a read uses, for each byte."""
    use = {f"hbm {source}": 1.0}
    for link in wafer.routes[source, die]:
        if link >= 0:
            use[f"link {link}"] = 1.0
    for link in wafer.routes[die, source]:
        if link >= 0:
            use[f"link {link}"] = float(wafer.link_request[link])
    if copy:
        use[f"hbm {die}"] = 1.0
    return use


def kernel_ends(wafer: Wafer, plan: Plan, nbytes: float, compute: list[float], window: int) -> list[float]:
    """When each task ends, [tasks]."""
    spec = wafer.spec
    capacity = {f"hbm {d}": spec.die.hbm.bandwidth for d in range(wafer.num_dies)}
    capacity |= {f"link {i}": float(b) for i, b in enumerate(wafer.link_bandwidth)}
    tasks = {d: [k for k in range(len(plan.die)) if plan.die[k] == d] for d in range(wafer.num_dies)}
    issued: dict[int, float] = {}
    read_done: dict[int, float] = {}
    ended: dict[int, float] = {}
    left: dict[int, float] = {}
    now = 0.0

    def joins(k: int) -> float:
        source, die = plan.source[k], plan.die[k]
        crossed = [link for route in (wafer.routes[source, die], wafer.routes[die, source]) for link in route]
        on_the_way = sum(float(wafer.link_latency[link]) for link in crossed if link >= 0)
        return issued[k] + spec.die.llc.miss + spec.die.hbm.latency + on_the_way

    def end_of(k: int) -> float:
        """When task k ends, once its read is done and the task before has ended; infinite before."""
        mine = tasks[int(plan.die[k])]
        i = mine.index(k)
        if k not in read_done or (i > 0 and mine[i - 1] not in ended):
            return math.inf
        before = ended[mine[i - 1]] if i > 0 else 0.0
        return max(read_done[k], max(issued[k], before) + compute[k])

    while len(ended) < len(plan.die):
        for mine in tasks.values():
            for i, k in enumerate(mine):
                if k not in issued and (i < window or mine[i - window] in ended):
                    issued[k] = now
        active = [k for k in issued if k not in read_done and joins(k) <= now * (1 + 1e-12)]
        for k in active:
            left.setdefault(k, nbytes)
        flows = {k: uses(wafer, int(plan.source[k]), int(plan.die[k]), bool(plan.copy[k])) for k in active}
        rates = fair_rates(flows, capacity)
        coming = [joins(k) for k in issued if k not in read_done and k not in active]
        reading = {k: now + left[k] / rates[k] for k in active}
        computing = {k: end_of(k) for k in issued if k not in ended}
        then = min([*coming, *reading.values(), *computing.values()])
        for k in active:
            left[k] -= rates[k] * (then - now)
            if reading[k] <= then * (1 + 1e-12):
                read_done[k] = then
        for k, end in computing.items():
            if end <= then * (1 + 1e-12):
                ended[k] = end
        now = then
    return [ended[k] for k in range(len(plan.die))]
