"""Pictures of a result in Python, as matplotlib figures: bars of a figure, the links' utilisation, times of layers."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import TYPE_CHECKING, Any

from wss.errors import ConfigError, UnknownNameError, did_you_mean
from wss.metrics.figures import by_name, numbers
from wss.report.bars import bar_chart
from wss.report.link_maps import is_port, meshmap, portmap
from wss.report.plotting import COLOURS, WIDTH, paper
from wss.report.report import Results, in_order, links_at, map_of
from wss.report.sweep_folder import is_sampled

if TYPE_CHECKING:
    import pyarrow as pa


def plot_figure(results: Results, name: str, more: tuple[str, ...] = ()) -> Any:
    """Return bars of the figure *name* for each policy, grouped by the axes of a sweep; *more* names other pictures.

    Raises
    ------
    ConfigError
        If there is no such figure, no row has it, or matplotlib is not installed.
    """
    if name not in numbers():
        raise UnknownNameError(f"plot: {name!r} is not a figure; {did_you_mean(name, [*more, *numbers()])}")
    if not any(row.get(name) is not None for row in results.rows):
        raise ConfigError(f"plot: this result has no {name}; give another figure, such as speedup")
    figure = by_name()[name]
    label = figure.bar.label if figure.bar else f"{name} ({figure.unit})"
    if any(map(is_sampled, results.rows)):
        label += ",\nestimated for all layers"
    logarithmic = figure.bar is not None and figure.bar.logarithmic
    with paper("plot", backend=None) as plt:
        title = results.title + results.kind
        return bar_chart(plt, results.rows, results.axes, title, name, label, logarithmic=logarithmic)


def plot_links(results: Results) -> Any:
    """Return a map of the utilisation of every link, a part for each policy of the run, in the order of the rows.

    Raises ConfigError if the system has no links, or matplotlib is not installed.
    """
    links = in_order(links_at(results.links, {}), results.rows)
    if not links:
        raise ConfigError("plot: this system has no links; give another picture, such as speedup")
    draw = portmap if is_port(links[0]) else meshmap
    with paper("plot", backend=None) as plt:
        return draw(plt, links, map_of(results.rows, results.title + results.kind))


def plot_layers(results: Results, layers: pa.Table) -> Any:
    """Return the mean time of a decode layer run in each layer, a line for each policy; *layers* as layers.parquet."""
    times: dict[str, dict[int, list[float]]] = {}
    for row in layers.select(["policy", "phase", "layer", "time_s"]).to_pylist():
        if row["phase"] == "decode":
            times.setdefault(row["policy"], {}).setdefault(row["layer"], []).append(row["time_s"])
    with paper("plot", backend=None) as plt:
        fig = plt.Figure(figsize=(WIDTH, 2.8), layout="constrained")
        axis = fig.subplots()
        for number, policy in enumerate(row["policy"] for row in results.rows):
            _line(axis, policy, times[policy], COLOURS[number % len(COLOURS)])
        axis.set(xlabel="layer of the model", ylabel="time of a layer run (us)")
        axis.set_ylim(0)
        axis.grid(lw=0.4, alpha=0.6)
        fig.legend(loc="outside right upper", frameon=False)
        fig.suptitle(results.title + results.kind)
        return fig


def _line(axis: Any, policy: str, times: Mapping[int, list[float]], colour: str) -> None:
    """Draw the mean of the *times* of each layer."""
    at = sorted(times)
    axis.plot(at, [1e6 * fmean(times[layer]) for layer in at], marker="o", ms=2, lw=1, color=colour, label=policy)
