"""Running experiments: experiments in, results out."""

from wss.execution.check import check
from wss.execution.placement import layout_of
from wss.execution.result import Result
from wss.execution.routing import open_routing
from wss.execution.runner import run, run_many
from wss.execution.transfers import Scenario, read_scenario, run_flows

__all__ = ["Result", "Scenario", "check", "layout_of", "open_routing", "read_scenario", "run", "run_flows", "run_many"]
