"""``wss placement``: write a policy's placement to a layout file."""

# ruff: noqa: PLC0415
from __future__ import annotations

from pathlib import Path

import click

from wss.cli.options import PATH, allow_code, free_file
from wss.files import write_whole


@click.command(short_help="Write a policy's placement of the experts.")
@click.argument("config", type=PATH)
@allow_code
@click.option("--policy", required=True, metavar="NAME", help="One of CONFIG, or of `wss list`.")
@click.option("--out", type=PATH, help="The file to write  [default: stdout]")
@click.option("--force", is_flag=True, help="Replace --out if it exists.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change one setting, such as batch=1024.")
def placement(
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
