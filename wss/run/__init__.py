"""The walk: experiment in, result out."""

from wss.run.group import check, simulate
from wss.run.layout import layout_of
from wss.run.walk import Result, run

__all__ = ["Result", "check", "layout_of", "run", "simulate"]
