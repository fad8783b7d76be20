"""The configuration: from a YAML file to one frozen Experiment."""

from wss.config.experiment import Experiment
from wss.config.load import load, load_synth, quantity
from wss.config.schema import json_schema
from wss.traces.source import TraceFile

__all__ = ["Experiment", "TraceFile", "json_schema", "load", "load_synth", "quantity"]
