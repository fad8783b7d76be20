"""The functions of ``import wss``. They read what they are given and call what exists; nothing is computed here."""

from wss.api.experiments import load, run, run_many
from wss.api.settings import Settings
from wss.api.sweeps import SweepResult, sweep
from wss.api.traces import open_trace, write_trace

__all__ = ["Settings", "SweepResult", "load", "open_trace", "run", "run_many", "sweep", "write_trace"]
