"""A fuzzer of all commands and all file formats.

    python tests/fuzzing.py --seed 1 --count 2000

An input is a valid case (`fuzz_seeds`) changed by one to three mutations (`fuzz_mutations`); seed and number say which,
so that ``--seed 1 --start 1234 --count 1`` makes input 1234 again. A fault (`fuzz_judge`) is printed, and its files are
kept in a folder with the command as ARGV, with no more mutations than it takes. Inputs run in one process, which is
started anew if one of them kills it. The exit code is 1 if there was a fault.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import click
from fuzz_files import encode, tree_of, with_tree
from fuzz_judge import Ended, fault_of, run
from fuzz_mutations import mutate_bytes, mutate_tree
from fuzz_seeds import Case, cases

SETTINGS = ("batch=0", "x", "=", "a.b.c=1", "seed=nan", "policies=[", "model=\u00e9", "steps=9e9", "skew=1e9")
ATTEMPTS = 4
COMPILING_S = 150.0  # of CPU time, of a command that may compile
SPECIAL = ("fifo", "folder", "zero", "dangling", "loop", "missing")  # in place of a file


@dataclass(frozen=True)
class Input:
    """One input: a command, its files (None for a special one, made by *special*), and what it may write."""

    number: int
    case: Case
    argv: tuple[str, ...]
    files: dict[str, bytes]
    special: dict[str, str]


@dataclass(frozen=True)
class Fault:
    """What went wrong with which input, and the folder that shows it."""

    number: int
    case: str
    what: str
    folder: Path


class Fuzzer:
    """Makes inputs, runs them in *folder*, and keeps those that go wrong in *kept*."""

    def __init__(self, seed: int, folder: Path, kept: Path) -> None:
        self._seed, self._kept = seed, kept
        self._folder = folder / "work"
        base = folder / "base"
        base.mkdir(parents=True)
        with contextlib.chdir(base):
            self._cases = cases(base, _valid)
        shutil.rmtree(base)
        self._weights = [case.weight for case in self._cases]
        trees = [tree_of(content) for case in self._cases for content in case.files.values()]
        self._strangers = [part for tree in trees if tree is not None for part in _parts(tree)]

    @property
    def all_cases(self) -> list[Case]:
        """Every valid case."""
        return self._cases

    def plain(self, case: Case) -> Input:
        """Return *case* without any mutation."""
        return self._input(0, case, [])

    def make(self, number: int, skip: frozenset[int] = frozenset()) -> Input:
        """Return input *number*, without the mutations *skip*."""
        rng = Random(f"{self._seed}:{number}")
        case = rng.choices(self._cases, self._weights)[0]
        seeds = [rng.random() for _ in range(rng.choice([1, 1, 1, 2, 3]))]
        return self._input(number, case, [seed for place, seed in enumerate(seeds) if place not in skip])

    def _input(self, number: int, case: Case, seeds: list[float]) -> Input:
        contents: dict[str, Any] = dict(case.files)
        argv, special = list(case.argv), dict[str, str]()
        plain = Random(0)
        for seed in seeds:
            rng = Random(seed)
            names = [name for name in contents if name not in case.fixed]
            if not names or rng.random() < 0.04:
                _mutate_argv(rng, argv)
                continue
            name = rng.choice(names)
            if rng.random() < 0.01:
                special[name] = rng.choice(SPECIAL)
            elif (tree := tree_of(contents[name])) is not None and rng.random() < 0.75:
                changed = with_tree(contents[name], mutate_tree(rng, tree, self._strangers))
                with contextlib.suppress(Exception):  # what no writer can write is no input
                    encode(name, changed, Random(seed))
                    contents[name] = changed
            else:
                contents[name] = mutate_bytes(rng, encode(name, contents[name], Random(seed)))
        plain = Random(seeds[0] if seeds else 0)
        files = {name: encode(name, own, plain) for name, own in contents.items()}
        return Input(number, case, tuple(argv), files, special)

    def try_(self, given: Input) -> str | None:
        """Run an input, and return what is wrong, None if nothing is."""
        for _ in range(ATTEMPTS - 1):  # the first use of a function compiles it, which may take longer than it should
            fault = self._try(given)
            if fault is None or "OvertimeError" not in fault:
                return fault
        return self._try(given)

    def _try(self, given: Input) -> str | None:
        shutil.rmtree(self._folder, ignore_errors=True)
        place = self._folder / "here"
        place.mkdir(parents=True)
        with contextlib.chdir(place):
            _write(given)
            ended: Ended = run(given.argv)
            files = {**given.files, **dict.fromkeys(given.special, b"")}
            return fault_of(ended, files, given.case.outs, given.case.keeps)

    def tried(self, start: int, count: int) -> Iterator[tuple[int, Fault | None]]:
        """Run inputs, and yield the number of each with its fault, None if it has none."""
        for number in range(start, start + count):
            given = self.make(number)
            what = self.try_(given)
            yield number, None if what is None else self._keep(given, what)

    def _keep(self, given: Input, what: str) -> Fault:
        """Keep an input that went wrong, with the fewest of its mutations."""
        for skip in (frozenset({0, 1}), frozenset({0, 2}), frozenset({1, 2}), frozenset({0}), frozenset({1})):
            fewer = self.make(given.number, skip)
            if (fewer.files, fewer.argv) != (given.files, given.argv) and (found := self.try_(fewer)):
                given, what = fewer, found
                break
        folder = self._kept / f"{self._seed}-{given.number}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with contextlib.chdir(folder):
            _write(given)
            Path("ARGV").write_text("\n".join(given.argv), encoding="utf-8", errors="surrogateescape")
            Path("FAULT").write_text(what, encoding="utf-8", errors="backslashreplace")
        return Fault(given.number, given.case.name, what, folder)


def _valid(*argv: str) -> int:
    """Run a command on valid input, of which the cases are made."""
    ended = run(argv, COMPILING_S)
    assert ended.code == 0, (argv, ended)
    return 0


def _parts(tree: Any) -> Iterator[Any]:
    """Yield small parts of a tree."""
    below = tree.values() if isinstance(tree, dict) else tree[:3] if isinstance(tree, list) else ()
    for part in below:
        if len(repr(part)) < 500:
            yield part
        yield from _parts(part)


def _mutate_argv(rng: Random, argv: list[str]) -> None:
    """Change an option's value or leave something out; where results go stays."""
    places = [i for i in range(1, len(argv)) if argv[i - 1] != "--out" and argv[i] != "--out" and i < len(argv)]
    if not places:
        return
    place = rng.choice(places)
    values = ["", "0", "-1", "1", "2", "nan", "1e400", "x", "\u00e9", "..", "{}", "[", "-", "9" * 20, "--x", "--json"]
    if rng.random() < 0.7:
        argv[place] = rng.choice(values)
    elif rng.random() < 0.5:
        argv += ["--set", rng.choice(SETTINGS)]
    else:
        del argv[place]


