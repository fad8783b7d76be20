"""The walk from an experiment to its result; the only place where all parts meet."""

from wss.run.walk import Result, run

__all__ = ["Result", "run"]
