"""``wss trace join``: join traces, or take a part of one."""

# ruff: noqa: PLC0415
from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from wss.cli.options import PATH, free_trace


@click.command()
@click.argument("files", nargs=-1, required=True, type=PATH)
@click.option("--out", type=PATH, required=True, help="The Parquet file to write.")
@click.option(
    "--only", multiple=True, metavar="NAME", help="Take requests of this subject or benchmark  [default: all]"
)
@click.option("--half", type=click.Choice(["even", "odd"]), help="Take one of every two requests of a workload.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    help="Draw at random which request of two is even  [default: alternates by workload]",
)
@click.option("--requests", type=click.IntRange(1), help="Take at most this many of each file.")
@click.option("--force", is_flag=True, help="Replace the file --out if it exists.")
def join(
    files: tuple[Path, ...],
    out: Path,
    only: tuple[str, ...],
    half: Any,
    seed: int | None,
    requests: int | None,
    force: bool,
) -> None:
    """Write the requests of FILES, one file after another, as one trace."""
    from wss.traces.merge import join as join_traces

    free_trace(out, force)
    count = join_traces(out, files, only=only, half=half, seed=seed, limit=requests)
    click.echo(f"wrote {out}: {count} requests of {len(files)} files")
