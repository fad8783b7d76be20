"""Running the tasks of a sweep on any executor: in this process, in processes of its own, or on a dask cluster.

Workers compute and this process alone writes, so a worker that dies loses what it had at hand and nothing else, and a
sweep that is killed goes on from the files that are there.
"""

from __future__ import annotations

import pickle
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from wss.ending import last_words
from wss.errors import ConfigError, OutputError, WssError
from wss.execution import simulate
from wss.files import json_text
from wss.processes import process_pool
from wss.sweeps.folder import Folder
from wss.sweeps.tasks import Task, check_outside, chunks_of

Progress = Callable[[str, int, int], None]
Results = list[tuple[str, dict[str, Any] | list[str]]]  # of each task the result, or its faults

ATTEMPTS = 4  # pools that are started, as long as workers die
POLL_S = 0.5


@dataclass(frozen=True)
class _Place:
    """Where a chunk says how many layer runs it has run: a number shared between processes, if there is one."""

    number: int

    def __call__(self, what: str, done: int, total: int) -> None:
        """Note *done* layer runs."""
        if _COUNTS is not None and what == "simulating":
            _COUNTS[self.number] = done


_COUNTS: Any = None  # in a worker: layer runs that each chunk has run


def _share(counts: Any, path: Sequence[str]) -> None:
    """Prepare a worker: counts shared with the parent, and the same modules to be found."""
    global _COUNTS
    _COUNTS = counts
    sys.path[:] = path


def run_chunk(packed: bytes, place: int, path: Sequence[str]) -> Results:
    """Run tasks that share their routing, pickled; return the key of each, and its result or the faults of its own.

    Raises
    ------
    ConfigError
        If this worker cannot load them, or would run something else.
    """
    sys.path.extend(entry for entry in path if entry not in sys.path)
    try:
        chunk: list[Task] = pickle.loads(packed)
    except Exception as error:  # whatever a user's module raises
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"worker {platform.node()}: cannot load the tasks ({reason}); give it the modules") from None
    for task in chunk:
        check_outside(task)
    return outcomes_of(chunk, _Place(place))


def outcomes_of(chunk: Sequence[Task], progress: Progress) -> Results:
    """Run tasks together; if that fails, one by one, so that one that fails does not take the others with it."""
    try:
        found = simulate([task.experiment for task in chunk], progress)
        return [(task.key, outcome) for task, outcome in zip(chunk, found, strict=True)]
    except WssError as error:
        if len(chunk) == 1:
            return [(chunk[0].key, [*error.faults])]
        return [outcome for task in chunk for outcome in outcomes_of([task], progress)]


def run_sweep(tasks: Sequence[Task], folder: Folder, workers: int, dask: str | None, progress: Progress) -> int:
    """Run the tasks that *folder* does not hold, and return how many those were.

    Parameters
    ----------
    tasks
        All tasks of the sweep.
    folder
        Where results are kept.
    workers
        Processes; with one, tasks are run in this one.
    dask
        The address of a dask scheduler, to run tasks on its workers instead.
    progress
        Told how many layer runs of how many have been run, those of earlier results not among them.

    Raises
    ------
    WssError
        If tasks fail, with the lines of each of them; the others are done and kept.
    OutputError
        If a result cannot be written, or workers keep dying; what is done is kept.
    """
    missing = {task.key: task for task in tasks if folder.read(task.key) is None}
    count = len(missing)
    folder.kept = len({task.key for task in tasks}) - count
    _say_kept(folder)
    if dask is not None:
        with _dask_executor(dask) as (executor, size):
            try:
                _finish(executor, chunks_of(list(missing.values()), size), folder, progress, None)
            except WssError:
                raise
            except Exception as error:  # a scheduler that is gone, workers that keep dying, and the like
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
                raise OutputError(
                    f"--dask {dask}: the cluster gave up ({reason}); run the same command again, it goes on from there"
                ) from error
        return count
    if workers <= 1:
        _here(chunks_of(list(missing.values()), 1), folder, progress)
        return count
    for _ in range(ATTEMPTS):
        chunks = chunks_of(list(missing.values()), workers)
        if not chunks:
            return count
        counts = get_context("spawn").Array("q", len(chunks), lock=False)
        with process_pool(min(workers, len(chunks)), _share, counts, sys.path) as pool:
            try:
                _finish(pool, chunks, folder, progress, counts)
            except BrokenProcessPool:
                pass  # a worker was killed; go on with what is missing
            except BaseException:
                _kill(pool)
                raise
        missing = {key: task for key, task in missing.items() if folder.read(key) is None}
    if missing:
        raise OutputError(
            f"worker processes were killed {ATTEMPTS} times, {len(missing)} tasks are left "
            "(is there too little memory? try fewer --workers); run the same command again, it goes on from there"
        )
    return count


