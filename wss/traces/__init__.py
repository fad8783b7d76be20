"""Routing traces: on disk, from others, made up, and replayed as kernels."""

from wss.traces.counted import CountedReplay
from wss.traces.replay import Kernel, Kernels, Replay
from wss.traces.schema import RequestRouting, TraceMeta
from wss.traces.stepped import SynthReplay
from wss.traces.store import TraceReader, write_trace

__all__ = [
    "CountedReplay",
    "Kernel",
    "Kernels",
    "Replay",
    "RequestRouting",
    "SynthReplay",
    "TraceMeta",
    "TraceReader",
    "write_trace",
]
