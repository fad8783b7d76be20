"""``wss advise``: which layout of experts to serve with, from a dump of expert loads or a routing trace."""

# ruff: noqa: PLC0415
from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import click

from wss.cli.options import PATH, Bars, free_file, say
from wss.files import json_text, write_whole


def _numbers(context: click.Context, option: click.Parameter, text: str) -> tuple[int, ...]:
    """Return the integers of a list such as 0,1,2."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        right = "is not a list of integers; give redundant experts per GPU, such as 0,1,2"
        raise click.BadParameter(f"'{text}' {right}") from None


@click.command()
@click.argument("source", type=PATH, metavar="LOADS_OR_TRACE")
@click.option("--model", required=True, help="The model: a name of `wss list`, or a config.json.")
@click.option("--wafer", default="h100_nvl8", show_default=True, help="The GPU node, or wafer (see `wss list`).")
@click.option("--nodes", type=int, help="Number of GPU nodes  [default: the preset's, 1]")
@click.option(
    "--redundant", default="0,1,2", show_default=True, callback=_numbers, help="Redundant experts per GPU to try."
)
@click.option("--batch", type=int, default=4096, show_default=True, help="Tokens of a decode step, over all GPUs.")
@click.option("--precision", default="fp8", show_default=True, help="Precision of weights, such as fp8 or fp16.")
@click.option("--steps", type=int, default=4, show_default=True, help="Decode steps to simulate.")
@click.option("--layers", type=int, default=16, show_default=True, help="MoE layers to draw and simulate, at least 4.")
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="Use this dump or workload, and those of further --only  [default: all]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the layers drawn, and of drawn tokens.")
@click.option("--engine", type=click.Choice(["sglang", "vllm"]), default="sglang", show_default=True)
@click.option("--out", type=PATH, help="Write the best layout here, for SGLang's --init-expert-location.")
@click.option("--force", is_flag=True, help="Replace --out if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quiet", is_flag=True, help="No progress bars.")
def advise(source: Path, engine: Any, out: Path | None, force: bool, as_json: bool, quiet: bool, **asked: Any) -> None:
    """Rank expert layouts on your own loads or routing, and print the command that serves with the best.

    LOADS_OR_TRACE is an expert distribution dump of SGLang or vLLM, a table of expert loads, or a routing trace, in
    any format that `wss trace import` reads. Layouts are made from one half of it and judged on the other.
    """
    from wss.advice import Question
    from wss.advice import advise as ask
    from wss.advice.engines import start_lines
    from wss.advice.text import advice_text
    from wss.policies.placement.layout_file import is_written

    if out is not None:
        free_file(out, force, is_written, "layout")
    with closing(Bars(quiet)) as bars:
        advice = ask(source, Question(**asked), bars)
    if out is not None:
        text = advice.best.layout.text
        write_whole(out, lambda part: part.write_text(text, encoding="utf-8"), "give a path where you may write")
    if as_json:
        start = " ".join(start_lines(advice, engine, str(out or "layout.json")))
        say(json_text(advice.to_dict() | {"start": start}, sort_keys=False))
        return
    say(advice_text(advice, engine, None if out is None else str(out)))
    if out is not None:
        say(f"\nwrote {out}: {advice.best.layout.about}")
