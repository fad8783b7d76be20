"""What the commands share: suggestions for misspelt ones, progress bars, and where they may write."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from wss.errors import OutputError, did_you_mean
from wss.escaping import lines_for_terminal

allow_code = click.option(
    "--allow-code",
    is_flag=True,
    envvar="WSS_ALLOW_CODE",
    help="Run the code of classes that the file names (package.module:Class); look for them beside it too.",
)


class Group(click.Group):
    """A group that suggests the closest command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command, or say which is nearest."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(f"no such command '{args[0]}'; {did_you_mean(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


class Bars:
    """Progress bars on a terminal: one for each kind of long work, in turn; silent elsewhere or with --quiet."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet or not sys.stderr.isatty()
        self._bar: Any = None
        self._what = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that *done* of *total* of the work *what* are done."""
        if self._quiet:
            return
        if what != self._what:
            from tqdm import tqdm  # noqa: PLC0415

            self.close()
            self._what, self._bar = what, tqdm(total=total, desc=what, leave=False, disable=None)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Wipe the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar, self._what = None, ""


def free_file(out: Path, force: bool, wrote: Callable[[Path], bool], what: str) -> None:
    """Check that the file *out* can be written; with *force*, that it can be replaced: wss *wrote* it, it is *what*.

    Raises
    ------
    OutputError
        If not.
    """
    if out.is_dir():
        raise OutputError(f"{out}: is a folder; give --out the name of a file")
    if os.path.lexists(out) and not force:
        raise OutputError(f"{out}: exists; give another --out, or --force to replace it")
    if os.path.lexists(out) and (out.is_symlink() or not out.is_file()):
        raise OutputError(f"{out}: is not a plain file, --force does not replace it; give another --out")
    if out.is_file() and not wrote(out):
        raise OutputError(f"{out}: is no {what} that wss wrote, --force does not replace it; give another --out")
    if not out.resolve().parent.is_dir():
        raise OutputError(f"{out}: its folder does not exist; make it first, or give another --out")


def say(text: str, *, err: bool = False) -> None:
    """Print *text* that may hold what comes from outside; data for other programs is printed as it is."""
    click.echo(lines_for_terminal(text), err=err)


def free_trace(out: Path, force: bool) -> None:
    """Check that a trace, or a table of loads, can be written to *out*, as `free_file`."""
    from wss.traces.reader import is_written  # noqa: PLC0415

    free_file(out, force, is_written, "trace")
