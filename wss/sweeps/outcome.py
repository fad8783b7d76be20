"""Running tasks that share their routing, and the outcome of each, as it is written and collected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from wss.config import Experiment
from wss.execution import Result, run_many
from wss.execution.replications import Progress, by_seed, part_of
from wss.metrics import Ledger
from wss.metrics.figures import Value, plain
from wss.metrics.replications import merged
from wss.report.tables import link_columns, mean_columns


def outcomes_of(experiments: Sequence[Experiment], progress: Progress) -> list[dict[str, Any]]:
    """Run *experiments*, each with one policy, as `run_many` does, and return the outcome of each.

    Returns
    -------
    list of dict
        For each experiment: ``figures``, as in summary.json except baseline and speedup; ``seeds``, what a speedup
        needs of each seed (decode time and, if layers are sampled, the strata and the time of each layer); ``links``,
        columns with a value per link, means over seeds; ``notes``; and ``times``, the only part that depends on the
        host.
    """
    parts = list(zip(*map(by_seed, experiments), strict=True))
    seeds = [
        [_seed_of(result) for result in run_many(part, part_of(progress, number, len(parts)))]
        for number, part in enumerate(parts)
    ]
    return [_over_seeds(own) for own in zip(*seeds, strict=True)]


class _Seed(NamedTuple):
    """What is kept of one policy and seed; the ledger is not, as it may be large."""

    figures: Mapping[str, Value]
    sampled: dict[str, Any] | None
    links: dict[str, list[Any]]
    notes: tuple[str, ...]
    times: dict[str, Any]


def _seed_of(result: Result) -> _Seed:
    """Return what is kept of *result*, which has one policy and one seed."""
    (run,), times = result.runs.values(), result.provenance["times"]
    (ledger,) = run.ledgers
    kept = {
        "kernels_cpu_s": times["layer_runs_cpu_s"][run.policy],
        "trace_cpu_s": times["trace_cpu_s"],
        "planning": run.planning,
    }
    return _Seed(run.figures, _sampled(ledger), link_columns(ledger, run.wafer), result.notes, kept)


def _over_seeds(seeds: Sequence[_Seed]) -> dict[str, Any]:
    """Return the outcome of one experiment from those of its seeds."""
    figures, times = merged([seed.figures for seed in seeds]), [seed.times for seed in seeds]
    kept = {name: value for name, value in figures.items() if name not in ("policy", "speedup", "baseline")}
    return {
        "figures": plain(kept),
        "seeds": [{"decode_time_s": seed.figures["decode_time_s"].value, "sampled": seed.sampled} for seed in seeds],
        "links": mean_columns([seed.links for seed in seeds]),
        "notes": list(dict.fromkeys(note for seed in seeds for note in seed.notes)),
        "times": {**times[0], **{key: sum(each[key] for each in times) for key in ("kernels_cpu_s", "trace_cpu_s")}},
    }


def _sampled(ledger: Ledger) -> dict[str, Any] | None:
    """Return the strata and the time of each layer, for a speedup over another result with the same sample."""
    if ledger.sample is None:
        return None
    by_layer = {layer: 0.0 for layer in ledger.sample.layers}
    for row in ledger.decode:
        by_layer[row.layer] += row.time_s
    return {"strata": [asdict(stratum) for stratum in ledger.sample.strata], "decode_time_s": list(by_layer.values())}
