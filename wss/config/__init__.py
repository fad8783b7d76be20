"""The configuration: a YAML file in, one frozen Experiment out."""

from wss.config.experiment import Experiment, TraceFile
from wss.config.load import load, load_synth, quantity
from wss.config.schema import json_schema

__all__ = ["Experiment", "TraceFile", "json_schema", "load", "load_synth", "quantity"]
