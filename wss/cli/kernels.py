"""The commands of ``wss kernels``: errors of the kernel models on a file of measurements, and the time of one call."""

# ruff: noqa: PLC0415
from __future__ import annotations

from pathlib import Path

import click

from wss.cli.options import PATH, Group, say
from wss.errors import ConfigError
from wss.files import json_text


@click.group(cls=Group)
def kernels() -> None:
    """Predict the times of GPU kernels, and compare them with measurements."""


@kernels.command(short_help="Compare predictions with a file of measurements.")
@click.argument("file", type=PATH)
@click.option("--gpu", help="Use the rows of this GPU; if FILE has no column gpu, the GPU of all rows.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with every row.")
def check(file: Path, gpu: str | None, as_json: bool) -> None:
    """Predict every row of FILE, Parquet or CSV, and report the errors by family."""
    from wss.report.kernels.check import check as check_file
    from wss.report.kernels.text import check_text

    found = check_file(file, gpu)
    say(json_text(found, indent=None, sort_keys=False) if as_json else check_text(found))


@kernels.command("time", short_help="Predict the time of one call.")
@click.argument("kind", required=False)
@click.argument("sizes", nargs=-1)
@click.option("--gpu", help="The GPU  [default: H100-SXM]")
@click.option("--wafer", help="In the place of a GPU: the wafer whose die computes (see `wss list`).")
@click.option("--set", "parameters", help="The set of parameters, such as deepgemm.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def time_(
    kind: str | None, sizes: tuple[str, ...], gpu: str | None, wafer: str | None, parameters: str | None, as_json: bool
) -> None:
    """Predict the time of one call of KIND, such as `dense 128 2112 7168`; without KIND, list the kinds."""
    from wss.report.kernels.calls import call_text, kinds_text, time_call
    from wss.report.kernels.devices import chosen_device

    if kind is None:
        say(kinds_text())
        return
    found = time_call(kind, sizes, chosen_device(gpu, wafer), parameters)
    say(json_text(found, indent=None, sort_keys=False) if as_json else call_text(found))


@click.command(hidden=True, context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1)
def gemm(words: tuple[str, ...]) -> None:
    """Name the commands that replaced this one."""
    raise ConfigError(
        "gemm: is now `wss kernels time dense M N K`, such as `wss kernels time dense 128 2112 7168`; "
        "for a file of measurements, `wss kernels check FILE`"
    )