def _write(given: Input) -> None:
    """Write the files of an input into the current folder."""
    for name, data in given.files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = given.special.get(name)
        if kind is None:
            path.write_bytes(data)
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind != "missing":
            path.symlink_to({"zero": "/dev/zero", "dangling": "nowhere", "loop": path.name}[kind])


def _work(seed: int, start: int, count: int, kept: Path, journal: Path) -> int:
    """Run inputs here, and print their faults; *journal* says which is at hand."""
    quick = Path("/dev/shm")  # in memory, as much is written and synced
    with tempfile.TemporaryDirectory(dir=quick if os.access(quick, os.W_OK) else None) as folder:
        fuzzer, faults, began = Fuzzer(seed, Path(folder), kept), 0, time.process_time()
        journal.write_text(str(start))
        for number, fault in fuzzer.tried(start, count):
            journal.write_text(str(number + 1))
            if fault is not None:
                faults += 1
                lines = [line for line in fault.what.splitlines() if line.strip()]
                first, last = lines[0], lines[-1]
                click.echo(f"input {number} ({fault.case}): {first[:200]} ... {last[:300]}\n  {fault.folder}")
        spent = f"{time.process_time() - began:.0f} s of CPU"
        click.echo(f"seed {seed}: inputs {start} to {start + count - 1}: {faults} faults, {spent}")
        return min(1, faults)


def main() -> int:
    """Run inputs in a process of their own, again and again if it dies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "wss-fuzz")
    parser.add_argument("--journal", type=Path, help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.journal is not None:
        return _work(said.seed, said.start, said.count, said.keep.absolute(), said.journal)
    at, end, code = said.start, said.start + said.count, 0
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "journal"
        while at < end:
            journal.write_text(str(at))
            options = ["--seed", said.seed, "--start", at, "--count", end - at]
            options += ["--keep", said.keep.absolute(), "--journal", journal]
            done = subprocess.run([sys.executable, __file__, *map(str, options)], check=False).returncode
            code = code or min(1, abs(done))
            if done in (0, 1) and int(journal.read_text()) >= end:
                break
            at = int(journal.read_text()) + 1
            click.echo(f"input {at - 1}: the process ended with {done}; going on with the next")
    return code


if __name__ == "__main__":
    sys.exit(main())
