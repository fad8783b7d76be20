"""The result of a run: the figures of each policy, and how they came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wss.config import Experiment
from wss.errors import UnknownNameError, did_you_mean
from wss.escaping import for_terminal
from wss.execution.heading import heading
from wss.hardware import Wafer
from wss.metrics import Ledger, Totals, summarise
from wss.metrics.figures import Value, by_name, plain
from wss.metrics.sampling import Sample
from wss.report.plots import plot_figure, plot_layers, plot_links
from wss.report.policy_result import PolicyResult
from wss.report.report import results_of
from wss.report.run_folder import write_folder
from wss.report.tables import layers_table, links_table
from wss.report.terminal import run_table
from wss.report.words import counted
from wss.serving.moe_layer import MoeLayerExecutor
from wss.serving.paper_layer import PaperExecutor
from wss.serving.routing_stream import RoutingStream
from wss.workload.fixed_batch import FixedBatch

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = "wss-summary/2"


@dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """The result of a run.

    Attributes
    ----------
    experiment
        What was run.
    runs
        The result of each policy by its name, in the order of the configuration.
    notes
        Notes for the reader of the result.
    provenance
        How the result came about, as in summary.json.
    """

    experiment: Experiment
    runs: Mapping[str, PolicyResult]
    notes: tuple[str, ...]
    provenance: dict[str, Any]

    def figure(self, policy: str, name: str) -> Value:
        """Return a figure of *policy*, by its name in summary.json, such as ``speedup``.

        Returns
        -------
        Value
            Its ``value``, in SI units, and ``low`` and ``high``, the ends of its 95% interval; None without one.

        Raises
        ------
        UnknownNameError
            If there is no such policy or figure in the result.
        """
        if policy not in [*self.runs]:
            raise UnknownNameError(f"policy: {policy!r} is not in this result; {did_you_mean(policy, self.runs)}")
        figures = self.runs[policy].figures
        if name not in [*figures]:
            raise UnknownNameError(f"figure: {name!r} is not in this result; {did_you_mean(name, figures)}")
        return figures[name]

    @property
    def wafer(self) -> Wafer:
        """The wafer."""
        return next(iter(self.runs.values())).wafer

    @property
    def ledgers(self) -> tuple[Ledger, ...]:
        """The ledgers behind the figures, by seed, then policy name."""
        every = zip(*(run.ledgers for run in self._sorted()), strict=True)
        return tuple(ledger for seed in every for ledger in seed)

    @cached_property
    def layers(self) -> pa.Table:
        """The rows of layers.parquet, one for each policy, step, layer and seed."""
        return layers_table(self.ledgers)

    @cached_property
    def links(self) -> pa.Table:
        """The rows of links.parquet, one for each policy, link and seed."""
        return links_table(self.ledgers, self.wafer)

    def plot(self, what: str = "speedup") -> Any:
        """Return a picture as a matplotlib Figure, which has ``savefig``; a notebook shows it.

        Parameters
        ----------
        what
            A figure, such as ``hops``: a bar for each policy. ``links``: a map of the links' utilisation. ``layers``:
            the mean time of each layer.

        Raises
        ------
        ConfigError
            If there is no such picture, or matplotlib is not installed.
        """
        results = results_of(self.to_dict(), self.links)
        results.rows.sort(key=lambda row: [*self.runs].index(row["policy"]))
        if what == "links":
            return plot_links(results)
        if what == "layers":
            return plot_layers(results, self.layers)
        return plot_figure(results, what, ("links", "layers"))

    def __repr__(self) -> str:
        """Return two lines: what was run, and the speedups."""
        facts = {name: value.value for name, value in self._sorted()[0].figures.items()}
        kind = "SYNTHETIC routing" if facts["synthetic"] else "recorded routing"
        what = (
            f"{facts['model']} on {facts['wafer']}, batch {facts['batch']}, "
            f"{counted(facts['steps_run'], 'decode step')}, {kind}"
        )
        speedups = ", ".join(f"{name} {run.figures['speedup'].value:.2f}x" for name, run in self.runs.items())
        return for_terminal(f"Result: {what}") + "\n" + for_terminal(f"  speedup over {facts['baseline']}: {speedups}")

    def _repr_html_(self) -> str:
        """Return the table for a notebook."""
        first = self._sorted()[0].figures
        mark = "<p><b>SYNTHETIC routing</b>: generated from named parameters, not recorded.</p>"
        table = f'<pre style="white-space: pre; overflow-x: auto">{escape(self.table())}</pre>'
        return (mark if first["synthetic"].value else "") + table

    def _sorted(self) -> list[PolicyResult]:
        return [self.runs[policy] for policy in sorted(self.runs)]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of summary.json."""
        content = {
            "schema": SCHEMA,
            "provenance": {**self.provenance, "notes": list(self.notes)},
            "runs": [plain(run.figures) for run in self._sorted()],
        }
        first = self._sorted()[0]
        if len(first.ledgers) > 1:
            content["replications"] = [
                {"seed": ledger.seed, "runs": [plain(run.by_seed[number]) for run in self._sorted()]}
                for number, ledger in enumerate(first.ledgers)
            ]
        return content

    def table(self, wide: bool = False) -> str:
        """Return the table of the run as text; *wide*: all columns, not only those that fit 100 characters."""
        oracles = {policy.name for policy in self.experiment.policies if policy.is_oracle}
        return run_table(heading(self.experiment, self.runs, self.provenance, self.notes), self.runs, oracles, wide)

    def write(self, folder: str | PathLike[str] | None = None, *, force: bool = False) -> Path:
        """Write a result folder and return its path; by default the next free number under ``results/``.

        Raises
        ------
        OutputError
            If it cannot be written, or *folder* exists and is not to be replaced (*force*).
        """
        tables = {"layers.parquet": self.layers, "links.parquet": self.links}
        return write_folder(None if folder is None else Path(folder), self.to_dict(), tables, force)


