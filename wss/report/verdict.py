"""The closing sentences of a run's table: which policy is fastest, by how much, and what limits the others.

A policy loses time against the lower bound of its own placement in four ways, each a share of its decode time: dies
wait for the slowest one; layers wait for plans or for migrations; the rest is waiting for reads. Dispatch and combine
are a fifth share, part of which is in the bound. The largest of them is what is said to limit the policy.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from wss.report.policy_result import PolicyResult
from wss.report.words import joined
from wss.units import show

Runs = Mapping[str, PolicyResult]

TIE = 1.01  # times within this factor count as equal
SMALL = 0.05  # a smaller loss limits nothing; with a smaller share of remote reads, reads count as local


def fastest(times: Mapping[str, float], oracles: Collection[str]) -> list[str]:
    """Return the fastest policy that is no oracle, and those within `TIE` of it, fastest first.

    *times* is the decode time of each policy, s. The list is empty if all are oracles.
    """
    ranked = sorted((name for name in times if name not in oracles), key=lambda name: times[name])
    return [name for name in ranked if times[name] <= TIE * times[ranked[0]]]


def marks(times: Mapping[str, float], oracles: Collection[str]) -> list[str]:
    """Return the policies that tables mark as `fastest`: none if there is only one that is no oracle."""
    return fastest(times, oracles) if len(set(times) - set(oracles)) > 1 else []


def verdict(runs: Runs, oracles: Collection[str] = ()) -> str:
    """Return the sentences; *oracles* are the names of those policies that no system can run."""
    times = {name: float(run.figures["decode_time_s"].value) for name, run in runs.items()}
    if len(runs) == 1:
        ((name, run),) = runs.items()
        step = show(run.figures["step_time_mean_s"].value, "time")
        limit = _limits(runs, [name]).replace(name, "It", 1)
        return f"{name}{_mark(name, oracles)} takes {step} a decode step. {limit}"
    winners = fastest(times, oracles) or fastest(times, ())
    ranked = [name for name in sorted(times, key=lambda name: times[name]) if name not in winners]
    others = [name for name in ranked if name not in oracles or winners[0] in oracles]
    compared = _compared(runs, winners, others)
    said = [_lead(runs, winners, others, compared)]
    if winners[0] in oracles:
        said[0] = f"All policies are oracles. {said[0]}"
    said += _uncertain(runs, winners[0], compared)
    ahead = [name for name in ranked if name in oracles and times[name] < times[winners[0]]]
    if ahead and winners[0] not in oracles:
        said.append(f"The oracle {ahead[0]} is {times[winners[0]] / times[ahead[0]]:.2f}x {winners[0]}.")
    said.append(_limits(runs, [name for name in runs if name in (others or winners)]))
    return " ".join(said)


def _mark(name: str, oracles: Collection[str]) -> str:
    return ", an oracle," if name in oracles else ""


def _compared(runs: Runs, winners: Sequence[str], others: Sequence[str]) -> list[str]:
    """Return the policies that the fastest is compared with: the baseline, and the next fastest."""
    baseline = runs[winners[0]].figures["baseline"].value
    first = [] if baseline in winners or baseline not in runs else [baseline]
    return list(dict.fromkeys([*first, *others[:1]]))


def _lead(runs: Runs, winners: Sequence[str], others: Sequence[str], compared: Sequence[str]) -> str:
    """Return who is fastest, and by how much."""
    best = winners[0]
    if not others and len(winners) == 1:
        return f"{best} is the only policy that is not an oracle."
    if not others:
        return f"{joined(winners)} are equally fast, within 1%."
    lead = f"{best} is fastest"
    if len(winners) > 1:
        lead = f"{joined(winners)} are fastest, within 1% of each other"
    ratios = [f"{_ratio(runs, best, other):.2f}x {other}" for other in compared]
    return f"{lead}: {best + ' is ' if len(winners) > 1 else ''}{', '.join(ratios)}."


def _ratio(runs: Runs, best: str, other: str) -> float:
    """Return how many times as fast as *other* the policy *best* is."""
    figures = runs[best].figures
    if other == figures["baseline"].value:
        return float(figures["speedup"].value)
    return float(runs[other].figures["decode_time_s"].value / figures["decode_time_s"].value)


def _uncertain(runs: Runs, best: str, compared: Sequence[str]) -> list[str]:
    """Return a sentence if intervals of speedups overlap, so that another draw might give another order."""
    low, overlapping = runs[best].figures["speedup"].low, []
    for other in compared:
        speedup = runs[other].figures["speedup"]
        high = speedup.value if speedup.high is None else speedup.high
        if low is not None and low <= high:
            overlapping.append(other)
    if not overlapping:
        return []
    return [f"The 95% intervals of {best} and {joined(overlapping)} overlap, so their order is uncertain."]


def _limits(runs: Runs, names: Sequence[str]) -> str:
    """Return what limits each policy of *names*, those with the same limit together."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_limit(runs[name]), []).append(name)
    text = "; ".join(_clause(runs, limit, own) for limit, own in groups.items())
    return f"{text}."