def _kill(pool: Any) -> None:
    """End the workers at once: their results are not wanted any more."""
    for process in list(pool._processes.values()):
        process.kill()


class _Kept:
    """Results as they come: written, and the faults of those that failed, a line each with the policy's name."""

    def __init__(self, folder: Folder, chunks: Sequence[Sequence[Task]]) -> None:
        self._folder = folder
        self._tasks = {task.key: task for chunk in chunks for task in chunk}
        self.total = sum(task.layer_runs for task in self._tasks.values())
        self.done = 0
        self.faults: list[str] = []

    def keep(self, results: Results) -> None:
        """Write the results of a chunk."""
        for key, result in results:
            self.done += self._tasks[key].layer_runs
            if isinstance(result, list):
                self.faults += [f"{_point_of(self._tasks[key])}: {fault}" for fault in result]
            else:
                self._folder.write(key, result)
                _say_kept(self._folder)

    def end(self) -> None:
        """Raise the faults, if there are any."""
        if self.faults:
            raise ConfigError(*dict.fromkeys(self.faults))


def _say_kept(folder: Folder) -> None:
    """Let an end by a signal say what is kept."""
    last_words(f"interrupted: {folder.kept} tasks are done and kept; run the same command again to go on")


def _point_of(task: Task) -> str:
    """Say which task it is."""
    e = task.experiment
    return f"{e.policies[0].name} on {e.model.name}, {e.wafer.name}, batch {e.batch}, seed {e.seed}"


def _here(chunks: list[list[Task]], folder: Folder, progress: Progress) -> None:
    """Run the chunks in this process."""
    kept = _Kept(folder, chunks)
    for chunk in chunks:

        def told(what: str, done: int, _: int) -> None:
            if what == "simulating":
                progress("sweep", min(kept.done + done, kept.total), kept.total)

        kept.keep(outcomes_of(chunk, told))
        progress("sweep", kept.done, kept.total)
    kept.end()


def _finish(executor: Executor, chunks: list[list[Task]], folder: Folder, progress: Progress, counts: Any) -> None:
    """Run the chunks on *executor*, and keep each result as it comes."""
    kept = _Kept(folder, chunks)
    path = list(sys.path)
    futures: dict[Future[Results], int] = {
        executor.submit(run_chunk, pickle.dumps(chunk), place, path): place for place, chunk in enumerate(chunks)
    }
    left = set(futures)
    while left:
        ended, left = wait(left, timeout=POLL_S, return_when=FIRST_COMPLETED)
        for future in ended:
            try:
                kept.keep(future.result())
            except ConfigError as error:
                kept.faults += error.faults
        under_way = 0 if counts is None else sum(counts[futures[future]] for future in left)
        progress("sweep", min(kept.done + under_way, kept.total), kept.total)
    kept.end()


@contextmanager
def _dask_executor(address: str) -> Iterator[tuple[Executor, int]]:
    """Return an executor of the cluster at *address*, and how many threads its workers have."""
    try:
        from distributed import Client  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError("--dask: needs dask.distributed; install wss with the extra 'dask'") from None
    try:
        client: Any = Client(address, timeout="10s")  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as error:
        reason = " ".join(str(error).split())[:100]
        raise ConfigError(
            f"--dask {address}: no scheduler answers there ({reason}); start one, or use --workers"
        ) from None
    with client:
        size = sum(client.nthreads().values())
        if not size:
            raise ConfigError(f"--dask {address}: has no workers; start some with `dask worker {address}`")
        yield client.get_executor(pure=False), size


def as_json(value: Any) -> bytes:
    """Return *value* as JSON text, the same for the same value."""
    return (json_text(value) + "\n").encode()
