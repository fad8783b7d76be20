"""The averages of a sweep: means of one figure over points, beside the values that others report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from wss.metrics.figures import FORMATS, by_name
from wss.report.sweep_folder import Rows, intervals_of
from wss.report.terminal import aligned, filled


def averages_of(
    rows: Rows, by: Sequence[str], figure: str, reported: Iterable[tuple[str, str, str, Mapping[str, float]]] = ()
) -> list[dict[str, Any]]:
    """Return a row for each combination of labels on the axes *by* and each policy, in the order of *rows*.

    Speedups have no row for the baseline, whose own are 1. Points without the figure do not count.

    Parameters
    ----------
    rows
        The rows of a sweep's results.
    by
        Axes.
    figure
        The figure to be averaged.
    reported
        Source, policy, axis and values by label of that axis (as text), as others report them.

    Returns
    -------
    list of dict
        Labels, ``policy``, ``points`` (how many), ``mean``; ``layers`` and ``seeds``, the ends of its 95% intervals, or
        None; and ``reported``, values by source. The points of a mean share layers and seeds. So the ends are the means
        of the points' own ends, which is an interval as wide as if all points erred together.
    """
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if row.get(figure) is None or (figure == "speedup" and row["policy"] == row["baseline"]):
            continue
        groups.setdefault((*(row[axis] for axis in by), row["policy"]), []).append(row)
    return [
        {
            **dict(zip(by, labels, strict=True)),
            "policy": policy,
            "points": len(own),
            "mean": fmean(row[figure] for row in own),
            **{over: _mean_interval(own, figure, over) for over in ("layers", "seeds")},
            "reported": {
                source: values[label]
                for source, its_policy, axis, values in reported
                for label in (str(labels[by.index(axis)]),)
                if its_policy == policy and label in values
            },
        }
        for (*labels, policy), own in groups.items()
    ]


def _mean_interval(rows: Rows, figure: str, over: str) -> tuple[float, float] | None:
    """Return the means of the ends of the intervals of *figure* *over* layers or seeds; None if a row has none."""
    found = [intervals_of(row, figure).get(over) for row in rows]
    ends = [each for each in found if each is not None]
    return (fmean(low for low, _ in ends), fmean(high for _, high in ends)) if len(ends) == len(found) else None


def averages_table(means: Sequence[dict[str, Any]], by: Sequence[str], figure: str) -> str:
    """Return *means*, as `averages_of` returns them, as text; columns that are empty everywhere are left out."""
    if not means:
        return f"no mean {figure}: no point has one{' beside the baseline' * (figure == 'speedup')}"
    known = by_name()[figure]
    form = (known.form or FORMATS.get(known.unit, "{:.4g}")).replace("{:,}", "{:,.0f}").format
    sources = list(dict.fromkeys(source for mean in means for source in mean["reported"]))
    intervals = [over for over in ("layers", "seeds") if any(mean[over] for mean in means)]
    cells = [[*by, "policy", "mean", *(f"95%, {over}" for over in intervals), *sources]]
    for mean in means:
        ends = [" to ".join(map(form, mean[over])) if mean[over] else "-" for over in intervals]
        others = [form(mean["reported"][source]) if source in mean["reported"] else "" for source in sources]
        cells.append([*(str(mean[axis]) for axis in by), mean["policy"], form(mean["mean"]), *ends, *others])
    counts = sorted({mean["points"] for mean in means})
    heading = f"mean {figure} over {' or '.join(map(str, counts))} point{'s' if counts[-1] > 1 else ''}"
    table = aligned(cells, left=len(by) + 1)
    legend = "\n".join(map(filled, _legend(intervals, sources)))
    return "\n\n".join([heading, table, *([legend] if legend else [])])


def _legend(intervals: Sequence[str], sources: Sequence[str]) -> list[str]:
    """Return what the columns of intervals, and those of other *sources*, are."""
    over = {"layers": "over draws of layers", "seeds": "over seeds"}
    lines = [f"95%, {each}: {over[each]}; means of the ends of all points" for each in intervals]
    if sources:
        lines.append(f"{', '.join(sources)}: as reported there; steps, layers and routing may differ")
    return lines
