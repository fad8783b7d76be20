"""``wss compare``: two results side by side."""

# ruff: noqa: PLC0415
from __future__ import annotations

from pathlib import Path

import click

from wss.cli.options import PATH, say
from wss.files import json_text


@click.command()
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@click.option("--figures", metavar="NAMES", help="Such as speedup,decode_time_s, or all  [default: those of the table]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare(a: Path, b: Path, figures: str | None, as_json: bool) -> None:
    """Set the result folders A and B side by side, two runs or two sweeps: settings that differ, and figures.

    Each figure is shown for both, with the difference and the ratio, by policy and point. Points are joined by labels.
    """
    from wss.report.compare import compare as compared
    from wss.report.comparison_text import comparison_text

    names = [] if figures is None else [name.strip() for name in figures.split(",")]
    found = compared(a, b, names)
    say(json_text(found.to_dict(), sort_keys=False) if as_json else comparison_text(found))
