"""``wss placement``: write a policy's placement to a layout file, or check the balancedness of a layout."""

# ruff: noqa: PLC0415
from __future__ import annotations

from pathlib import Path

import click

from wss.cli.options import PATH, allow_code, free_file, say
from wss.files import json_text, write_whole


class _WriteByDefault(click.Group):
    """A command group that runs `write` if no command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `write` before arguments that begin with no command."""
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["write", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_WriteByDefault)
def placement() -> None:
    """Write a layout of experts, or check one.

    `wss placement CONFIG ...` is short for `wss placement write CONFIG ...`.
    """


@placement.command()
@click.argument("layout", type=PATH)
@click.argument("loads", type=PATH)
@click.option("--gpus", type=int, required=True, help="Number of GPUs of the layout.")
@click.option("--model", help="A name of `wss list`, or a config.json  [default: both files have the same layers]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all layers.")
def check(layout: Path, loads: Path, gpus: int, model: str | None, as_json: bool) -> None:
    """Print the balancedness of LAYOUT on LOADS: mean / max tokens per GPU, as SGLang prints it.

    LAYOUT is a layout file of any engine; LOADS a dump or a table of expert loads, or a routing trace. An expert's
    tokens are split evenly over its replicas. The mean is over layers and passes; a dump that is one table counts
    as one pass.
    """
    from wss.advice import check_layout
    from wss.advice.text import balance_text
    from wss.config.models import model_of

    shape = None if model is None else model_of(model, "--model ")
    balance = check_layout(layout, loads, gpus, shape)
    say(json_text(balance.to_dict(), sort_keys=False) if as_json else balance_text(balance))


@placement.command(short_help="Write a policy's placement of experts.")
@click.argument("config", type=PATH)
@allow_code
@click.option("--policy", required=True, metavar="NAME", help="A policy of CONFIG, or of `wss list`.")
@click.option("--out", type=PATH, help="The file to write  [default: stdout]")
@click.option("--force", is_flag=True, help="Replace --out if it exists.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one setting, such as batch=1024.")
def write(
    config: Path, allow_code: bool, policy: str, out: Path | None, force: bool, settings: tuple[str, ...]
) -> None:
    """Write a policy's placement of the experts of CONFIG, as JSON for SGLang's --init-expert-location.

    `placement: {kind: file, path: FILE}` reads it back.
    """
    from wss.config import load
    from wss.execution import layout_of
    from wss.policies.placement.layout_file import is_written

    if out is not None:
        free_file(out, force, is_written, "layout")
    layout = layout_of(load(config, settings, allow_code=allow_code), policy)
    for note in layout.notes:
        click.echo(f"note: {note}", err=True)
    if out is None:
        click.echo(layout.text, nl=False)
        return
    write_whole(out, lambda part: part.write_text(layout.text, encoding="utf-8"), "give a path where you may write")
    click.echo(f"wrote {out}: {layout.about}")
