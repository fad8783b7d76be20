"""The walk: experiment in, result out."""

from wss.run.group import check, simulate
from wss.run.walk import Result, run

__all__ = ["Result", "check", "run", "simulate"]
