"""The result of a run: the figures of each policy, and how they came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wss.config import Experiment
from wss.execution.heading import heading
from wss.hardware import Wafer
from wss.metrics import Ledger, Totals, summarise
from wss.metrics.figures import Value, by_name, plain
from wss.metrics.sampling import Sample
from wss.report.policy_result import PolicyResult
from wss.report.run_folder import write_folder
from wss.report.tables import layers_table, links_table
from wss.report.terminal import run_table
from wss.serving.moe_layer import MoeLayerExecutor
from wss.serving.paper_layer import PaperExecutor
from wss.serving.routing_stream import RoutingStream
from wss.workload.fixed_batch import FixedBatch

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
        """Return a figure of *policy* with its interval, by its name in summary.json."""
        return self.runs[policy].figures[name]

    @property
    def wafer(self) -> Wafer:
        """The wafer."""
        return next(iter(self.runs.values())).wafer

    @property
    def ledgers(self) -> tuple[Ledger, ...]:
        """The ledgers behind the figures, by seed, then policy name."""
        every = zip(*(run.ledgers for run in self._sorted()), strict=True)
        return tuple(ledger for seed in every for ledger in seed)

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

    def write(self, folder: Path | None = None, *, force: bool = False) -> Path:
        """Write a result folder and return its path; by default the next free number under ``results/``.

        Raises
        ------
        OutputError
            If it cannot be written, or *folder* exists and is not to be replaced (*force*).
        """
        tables = {
            "layers.parquet": layers_table(self.ledgers),
            "links.parquet": links_table(self.ledgers, self.wafer),
        }
        return write_folder(folder, self.to_dict(), tables, force)


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
