"""``wss.sweep``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from wss.api.progress import showing
from wss.api.settings import MoreSettings, Settings, Written, all_settings, count_of, path_of
from wss.api.workers import check_portable, script_classes
from wss.config.overrides import Setting
from wss.config.sweep_file import Sweep, load_sweep
from wss.config.sweep_points import picked
from wss.errors import ConfigError
from wss.escaping import for_terminal, lines_for_terminal
from wss.execution.replications import Progress
from wss.report.plots import plot_figure
from wss.report.report import Results, read_results
from wss.report.sweep_folder import notes_in, sweep_legend, sweep_table
from wss.sweeps.folder import picked_folder
from wss.sweeps.whole import Lines, Workers, closing_lines, run_whole
from wss.traces.parquet import read_table

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class SweepResult:
    """The result of a sweep.

    Attributes
    ----------
    folder
        Its folder, as `wss report` reads it.
    axes
        The axes, which are the first columns.
    rows
        A mapping for each policy on each point: its labels, ``policy``, and the figures by name.
    oracles
        The policies that use future routing.
    closing
        What follows the table: the sweep's averages, if it has any, and which points were picked.
    """

    folder: Path
    axes: tuple[str, ...]
    rows: list[dict[str, Any]]
    oracles: frozenset[str] = frozenset()
    closing: tuple[str, ...] = ()

    @cached_property
    def _content(self) -> Results:
        return read_results(self.folder)

    @cached_property
    def results(self) -> pa.Table:
        """The rows as a table (results.parquet), which has ``to_pandas()`` if pandas is installed."""
        return read_table(self.folder / "results.parquet")

    @property
    def links(self) -> pa.Table:
        """A row for each link, policy and point (links.parquet)."""
        return self._content.links

    def table(self) -> str:
        """Return the table that `wss sweep` prints."""
        table = sweep_table(self.axes, self.rows, self.oracles)
        legend = sweep_legend(self.rows, notes_in(self.folder), self.oracles)
        return "\n".join([table, legend, *map(lines_for_terminal, self.closing)])

    def plot(self, figure: str = "speedup") -> Any:
        """Return bars of *figure* as a matplotlib Figure, which has ``savefig``; grouped by the axes.

        Raises ConfigError if there is no such figure, or matplotlib is not installed.
        """
        return plot_figure(self._content, figure)

    def __repr__(self) -> str:
        policies = dict.fromkeys(str(row["policy"]) for row in self.rows)
        axes = f"axes {', '.join(self.axes)}; policies {', '.join(policies)}"
        return for_terminal(f"SweepResult: {len(self.rows)} rows in {self.folder}/; {axes}")

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        synthetic = any(row.get("synthetic") for row in self.rows)
        mark = "<p><b>SYNTHETIC routing</b>: generated from named parameters, not recorded.</p>" if synthetic else ""
        return f'{mark}<pre style="white-space: pre; overflow-x: auto">{escape(self.table())}</pre>'


def sweep(
    source: str | PathLike[str] | Written | Sweep,
    settings: MoreSettings = (),
    *,
    out: str | PathLike[str] | None = None,
    only: str | Sequence[str] = (),
    workers: int | None = None,
    progress: bool | Progress = False,
    allow_code: bool = False,
    **changes: Unpack[Settings],
) -> SweepResult:
    """Run all points of a sweep, except tasks that already have a result in its folder.

    Parameters
    ----------
    source
        A YAML file, a mapping with its keys, such as ``{"config": "gpt_oss_20b", "grid": {"batch": [256, 1024]}}``, or
        a loaded sweep.
    out
        The folder  [default: results/NAME].
    only
        Run only the points with these labels, such as ``"batch=4096,8192"``, or several of these; their tables are in
        a folder of their own below *out*.
    workers
        Number of processes  [default: one per core; 1 if a policy's class is defined in the script itself].
    settings, progress, allow_code, **changes
        As for `wss.run`; the settings are those of all points.

    Raises
    ------
    WssError
        With one line per error, worded as on the command line.
    """
    plan = _picked(_plan(source, all_settings(changes, settings), allow_code), only)
    place = Path("results") / plan.name if out is None else path_of(out, "out")
    experiments = [point.experiment for point in plan.points]
    if workers is None:
        number = 1 if any(True for each in experiments for _ in script_classes(each)) else None
    elif (number := count_of(workers, "workers")) > 1:
        check_portable(experiments)
    with showing(progress) as report:
        done = run_whole(plan, place, Workers(number), report, Lines(partial(print, file=sys.stderr)))
    oracles = frozenset(policy.name for each in experiments for policy in each.policies if policy.is_oracle)
    tables, closing = picked_folder(place, plan.only), tuple(closing_lines(plan, done.rows))
    return SweepResult(tables, plan.axes, done.rows, oracles, closing)


def _plan(source: Any, given: list[Setting], allow_code: bool) -> Sweep:
    """Return the sweep of *source*, changed by the settings *given*."""
    if isinstance(source, Sweep):
        if given:
            raise ConfigError("sweep: a loaded sweep accepts no settings; give its file or mapping")
        return source
    if not isinstance(source, Mapping):
        source = path_of(source, "sweep")
    return load_sweep(source, given, allow_code=allow_code)


def _picked(plan: Sweep, only: Any) -> Sweep:
    """Return *plan* with the points that *only* names."""
    labels = [only] if isinstance(only, str) else only
    if not isinstance(labels, list | tuple) or not all(isinstance(each, str) for each in labels):
        raise ConfigError(f"only: {only!r:.60} is not right; give labels, such as ['batch=256,1024']")
    return picked(plan, labels)
