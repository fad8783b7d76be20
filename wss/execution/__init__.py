"""Running experiments: experiments in, results out."""

from wss.execution.check import check
from wss.execution.placement import layout_of
from wss.execution.result import Result
from wss.execution.runner import run, run_many

__all__ = ["Result", "check", "layout_of", "run", "run_many"]
