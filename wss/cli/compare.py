"""``wss compare``: two results side by side."""

# ruff: noqa: PLC0415
from __future__ import annotations

from pathlib import Path

import click

from wss.cli.options import PATH, say
from wss.files import json_text


@click.command(short_help="Compare two runs or two sweeps.")
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@click.option(
    "--figures", metavar="NAMES", help="Figures, such as speedup,decode_time_s, or all  [default: those of the table]"
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare(a: Path, b: Path, figures: str | None, as_json: bool) -> None:
    """Compare the result folders A and B, two runs or two sweeps: the settings that differ, and the figures of both.

    Each figure is shown with its difference and ratio, for every policy and, in sweeps, every point that both have.
    """
    from wss.report.compare import compare as compared
    from wss.report.comparison_text import comparison_text

    names = [] if figures is None else [name.strip() for name in figures.split(",")]
    found = compared(a, b, names)
    say(json_text(found.to_dict(), sort_keys=False) if as_json else comparison_text(found))
