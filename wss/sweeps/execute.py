"""Run the tasks of a sweep in this process, in worker processes, or on a dask cluster.

Workers compute and only this process writes. A worker that dies loses only its current chunk, and a sweep that is
killed resumes from the files already written.
"""

from __future__ import annotations

import pickle
import platform
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from wss.ending import last_words
from wss.errors import ConfigError, OutputError, WssError
from wss.execution.replications import Progress
from wss.files import json_text
from wss.processes import process_pool
from wss.sweeps.folder import Folder
from wss.sweeps.outcome import outcomes_of
from wss.sweeps.tasks import Task, check_outside, chunks_of

Results = list[tuple[str, dict[str, Any] | list[str]]]  # for each task, its key and its result or error lines

ATTEMPTS = 4  # pools started at most if workers are killed
POLL_S = 0.5


@dataclass(frozen=True)
class _ChunkCounter:
    """Progress counter of a chunk: layer runs done, in an array shared between processes, if there is one."""

    number: int

    def __call__(self, what: str, done: int, total: int, where: str) -> None:
        """Record *done* layer runs."""
        if _COUNTS is not None and what == "simulating":
            _COUNTS[self.number] = done


_COUNTS: Any = None  # in a worker: layer runs done, by chunk


def _share(counts: Any, path: Sequence[str]) -> None:
    """Initialise a worker: counts shared with the parent, and the parent's module search path."""
    global _COUNTS
    _COUNTS = counts
    sys.path[:] = path


def run_chunk(packed: bytes, number: int, path: Sequence[str]) -> Results:
    """Run pickled tasks that share their routing; return the key of each, with its result or its error lines.

    Raises ConfigError if this worker cannot load them, or its software, trace or modules differ from the parent's.
    """
    sys.path.extend(entry for entry in path if entry not in sys.path)
    try:
        chunk: list[Task] = pickle.loads(packed)
    except Exception as error:  # a user's module may raise anything
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"worker {platform.node()}: cannot load the tasks ({reason}); give it the modules") from None
    for task in chunk:
        check_outside(task)
    return outcomes_by_key(chunk, _ChunkCounter(number))


def outcomes_by_key(chunk: Sequence[Task], progress: Progress) -> Results:
    """Run tasks together; if that fails, one by one, so that a failing task does not prevent the others."""
    try:
        found = outcomes_of([task.experiment for task in chunk], progress)
        return [(task.key, outcome) for task, outcome in zip(chunk, found, strict=True)]
    except WssError as error:
        if len(chunk) == 1:
            return [(chunk[0].key, [*error.faults])]
        return [outcome for task in chunk for outcome in outcomes_by_key([task], progress)]


def run_sweep(tasks: Sequence[Task], folder: Folder, workers: int, dask: str | None, progress: Progress) -> int:
    """Run the tasks without a result in *folder*, and return their number.

    Parameters
    ----------
    tasks
        All tasks of the sweep.
    folder
        Folder of the results.
    workers
        Number of processes; with 1, tasks run in this process.
    dask
        Address of a dask scheduler, to run tasks on its workers instead.
    progress
        Called with the number of layer runs done and in total; earlier results do not count.

    Raises
    ------
    WssError
        If tasks fail, with the error lines of each; the other tasks are done and kept.
    OutputError
        If a result cannot be written, or workers keep dying; finished tasks are kept.
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
            except Exception as error:  # such as a lost scheduler, or workers that keep dying
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
                raise OutputError(
                    f"--dask {dask}: the cluster failed ({reason}); run the same command again to resume"
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
                pass  # a worker was killed; retry the missing tasks
            except BaseException:
                for process in list(pool._processes.values()):  # their results are no longer needed
                    process.kill()
                raise
        missing = {key: task for key, task in missing.items() if folder.read(key) is None}
    if missing:
        raise OutputError(
            f"worker processes were killed {ATTEMPTS} times, {len(missing)} tasks are left "
            "(is there too little memory? try fewer --workers); run the same command again to resume"
        )
    return count


class _Kept:
    """Writes results as they arrive, and collects the error lines of failed tasks, each with the task's description."""

    def __init__(self, folder: Folder, chunks: Sequence[Sequence[Task]]) -> None:
        self._folder = folder
        self._tasks = {task.key: task for chunk in chunks for task in chunk}
        self.total = sum(task.layer_runs for task in self._tasks.values())
        self.done, self._tasks_done = 0, 0
        self.faults: list[str] = []

    @property
    def counted(self) -> str:
        """How many tasks are done, as text."""
        return f"{self._tasks_done} of {len(self._tasks)} tasks"

    def keep(self, results: Results) -> None:
        """Write the results of a chunk."""
        for key, result in results:
            self.done += self._tasks[key].layer_runs
            self._tasks_done += 1
            if isinstance(result, list):
                self.faults += [f"{_point_of(self._tasks[key])}: {fault}" for fault in result]
            else:
                self._folder.write(key, result)
                _say_kept(self._folder)

    def end(self) -> None:
        """Raise the errors, if there are any."""
        if self.faults:
            raise ConfigError(*dict.fromkeys(self.faults))


def _say_kept(folder: Folder) -> None:
    """Set the message printed when a signal ends this process: how many tasks are kept."""
    last_words(f"interrupted: {folder.kept} tasks are done and kept; run the same command again to resume")


def _point_of(task: Task) -> str:
    """Return a description of *task* for messages."""
    e = task.experiment
    return f"{e.policies[0].name} on {e.model.name}, {e.wafer.name}, batch {e.batch}, seed {e.seed}"


def _here(chunks: list[list[Task]], folder: Folder, progress: Progress) -> None:
    """Run the chunks in this process."""
    kept = _Kept(folder, chunks)
    for chunk in chunks:

        def report(what: str, done: int, _: int, where: str) -> None:
            if what == "simulating":
                progress("sweep", min(kept.done + done, kept.total), kept.total, f"{kept.counted}; {where}")

        kept.keep(outcomes_by_key(chunk, report))
        progress("sweep", kept.done, kept.total, kept.counted)
    kept.end()


def _finish(executor: Executor, chunks: list[list[Task]], folder: Folder, progress: Progress, counts: Any) -> None:
    """Run the chunks on *executor*, and write each result as it arrives."""
    kept = _Kept(folder, chunks)
    path = list(sys.path)
    futures: dict[Future[Results], int] = {
        executor.submit(run_chunk, pickle.dumps(chunk), number, path): number for number, chunk in enumerate(chunks)
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
        progress("sweep", min(kept.done + under_way, kept.total), kept.total, kept.counted)
    kept.end()


@contextmanager
def _dask_executor(address: str) -> Iterator[tuple[Executor, int]]:
    """Yield an executor of the cluster at *address*, and the number of threads of its workers."""
    try:
        from distributed import Client  # noqa: PLC0415 - an extra
    except ImportError:
        raise ConfigError("--dask: needs dask.distributed; install wss with the extra 'dask'") from None
    try:
        client: Any = Client(address, timeout="10s")  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as error:
        what = f"--dask {address}: no scheduler answers there ({' '.join(str(error).split())[:100]})"
        raise ConfigError(f"{what}; start one, or use --workers") from None
    with client:
        size = sum(client.nthreads().values())
        if not size:
            raise ConfigError(f"--dask {address}: has no workers; start some with `dask worker {address}`")
        yield client.get_executor(pure=False), size


def as_json(value: Any) -> bytes:
    """Return *value* as JSON text; equal values give equal bytes."""
    return (json_text(value) + "\n").encode()
