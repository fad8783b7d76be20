"""The result of a task, as it is written and collected."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from wss.execution import Result
from wss.metrics import Ledger
from wss.metrics.figures import plain
from wss.report.tables import link_columns, mean_columns


def outcome_of(result: Result) -> dict[str, Any]:
    """Return the outcome of a task from its *result*, which has one policy.

    Returns
    -------
    dict
        ``figures``, as in summary.json except baseline and speedup; ``seeds``, what a speedup needs of each seed
        (decode time and, if layers are sampled, the strata and the time of each layer); ``links``, columns with a value
        per link, means over seeds; ``notes``; and ``times``, the only part that depends on the host.
    """
    (run,) = result.runs.values()
    times, row = result.provenance["times"], plain(run.figures)
    for intervals in (row.get("ci95", {}), row.get("ci95_seeds", {})):
        intervals.pop("speedup", None)
    return {
        "figures": {name: value for name, value in row.items() if name not in ("policy", "speedup", "baseline")},
        "seeds": [
            {"decode_time_s": figures["decode_time_s"].value, "sampled": _sampled(ledger)}
            for figures, ledger in zip(run.by_seed, run.ledgers, strict=True)
        ],
        "links": mean_columns([link_columns(ledger, run.wafer) for ledger in run.ledgers]),
        "notes": list(result.notes),
        "times": {
            "kernels_cpu_s": times["layer_runs_cpu_s"][run.policy],
            "trace_cpu_s": times["trace_cpu_s"],
            "planning": run.planning,
        },
    }


def _sampled(ledger: Ledger) -> dict[str, Any] | None:
    """Return the strata and the time of each layer, for a speedup over another result with the same sample."""
    if ledger.sample is None:
        return None
    by_layer = {layer: 0.0 for layer in ledger.sample.layers}
    for row in ledger.decode:
        by_layer[row.layer] += row.time_s
    return {"strata": [asdict(stratum) for stratum in ledger.sample.strata], "decode_time_s": list(by_layer.values())}
