"""The result of a run on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from wss.escaping import for_terminal
from wss.metrics import figures
from wss.metrics.figures import Figure
from wss.units import show

QUANTITIES: dict[str, Literal["time", "size"]] = {"s": "time", "B": "size"}
INTERVALS = {"ci95": "95%, layers", "ci95_seeds": "95%, seeds"}


def run_table(summary: dict[str, Any], order: Sequence[str]) -> str:
    """Return the table of a run as text, its policies in *order*."""
    runs = {run["policy"]: run for run in summary["runs"]}
    first = runs[order[0]]
    moves = any("rebalances" in run for run in runs.values())
    columns = [figure for figure in figures.FIGURES if figure.run and any(figure.name in run for run in runs.values())]
    cells = [["policy", *(figure.run for figure in columns)]]
    for policy in order:
        run = runs[policy]
        cells.append([policy, *(_cell(figure, run.get(figure.name)) for figure in columns)])
        cells += [
            [f"  {said}", *(_interval(figure, run, kind) for figure in columns)]
            for kind, said in INTERVALS.items()
            if kind in run
        ]
    heading = [for_terminal(line) for line in _heading(summary, first)]
    return "\n".join([*heading, "", aligned(cells), "", *_legend(first, moves=moves), *_planning(summary, order)])


def aligned(cells: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return rows of *cells*, the headings first, as text in columns; the first *left* columns are left-aligned."""
    cells = [[*map(for_terminal, row)] for row in cells]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [
        "  ".join(
            c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _cell(figure: Figure, value: Any) -> str:
    """Return a figure as text."""
    if value is None:
        return "-"
    if figure.unit in QUANTITIES:
        return show(value, QUANTITIES[figure.unit]) if value else "0"
    if figure.unit == "x":
        return f"{value:.2f}x"
    if figure.unit == "share":
        return f"{100 * value:.1f}%"
    return f"{value:,.0f}" if isinstance(value, int | float) else str(value)


def _interval(figure: Figure, run: dict[str, Any], kind: str) -> str:
    """Return the interval of a figure: both ends for ratios, for others half its width relative to the figure."""
    low, high = run[kind].get(figure.name, (None, None))
    value = run.get(figure.name)
    if low is None or value is None:
        return "-"
    if figure.unit == "x":
        return f"[{low:.2f}, {high:.2f}]"
    if figure.unit == "share":
        return f"[{100 * low:.1f}%, {100 * high:.1f}%]"
    half = max(high - value, value - low)
    if not value:
        return f"to {_cell(figure, half)}" if half else "±0%"
    return f"±{100 * half / value:.1f}%"


def _heading(summary: dict[str, Any], run: dict[str, Any]) -> list[str]:
    config = summary["provenance"]["config"]
    moe = len(config["model"]["moe_layers"])
    layers = f"all {moe} MoE layers" if run["layers_run"] == moe else f"{run['layers_run']} of {moe} MoE layers"
    if "layers_sampled" in run:
        layers += f", sampled: {_numbers(run['layers_sampled'])},"
    elif "ci95" in run:
        layers += ", sampled for each seed,"
    kind = "SYNTHETIC routing" if run["synthetic"] else "recorded routing"
    steps = f"{run['steps_run']} decode step{'s' if run['steps_run'] != 1 else ''}"
    trace = summary["provenance"]["trace"]
    return [
        f"{run['model']} in {run['precision']} on {run['wafer']}, {_network(run, config)} network, {run['gemm']} GEMM",
        *_dead(summary["provenance"].get("dead")),
        *_dispatch(config),
        f"ran {layers} of {steps}, batch {run['batch']} ({run['unique_requests']} different requests)",
        *_scale(summary, run, moe),
        f"{kind}: {trace['source']}",
        *(f"note: {note}" for note in summary["provenance"]["notes"]),
    ]


def _scale(summary: dict[str, Any], run: dict[str, Any], moe: int) -> list[str]:
    """Return lines on the layers and seeds of the figures, unless all layers and one seed are run."""
    seeds = [each["seed"] for each in summary.get("replications", [])]
    lines = []
    if "ci95" in run:
        lines.append(f"all figures are estimated for all {moe} layers from {run['layers_run']}")
    elif run["layers_run"] < moe:
        lines.append(f"all figures are sums over these {run['layers_run']} layers")
    if seeds:
        lines.append(
            f"all figures are means over {len(seeds)} seeds, {seeds[0]} to {seeds[-1]}; speedups are means of ratios"
        )
    return lines


def _dead(dead: dict[str, Any] | None) -> list[str]:
    """Return lines on dead dies and links, if any."""
    if dead is None:
        return []
    dies = [f"({x},{y})" for x, y in dead["dies"]]
    links = [f"({a},{b})-({c},{d})" for (a, b), (c, d) in dead["links"]]
    parts = [f"{what} {', '.join(named)}" for what, named in (("dies", dies), ("links", links)) if named]
    return [f"dead: {'; '.join(parts)}"]


def _dispatch(config: dict[str, Any]) -> list[str]:
    """Return lines on the dispatch of tokens, if any."""
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
    said = [
        *(["95%, layers: the interval over draws of layers;"] if "ci95" in run else []),
        *(["95%, seeds: the interval of the mean over seeds;"] if "ci95_seeds" in run else []),
    ]
    moved = "moved, for it: bytes of migrated experts, and the time that steps waited, part of all other figures;"
    return [
        *said,
        *([moved] if moves else []),
        "step: MoE layers of one decode step; tokens/s counts MoE time alone; speedup is over " + run["baseline"] + ";",
        "hops, bytes: sums over all decode layer runs; busiest link: its bytes over what it could carry in that time;",
        "imbalance: layer run time over the mean die's; x bound: decode time over its lower bound for any plan",
        "with this policy's placement of experts, so do not compare it between policies.",
        *(["exchange: share of the time in which tokens go to the experts' dies and back."] if exchanges else []),
    ]


def _planning(summary: dict[str, Any], order: Sequence[str]) -> list[str]:
    """Return a line on the planning time of the policies; none if no policy planned."""
    costs = summary["provenance"]["times"].get("planning", {})
    said = [f"{policy} {1e3 * costs[policy]['median_cpu_s']:.2g}" for policy in order if costs.get(policy)]
    return [f"planning, ms of CPU time a layer run (median): {', '.join(said)}."] if said else []
