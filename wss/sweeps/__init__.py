"""Sweeps: many experiments, run in parallel and resumable; each task has its own file."""

from wss.sweeps.check import Moved, check_same, compare, expected_of, expected_path
from wss.sweeps.execute import run_sweep
from wss.sweeps.folder import Folder
from wss.sweeps.tasks import Task, tasks_of

__all__ = [
    "Folder",
    "Moved",
    "Task",
    "check_same",
    "compare",
    "expected_of",
    "expected_path",
    "run_sweep",
    "tasks_of",
]
