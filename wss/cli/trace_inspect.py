"""The commands of ``wss trace`` that inspect traces."""

# ruff: noqa: PLC0415
from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from wss.cli.options import PATH, say
from wss.files import json_text


@click.command()
@click.argument("file", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(file: Path, as_json: bool) -> None:
    """Describe the trace FILE: metadata, sizes, and the most popular expert of each layer."""
    from wss.report.trace_summary import describe, describe_text
    from wss.traces import TraceReader

    with TraceReader(file) as reader:
        found = describe(reader)
    say(json_text(found, sort_keys=False) if as_json else describe_text(found))


@click.command()
@click.argument("file", type=PATH)
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of a layer's experts to keep.",
)
@click.option("--precision", type=click.Choice(["fp16", "bf16", "fp8", "fp4"]), default="fp16", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def predict(file: Path, budgets: tuple[float, ...], precision: Any, as_json: bool) -> None:
    """Report how well predictors find the experts of the next decode token, cross-validated by request."""
    from wss.models import MODELS
    from wss.report.trace_summary import prediction_text
    from wss.traces import TraceReader
    from wss.traces.analysis.predictability import evaluate

    with TraceReader(file) as reader:
        shape = next((m for m in MODELS.values() if m.name == reader.meta.model), None)
        nbytes = shape.expert_bytes(precision) if shape else None
        found = evaluate(reader.meta, reader.requests, budgets or (0.05, 0.1, 0.2, 0.4), nbytes)
    say(json_text(found, sort_keys=False) if as_json else prediction_text(found))


@click.command()
@click.argument("files", nargs=-1, required=True, type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with the figures of every layer.")
@click.option("--layers", "per_layer", is_flag=True, help="Show the main figures of every layer.")
@click.option("--plot", type=PATH, help="A folder for pictures (extra `plot`).")
@click.option(
    "--format", "kind", type=click.Choice(["png", "svg"]), default="png", show_default=True, help="Of the pictures."
)
def stats(files: tuple[Path, ...], as_json: bool, per_layer: bool, plot: Path | None, kind: str) -> None:
    """Report how predictable and how skewed the routing of traces is; FILES may also be tables of expert loads."""
    from wss.report.trace_statistics import stats_text, trace_statistics

    found, counted = trace_statistics(files)
    if plot is not None:
        from wss.report.trace_plots import write_plots

        for path, counts in counted:
            for picture in write_plots(counts, plot, path.stem, kind):
                click.echo(f"wrote {picture}", err=True)
    say(json_text(found, sort_keys=False) if as_json else stats_text(found, per_layer))
