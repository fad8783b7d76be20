"""Routing traces: files, import and export, synthesis, and replay as layer runs."""

from wss.traces.counted import CountedReplay
from wss.traces.reader import TraceReader, write_trace
from wss.traces.recorded import LayerTokens, Replay, RoutingSource
from wss.traces.schema import RequestRouting, TraceMeta
from wss.traces.synthetic.source import SynthReplay

__all__ = [
    "CountedReplay",
    "LayerTokens",
    "Replay",
    "RequestRouting",
    "RoutingSource",
    "SynthReplay",
    "TraceMeta",
    "TraceReader",
    "write_trace",
]
