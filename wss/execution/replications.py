"""Replications: one experiment with several seeds, and one summary over all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from wss.config import Experiment
from wss.metrics.replications import over_seeds

Progress = Callable[[str, int, int], None]


def by_seed(experiment: Experiment) -> list[Experiment]:
    """Return one experiment for each of the seeds seed, seed + 1, ..., seed + replications - 1."""
    if experiment.replications == 1:
        return [experiment]
    first = experiment.seed
    return [replace(experiment, seed=first + i, replications=1) for i in range(experiment.replications)]


def part_of(progress: Progress, number: int, parts: int) -> Progress:
    """Return a callback that reports the progress of part *number* of *parts* equal parts as overall progress."""
    return lambda what, done, total: progress(what, number * total + done, parts * total)


def over_all(experiment: Experiment, summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the summary of *experiment* from those of its seeds, whose rows are kept under ``replications``."""
    about = summaries[0]["provenance"]
    seeds = [summary["provenance"]["seed"] for summary in summaries]
    every = [summary["runs"] for summary in summaries]
    times = [summary["provenance"]["times"] for summary in summaries]
    trace = dict(about["trace"])
    trace["source"] = trace["source"].replace(f", seed {seeds[0]}", f", seeds {seeds[0]} to {seeds[-1]}")
    return {
        "schema": summaries[0]["schema"],
        "provenance": {
            **about,
            "config": experiment.plain(),
            "trace": trace,
            "notes": list(dict.fromkeys(note for each in summaries for note in each["provenance"]["notes"])),
            "times": {**times[0], **{key: sum(each[key] for each in times) for key in ("wall_s", "cpu_s")}},
        },
        "replications": [{"seed": seed, "runs": runs} for seed, runs in zip(seeds, every, strict=True)],
        "runs": [over_seeds(rows) for rows in zip(*every, strict=True)],
    }
