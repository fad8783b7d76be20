"""Replications: one experiment with several seeds, and one result over all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from wss.config import Experiment
from wss.execution.result import Result
from wss.metrics.replications import merged
from wss.report.policy_result import PolicyResult

Progress = Callable[[str, int, int, str], None]
"""A function of the kind of work, the units done, all units, and where the work is, such as a policy and its step."""


def by_seed(experiment: Experiment) -> list[Experiment]:
    """Return one experiment for each of the seeds seed, seed + 1, ..., seed + replications - 1."""
    if experiment.replications == 1:
        return [experiment]
    first = experiment.seed
    return [replace(experiment, seed=first + i, replications=1) for i in range(experiment.replications)]


def part_of(progress: Progress, number: int, parts: int) -> Progress:
    """Return a callback that reports the progress of part *number* of *parts* equal parts as overall progress."""
    return lambda what, done, total, where: progress(what, number * total + done, parts * total, where)


def over_all(experiment: Experiment, results: Sequence[Result]) -> Result:
    """Return the result of *experiment* from those of its seeds."""
    if len(results) == 1:
        return results[0]
    about, times = results[0].provenance, [result.provenance["times"] for result in results]
    seeds = [result.experiment.seed for result in results]
    trace = dict(about["trace"])
    trace["source"] = trace["source"].replace(f", seed {seeds[0]}", f", seeds {seeds[0]} to {seeds[-1]}")
    return Result(
        experiment=experiment,
        runs={name: _over_all([result.runs[name] for result in results]) for name in results[0].runs},
        notes=tuple(dict.fromkeys(note for result in results for note in result.notes)),
        provenance={
            **about,
            "config": experiment.plain(),
            "trace": trace,
            "times": {
                **times[0],
                **{key: sum(each[key] for each in times) for key in ("wall_s", "cpu_s", "trace_cpu_s")},
                "layer_runs_cpu_s": {
                    policy: sum(each["layer_runs_cpu_s"][policy] for each in times)
                    for policy in times[0]["layer_runs_cpu_s"]
                },
            },
        },
    )


def _over_all(results: Sequence[PolicyResult]) -> PolicyResult:
    """Return the result of one policy from its *results* with one seed each."""
    return replace(
        results[0],
        figures=merged([result.figures for result in results]),
        by_seed=tuple(result.figures for result in results),
        ledgers=tuple(ledger for result in results for ledger in result.ledgers),
    )
