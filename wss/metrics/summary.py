"""The figures of a run: sums, and ratios of sums, over its decode layer runs. Prefill is separate.

Nothing is extrapolated here: where layers are sampled, `by_layer` estimates the figures of all layers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from wss.hardware.wafer import Wafer
from wss.metrics.ledger import Ledger
from wss.records import FloatArray, LayerRow


def summarise(ledger: Ledger, wafer: Wafer, decode_tokens: int | None) -> dict[str, Any]:
    """Return the figures of one policy; names end in their unit.

    Parameters
    ----------
    ledger
        The policy's ledger.
    wafer
        The wafer it ran on.
    decode_tokens
        Tokens decoded, or None if not all layers were run: throughput is then unknown (None).
    """
    decode = ledger.decode
    prefill = [row for row in ledger.rows if row.phase == "prefill"]
    time = total(decode, "time_s")
    bound = total(decode, "lower_bound_s")
    step_times = np.bincount([row.step for row in decode], [row.time_s for row in decode])[1:]
    link_bytes = ledger.link_bytes
    utilization = link_bytes / (wafer.link_bandwidth * time)
    p50, p95, p99 = np.percentile(step_times, [50, 95, 99])
    return {
        "kernels": sum(row.phase == "decode" for row in decode),
        "decode_time_s": time,
        "prefill_time_s": total(prefill, "time_s"),
        "prefill_hops": int(total(prefill, "hops")),
        "step_time_mean_s": float(step_times.mean()),
        "step_time_p50_s": float(p50),
        "step_time_p95_s": float(p95),
        "step_time_p99_s": float(p99),
        "throughput_tokens_per_s": None if decode_tokens is None else decode_tokens / time,
        "remote_reads": int(total(decode, "remote_reads")),
        "hops": int(total(decode, "hops")),
        "byte_hops": total(decode, "byte_hops"),
        "link_bytes": float(link_bytes.sum()),
        "request_bytes": total(decode, "request_bytes"),
        "remote_read_bytes": total(decode, "remote_read_bytes"),
        "local_read_bytes": total(decode, "local_read_bytes"),
        "local_write_bytes": total(decode, "local_write_bytes"),
        "max_link_utilization": float(utilization.max(initial=0.0)),
        "mean_link_utilization": float(utilization.mean()) if len(utilization) else 0.0,
        "link_gini": gini(link_bytes),
        "busiest_link": name_link(wafer, int(utilization.argmax())) if utilization.any() else None,
        "compute_share": float(ledger.die_compute.mean() / time),
        "imbalance": time / total(decode, "mean_die_time_s"),
        "llc_hits": int(total(decode, "llc_hits")),
        "llc_hit_bytes": total(decode, "llc_hit_bytes"),
        "prefetched_bytes": total(decode, "prefetched_bytes"),
        "evictions": int(total(decode, "evictions")),
        "hbm_peak_bytes": max(row.hbm_used_bytes for row in ledger.rows),
        "lower_bound_s": bound,
        "bound_ratio": time / bound,
        **(exchange(decode, time) if ledger.exchanges else {}),
        **_planning(ledger),
        **_moves(ledger),
    }


def _planning(ledger: Ledger) -> dict[str, Any]:
    """Return the figures of waiting for plans, where planning time is charged; it is part of the other times."""
    waited = total(ledger.decode, "planning_s")
    return {"planning_time_s": waited} if waited else {}


def exchange(decode: list[LayerRow], time: float) -> dict[str, Any]:
    """Return the figures of the all-to-all of token activations; *time* is the total time of the rows."""
    there, back = total(decode, "dispatch_s"), total(decode, "combine_s")
    return {
        "dispatch_time_s": there,
        "combine_time_s": back,
        "exchange_share": (there + back) / time,
        "activation_bytes": total(decode, "activation_bytes"),
    }


def _moves(ledger: Ledger) -> dict[str, Any]:
    """Return the cost of rebalancing, if any; its bytes, hops and time are part of the other figures."""
    if ledger.rebalances is None:
        return {}
    rows = [row for row in ledger.rows if row.phase == "rebalance"]
    return {
        "rebalances": ledger.rebalances,
        "moved_bytes": total(rows, "local_write_bytes"),
        "rebalance_time_s": total(rows, "time_s"),
    }


def total(rows: Iterable[LayerRow], column: str) -> float:
    """Sum a column."""
    return float(sum(getattr(row, column) for row in rows))


def gini(amounts: FloatArray) -> float:
    """Return the Gini coefficient of *amounts* [n]: 0 if all are equal, near 1 if one has everything."""
    if not amounts.sum():
        return 0.0
    ascending = np.sort(amounts)
    rank = np.arange(1, len(ascending) + 1)
    return float(
        2 * (rank * ascending).sum() / (len(ascending) * ascending.sum()) - (len(ascending) + 1) / len(ascending)
    )


def name_link(wafer: Wafer, link: int) -> str:
    """Return the name of a link: its two ends, such as ``(0,0)->(1,0)`` or ``(0,3)->switch(0)``."""
    source, target = wafer.links[link].tolist()
    return f"{wafer.name(source)}->{wafer.name(target)}"