def _value(run: PolicyResult, name: str) -> float:
    """Return a figure of *run*; 0 if it has none."""
    own = run.figures.get(name)
    return 0.0 if own is None or own.value is None else float(own.value)


def _limit(run: PolicyResult) -> str:
    """Return what costs the policy most of its time beyond the lower bound."""
    time, finished = _value(run, "decode_time_s"), 1 / _value(run, "imbalance")
    waits = {
        "planning": _value(run, "planning_time_s") / time,
        "migration": _value(run, "rebalance_time_s") / time,
        "overhead": _value(run, "overhead_time_s") / time,
    }
    bound = 1 / _value(run, "bound_ratio") if _value(run, "bound_ratio") else finished
    losses = {
        "reads": finished - bound - sum(waits.values()),
        "slowest": 1 - finished,
        "exchange": _value(run, "exchange_share"),
        **waits,
    }
    worst = max(losses, key=lambda limit: losses[limit])
    if losses[worst] < SMALL:
        return "bound"
    return ("remote" if _remote_share(run) >= SMALL else "local") if worst == "reads" else worst


def _remote_share(run: PolicyResult) -> float:
    """Return the share of the bytes of weights read that come from other dies."""
    remote = _value(run, "remote_read_bytes")
    return remote / (remote + _value(run, "local_read_bytes")) if remote else 0.0


def _clause(runs: Runs, limit: str, names: Sequence[str]) -> str:
    """Return what limits the policies *names*, which have one limit, with the figure that shows it."""
    own, their = [runs[name] for name in names], "its" if len(names) == 1 else "their"
    wait, spend, be = ("waits", "spends", "is") if len(names) == 1 else ("wait", "spend", "are")

    def span(figure: str, form: str, less: float = 0.0) -> str:
        return _span([_value(run, figure) - less for run in own], form)

    def share(figure: str) -> str:
        return _span([_value(run, figure) / _value(run, "decode_time_s") for run in own], "{:.0%}")

    said = {
        "remote": lambda: (
            f"{wait} for remote reads over {_medium(own)} (busiest link {span('max_link_utilization', '{:.0%}')})"
        ),
        "local": lambda: (
            f"{wait} for reads from {their} own HBM ({span('bound_ratio', '{:.2f}x')} {their} lower bound)"
        ),
        "slowest": lambda: f"{wait} for {their} slowest die ({span('imbalance', '{:.2f}x')} the average)",
        "exchange": lambda: f"{spend} {span('exchange_share', '{:.0%}')} of {their} time in dispatch and combine",
        "planning": lambda: f"{wait} for plans {share('planning_time_s')} of {their} time",
        "overhead": lambda: (
            f"{spend} {share('overhead_time_s')} of {their} time in small kernels around {their} experts"
        ),
        "migration": lambda: f"{wait} for migrations {share('rebalance_time_s')} of {their} time",
        "bound": lambda: f"{be} {span('bound_ratio', '{:.0%}', 1.0)} above {their} lower bound, set by HBM and compute",
    }
    return f"{joined(names)} {said[limit]()}"


def _span(values: Sequence[float], form: str) -> str:
    """Return *values* as one number, or as the least and the greatest."""
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} to {high}"


def _medium(runs: Sequence[PolicyResult]) -> str:
    """Return what the busiest links are, in the words of the field."""
    if not runs[0].wafer.switches:
        return "D2D links"
    names: list[Any] = [run.figures["busiest_link"].value for run in runs]
    if all(name and "switch" in name for name in names):
        return "NVLink"
    if all(name and ("nic" in name or "fabric" in name) for name in names):
        return "InfiniBand"
    return "the links between GPUs"
