"""Running experiments: experiment in, result out."""

from wss.execution.lockstep import check, simulate
from wss.execution.placement import layout_of
from wss.execution.result import Result
from wss.execution.runner import run

__all__ = ["Result", "check", "layout_of", "run", "simulate"]
