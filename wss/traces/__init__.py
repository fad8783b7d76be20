"""Routing traces: files, import and export, synthesis, and sources of the routing of a run."""

from wss.traces.reader import TraceReader, write_trace
from wss.traces.recorded import RecordedRouting
from wss.traces.schema import RequestRouting, TraceMeta
from wss.traces.source import Chunk, LayerTokens, RoutingSource, TraceFile
from wss.traces.synthetic.source import SyntheticRouting

__all__ = [
    "Chunk",
    "LayerTokens",
    "RecordedRouting",
    "RequestRouting",
    "RoutingSource",
    "SyntheticRouting",
    "TraceFile",
    "TraceMeta",
    "TraceReader",
    "write_trace",
]
