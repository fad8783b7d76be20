"""The result of a run on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from wss.units import show

COLUMNS: tuple[tuple[str, str], ...] = (
    ("policy", "policy"),
    ("step mean", "step_time_mean_s"),
    ("p99", "step_time_p99_s"),
    ("tokens/s", "throughput_tokens_per_s"),
    ("speedup", "speedup"),
    ("hops", "hops"),
    ("link bytes", "link_bytes"),
    ("busiest link", "max_link_utilization"),
    ("DRAM local", "local_read_bytes"),
    ("remote", "remote_read_bytes"),
    ("written", "local_write_bytes"),
    ("imbalance", "imbalance"),
    ("x bound", "bound_ratio"),
)

EXCHANGE: tuple[tuple[str, str], ...] = (("exchange", "exchange_share"),)  # where token activations are exchanged
MOVES: tuple[tuple[str, str], ...] = (("moved", "moved_bytes"), ("for it", "rebalance_time_s"))  # where experts move

FACTORS = ("speedup", "imbalance", "bound_ratio")
SHARES = ("max_link_utilization", "exchange_share")
RATIOS = (*FACTORS, *SHARES)


def run_table(summary: dict[str, Any], order: Sequence[str]) -> str:
    """Return the table of a run as text, its policies in *order*."""
    runs = {run["policy"]: run for run in summary["runs"]}
    first = runs[order[0]]
    moves = any("rebalances" in run for run in runs.values())
    columns = (*COLUMNS, *(EXCHANGE if "exchange_share" in first else ()), *(MOVES if moves else ()))
    cells = [[heading for heading, _ in columns]]
    cells += [[_cell(key, runs[policy]) for _, key in columns] for policy in order]
    heading = ["".join(c if c.isprintable() else "?" for c in line) for line in _heading(summary, first)]
    return "\n".join([*heading, "", aligned(cells), "", *_legend(first, moves=moves), *_planning(summary, order)])


def aligned(cells: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return rows of *cells*, the headings first, as text in columns; the first *left* columns stand to the left."""
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [
        "  ".join(
            c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _cell(key: str, run: dict[str, Any]) -> str:
    """Return a figure of *run* as text; a ratio as all layers would give it, where they are sampled."""
    if key == "speedup" and "ci95" in run:
        low, high = run["ci95"][key]
        return f"{run['estimate'][key]:.2f}x [{low:.2f}, {high:.2f}]"
    value = run["estimate"][key] if key in RATIOS and "estimate" in run else run.get(key)
    if value is None:
        return "-"
    if key == "rebalance_time_s" or (key.endswith("_s") and key.startswith("step_time")):
        return show(value, "time") if value else "0"
    if key.endswith("_bytes"):
        return show(value, "size") if value else "0"
    if key == "throughput_tokens_per_s":
        return f"{value:,.0f}"
    if key in FACTORS:
        return f"{value:.2f}x"
    if key in SHARES:
        return f"{100 * value:.1f}%"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _heading(summary: dict[str, Any], run: dict[str, Any]) -> list[str]:
    config = summary["provenance"]["config"]
    moe = len(config["model"]["moe_layers"])
    layers = f"all {moe} MoE layers" if run["layers_run"] == moe else f"{run['layers_run']} of {moe} MoE layers"
    if "layers_sampled" in run:
        layers += f", sampled: {_numbers(run['layers_sampled'])},"
    kind = "SYNTHETIC routing" if run["synthetic"] else "recorded routing"
    steps = f"{run['steps_run']} decode step{'s' if run['steps_run'] != 1 else ''}"
    trace = summary["provenance"]["trace"]
    return [
        f"{run['model']} in {run['precision']} on {run['wafer']}, {_network(run, config)} network, {run['gemm']} GEMM",
        *_dead(summary["provenance"].get("dead")),
        *_dispatch(config),
        f"ran {layers} of {steps}, batch {run['batch']} ({run['unique_requests']} different requests)",
        f"{kind}: {trace['source']}",
        *(f"note: {note}" for note in summary["provenance"]["notes"]),
    ]


def _dead(dead: dict[str, Any] | None) -> list[str]:
    """Return which dies and links are dead, if any are."""
    if dead is None:
        return []
    dies = [f"({x},{y})" for x, y in dead["dies"]]
    links = [f"({a},{b})-({c},{d})" for (a, b), (c, d) in dead["links"]]
    parts = [f"{what} {', '.join(named)}" for what, named in (("dies", dies), ("links", links)) if named]
    return [f"dead: {'; '.join(parts)}"]


def _dispatch(config: dict[str, Any]) -> list[str]:
    """Return how tokens are sent, if they are."""
    dispatch = config.get("dispatch")
    if dispatch is None:
        return []
    counting = "" if dispatch["once_per"] == "expert" else f", {dispatch.get('counting', 'expected')} counts"
    return [f"tokens go to the experts' dies and back, once per {dispatch['once_per']}{counting}"]


def _numbers(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers[:12])) + (", ..." if len(layers) > 12 else "")


def _network(run: dict[str, Any], config: dict[str, Any]) -> str:
    """Return the network's kind and parameters."""
    if run["physics"] != "wss":
        return str(run["network"])
    said = [
        f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in config["network"].items()
    ]
    return f"{run['network']}" + (f" ({', '.join(said[1:])})" if said[1:] else "")


def _legend(run: dict[str, Any], *, moves: bool) -> list[str]:
    exchanges = "exchange_share" in run
    sampled = [
        "layers are a sample: steps, hops and bytes are sums over those run; speedup, busiest link, imbalance and",
        "x bound are estimates for all layers, the speedup with its 95% interval (of the others: summary.json);",
    ]
    moved = "moved, for it: bytes of experts placed anew, and the time that steps waited, part of all other figures;"
    return [
        *(sampled if "ci95" in run else []),
        *([moved] if moves else []),
        "step: MoE layers of one decode step; tokens/s counts MoE time alone; speedup is over " + run["baseline"] + ";",
        "hops, bytes: sums over all decode kernels; busiest link: its bytes over what it could carry in that time;",
        "imbalance: kernel time over the mean die's; x bound: decode time over what no plan can beat",
        "with the experts where this policy has them, so it is not to be compared between policies.",
        *(["exchange: share of the time in which tokens go to the experts' dies and back."] if exchanges else []),
    ]


def _planning(summary: dict[str, Any], order: Sequence[str]) -> list[str]:
    """Return a line on what the policies' answers took; none where they were not asked."""
    costs = summary["provenance"]["times"].get("planning", {})
    said = [f"{policy} {1e3 * costs[policy]['median_cpu_s']:.2g}" for policy in order if costs.get(policy)]
    return [f"planning, ms of CPU time a kernel (median): {', '.join(said)}."] if said else []
