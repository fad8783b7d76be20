"""The result of a run on the terminal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from wss.escaping import for_terminal
from wss.metrics import figures
from wss.metrics.figures import Figure, Interval, Value
from wss.report.policy_result import PolicyResult
from wss.units import show

QUANTITIES: dict[str, Literal["time", "size"]] = {"s": "time", "B": "size"}


def run_table(heading: Sequence[str], runs: Mapping[str, PolicyResult]) -> str:
    """Return the table of a run as text below *heading*, the policies in the order of *runs*."""
    names = {name for run in runs.values() for name in run.figures}
    columns = [figure for figure in figures.FIGURES if figure.run and figure.name in names]
    cells = [["policy", *(figure.run for figure in columns)]]
    for policy, run in runs.items():
        values = [(figure, run.figures.get(figure.name, Value(None))) for figure in columns]
        cells.append([policy, *(_cell(figure, own.value) for figure, own in values)])
        for over in ("layers", "seeds"):
            if any(getattr(own, over) for _, own in values):
                ends = (_interval(figure, own.value, getattr(own, over)) for figure, own in values)
                cells.append([f"  95%, {over}", *ends])
    return "\n".join([*map(for_terminal, heading), "", aligned(cells), "", *_legend(runs, names), *_planning(runs)])


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


def _interval(figure: Figure, value: Any, interval: Interval | None) -> str:
    """Return the interval of a figure: both ends for ratios, for others half its width relative to the figure."""
    if interval is None or value is None:
        return "-"
    low, high = interval
    if figure.unit == "x":
        return f"[{low:.2f}, {high:.2f}]"
    if figure.unit == "share":
        return f"[{100 * low:.1f}%, {100 * high:.1f}%]"
    half = max(high - value, value - low)
    if not value:
        return f"to {_cell(figure, half)}" if half else "±0%"
    return f"±{100 * half / value:.1f}%"


def _legend(runs: Mapping[str, PolicyResult], names: Collection[str]) -> list[str]:
    """Return the meaning of the columns; *names* are the figures of the runs."""
    first = next(iter(runs.values())).figures
    layers, seeds, baseline = first["decode_time_s"].layers, first["decode_time_s"].seeds, first["baseline"].value
    moved = "moved, for it: bytes of migrated experts, and the time that steps waited, part of all other figures;"
    exchange = "exchange: share of the time in which tokens go to the experts' dies and back."
    lines = [
        "95%, layers: the interval over draws of layers;" if layers else "",
        "95%, seeds: the interval of the mean over seeds;" if seeds else "",
        moved if "rebalances" in names else "",
        f"step: MoE layers of one decode step; tokens/s counts MoE time alone; speedup is over {baseline};",
        "hops, bytes: sums over all decode layer runs; busiest link: its bytes over what it could carry in that time;",
        "imbalance: layer run time over the mean die's; x bound: decode time over its lower bound for any plan",
        "with this policy's placement of experts, so do not compare it between policies.",
        exchange if "exchange_share" in names else "",
    ]
    return [line for line in lines if line]


def _planning(runs: Mapping[str, PolicyResult]) -> list[str]:
    """Return a line on the planning time of the policies; none if no policy planned."""
    said = [f"{name} {1e3 * run.planning['median_cpu_s']:.2g}" for name, run in runs.items() if run.planning]
    return [f"planning, ms of CPU time a layer run (median): {', '.join(said)}."] if said else []
