"""Shared parts of the commands: suggestions for misspelt names, progress bars, checks of output paths."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from wss import compile_cache
from wss.cli.progress import Lines
from wss.compiling import switched_off
from wss.errors import OutputError, did_you_mean
from wss.escaping import lines_for_terminal

PATH = click.Path(path_type=Path)
allow_code = click.option(
    "--allow-code",
    is_flag=True,
    envvar="WSS_ALLOW_CODE",
    help="Run the code of classes named in the file (package.module:Class); also search for them beside it.",
)


class Group(click.Group):
    """A command group that suggests the closest name for an unknown command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command, or fail with the closest name."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(f"no such command '{args[0]}'; {did_you_mean(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


class Bars:
    """Progress bars, one at a time for each kind of work; lines if stderr is not a terminal; nothing with --quiet."""

    def __init__(self, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet, self._is_terminal = quiet, sys.stderr.isatty()
        self._lines = Lines(clock)
        self._bar: Any = None
        self._what = ""

    def __call__(self, what: str, done: int, total: int, where: str = "") -> None:
        """Show that *done* of *total* units of the work *what* are done; *where* says where the work is."""
        if self._quiet:
            return
        if not self._is_terminal:
            line = self._lines.line(what, done, total, where)
            if line is not None:
                say(line, err=True)
            return
        if what != self._what:
            from tqdm import tqdm  # noqa: PLC0415

            self.close()
            self._what, self._bar = what, tqdm(total=total, desc=what, leave=False, disable=None)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar, self._what = None, ""


def announce_compiling(quiet: bool) -> None:
    """Print before a run that it compiles first, if nothing is compiled yet; not with --quiet."""
    if not quiet and not switched_off() and compile_cache.is_cold():
        click.echo("compiling the simulator's inner loops: once per installation, about 15 s", err=True)


def free_file(out: Path, force: bool, wrote: Callable[[Path], bool], what: str) -> None:
    """Check that the file *out* can be written.

    With *force*, a file that wss *wrote* may be replaced; *what* names its kind in messages. Raises OutputError if it
    cannot be written.
    """
    if out.is_dir():
        raise OutputError(f"{out}: is a folder; give --out the name of a file")
    if os.path.lexists(out) and not force:
        raise OutputError(f"{out}: exists; give another --out, or --force to replace it")
    if os.path.lexists(out) and (out.is_symlink() or not out.is_file()):
        raise OutputError(f"{out}: is not a plain file, so --force does not replace it; give another --out")
    if out.is_file() and not wrote(out):
        raise OutputError(f"{out}: is not a {what} that wss wrote, so --force does not replace it; give another --out")
    if not out.resolve().parent.is_dir():
        raise OutputError(f"{out}: its folder does not exist; make it first, or give another --out")


def say(text: str, *, err: bool = False) -> None:
    """Print *text* that may contain untrusted text, without control characters."""
    click.echo(lines_for_terminal(text), err=err)


def free_trace(out: Path, force: bool) -> None:
    """Check that a trace or a table of loads can be written to *out*; see `free_file`."""
    from wss.traces.reader import is_written  # noqa: PLC0415

    free_file(out, force, is_written, "trace")
