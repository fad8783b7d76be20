"""Runs one command in this process and says what is wrong with how it ended, None if nothing is."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import pickletools  # noqa: F401 - compiled as it is first imported, with a warning that is not ours
import re
import resource
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from wss import cli

CPU_S = 20.0  # of one command
WALL_S = 200.0  # of one command that waits, as for a pipe
MEMORY = 3 * 2**30  # bytes beyond what the process has
CODES = {0, 1, 2}
NOT_FINITE = re.compile(r"(?<![\w/.-])[-+]?(nan|inf|infinity)(?![\w/.-])", re.IGNORECASE)


class OvertimeError(BaseException):
    """The command takes longer than any of its size may."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its code, what it printed, and what it raised beside `SystemExit`."""

    code: int | None
    out: str
    err: str
    raised: str


def run(argv: Sequence[str], cpu_s: float | None = None) -> Ended:
    """Run ``wss`` with *argv* as its own main function does, within limits of memory and time (`CPU_S` or *cpu_s*)."""
    ways = ("strict", "backslashreplace")  # as Python's own are
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", way, write_through=True) for way in ways)
    code, raised, before = None, "", sys.argv
    with _limits(cpu_s or CPU_S) as stop, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        sys.argv = ["wss", *argv]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                cli.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except OvertimeError:
            raised = "takes too long\n" + "".join(traceback.format_exc(limit=-8))
        except BaseException:
            raised = traceback.format_exc()
        finally:
            stop.clear()
            sys.argv = before
    texts = [stream.buffer.getvalue().decode("utf-8", "surrogateescape") for stream in (out, err)]
    if not raised and warned:
        first = warned[0]
        raised = f"warning: {first.category.__name__}: {first.message} ({first.filename}:{first.lineno})"
    return Ended(code, *texts, raised)


@contextlib.contextmanager
def _limits(cpu_s: float) -> Iterator[set[str]]:
    """Bound time and memory of what is done here; leave signals and limits as they were.

    Time is out again every second, as whoever is interrupted may go on, until what is yielded is cleared.
    """
    at_work = {"at work"}

    def stop(number: int, _: Any) -> None:
        if at_work:
            raise OvertimeError(number)

    numbers = (signal.SIGPROF, signal.SIGALRM, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    signal.signal(signal.SIGPROF, stop)
    signal.signal(signal.SIGALRM, stop)
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, hard))
    signal.setitimer(signal.ITIMER_PROF, cpu_s, 1.0)
    signal.setitimer(signal.ITIMER_REAL, WALL_S, 5.0)
    try:
        yield at_work
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        for number, handler in before.items():
            signal.signal(number, handler)


def fault_of(ended: Ended, given: dict[str, bytes], outs: Sequence[str], keeps: bool) -> str | None:
    """Return what is wrong with how a command *ended*, which was *given* files in the current folder."""
    if ended.raised:
        return f"raises: {ended.raised.strip()}"
    if ended.code not in CODES:
        return f"exit code {ended.code}: {ended.err[-300:]}"
    for word in ("Traceback (most", "MemoryError", "Unable to allocate", "malloc of size", "not enough memory"):
        if word in ended.out + ended.err:
            return f"prints {word}: {(ended.out + ended.err)[-1000:]}"
    if ended.code == 2 and not ended.err.strip():
        return "exit code 2 and not a word why"
    return _left_behind(ended, given, outs, keeps) or (_numbers(ended, given, outs) if ended.code != 2 else None)


def _left_behind(ended: Ended, given: dict[str, bytes], outs: Sequence[str], keeps: bool) -> str | None:
    """Return what lies about that should not, or what was there and is not."""
    here = {str(path) for path in Path().rglob("*") if path.is_symlink() or not path.is_dir()}
    if sorted(os.listdir("..")) != [Path().absolute().name]:
        return f"wrote outside of its folder: {os.listdir('..')}"
    new = sorted(here - set(given))
    partial = [path for path in new if any(part.startswith(".") for part in Path(path).parts)]
    if partial:
        return f"leaves {partial[:3]} behind"
    strays = [path for path in new if not any(path == out or path.startswith(f"{out}/") for out in outs)]
    if strays:
        return f"writes {strays[:3]}, which nobody asked for"
    if ended.code == 2 and new and not keeps:
        return f"exit code 2, and {new[:3]} written"
    tasks = [path for path in new if ended.code == 2 and "/tasks/" not in path]
    if tasks:
        return f"exit code 2, and {tasks[:3]} written"
    inputs = {path: data for path, data in given.items() if data and path.partition("/")[0] not in outs}
    changed = [path for path, data in inputs.items() if not Path(path).is_file() or Path(path).read_bytes() != data]
    return f"changes {changed[:3]}" if changed else None


def _numbers(ended: Ended, given: dict[str, bytes], outs: Sequence[str]) -> str | None:
    """Return where a figure that is not finite was printed or written."""
    named = any(NOT_FINITE.search(data.decode("latin-1")) for data in given.values())
    if ended.out.lstrip()[:1] in ("{", "["):
        try:
            json.loads(ended.out, parse_constant=_refuse)
        except ValueError as error:
            return f"prints no JSON: {error}"
    elif not named and (found := NOT_FINITE.search(ended.out)):
        return f"prints {found[0]}: {ended.out[max(0, found.start() - 200) : found.end() + 50]}"
    for out in outs:
        files = [Path(out)] if Path(out).is_file() else sorted(Path(out).rglob("*"))
        for file in files:
            if str(file) not in given and (fault := _in_file(file, named)):
                return f"{file}: {fault}"
    return None


def _in_file(file: Path, named: bool) -> str | None:
    """Return what is wrong with the numbers of a written file."""
    if file.suffix == ".json":
        try:
            json.loads(file.read_bytes(), parse_constant=_refuse)
        except ValueError as error:
            return f"is no JSON: {error}"
    if file.suffix == ".csv" and not named and (found := NOT_FINITE.search(file.read_text())):
        return f"holds {found[0]}"
    if file.suffix == ".parquet":
        table = pq.read_table(file)
        for name in table.column_names:
            values = table[name].to_pylist() if str(table[name].type) == "double" else []
            if not all(value is None or math.isfinite(value) for value in values):
                return f"column {name} holds what is not finite"
    return None


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} in it")