def policy_results(
    experiment: Experiment,
    batch: FixedBatch,
    stream: RoutingStream,
    executors: Sequence[MoeLayerExecutor | PaperExecutor],
    wafer: Wafer,
    sample: Sample | None,
) -> list[PolicyResult]:
    """Return the result of each policy for one seed; with a *sample* of the layers, estimates for all layers."""
    facts, totals = _facts(experiment, batch, stream, sample), {}
    for executor in executors:
        ledger = ledger_of(executor)
        ledger.seed, ledger.sample = experiment.seed, sample
        ledger.placement_correlation = executor.placement_correlation
        ledger.excess_bytes = executor.excess_bytes
        totals[ledger.policy] = Totals(
            ledger=ledger,
            wafer=wafer,
            tokens=stream.schedule.decode_tokens,
            batch=experiment.batch,
            layers_total=len(experiment.model.moe_layers),
        )
    results = []
    for executor in executors:
        policy = executor.recorder.policy
        baseline = None if policy == experiment.baseline else totals[experiment.baseline]
        values = {**facts, "policy": Value(policy), **summarise(replace(totals[policy], baseline=baseline))}
        own = {name: values[name] for name in by_name() if name in values}
        results.append(
            PolicyResult(
                policy=policy,
                figures=own,
                by_seed=(own,),
                ledgers=(ledger_of(executor),),
                wafer=wafer,
                planning=executor.planning,
            )
        )
    return results


def ledger_of(executor: MoeLayerExecutor | PaperExecutor) -> Ledger:
    """Return the ledger that *executor* records in."""
    assert isinstance(executor.recorder, Ledger)
    return executor.recorder


def _facts(experiment: Experiment, batch: FixedBatch, stream: RoutingStream, sample: Sample | None) -> dict[str, Value]:
    """Return the figures that describe the run."""
    found = {
        "model": experiment.model.name,
        "wafer": experiment.wafer.name,
        "physics": experiment.physics,
        "network": experiment.network_kind,
        "gemm": experiment.rules.gemm or experiment.gemm,
        "precision": str(experiment.precision),
        "synthetic": batch.meta.synthetic,
        "batch": experiment.batch,
        "unique_requests": stream.schedule.num_requests,
        "layers_run": len(stream.layers),
        "layers_total": len(experiment.model.moe_layers),
        "steps_run": batch.steps,
        "baseline": experiment.baseline,
        **({} if sample is None else {"layers_sampled": list(sample.layers)}),
    }
    return {name: Value(value) for name, value in found.items()}
