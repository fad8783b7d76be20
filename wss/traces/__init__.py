"""Routing traces: files, import and export, synthesis, and sources of the routing of a run.

The names below are imported when they are first used: reading a configuration needs no Parquet.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wss.traces.reader import TraceReader, write_trace
    from wss.traces.recorded import RecordedRouting
    from wss.traces.schema import RequestRouting, TraceMeta
    from wss.traces.source import Chunk, LayerTokens, RoutingSource, TraceFile
    from wss.traces.synthetic.source import SyntheticRouting

_MODULES = {
    "Chunk": "source",
    "LayerTokens": "source",
    "RecordedRouting": "recorded",
    "RequestRouting": "schema",
    "RoutingSource": "source",
    "SyntheticRouting": "synthetic.source",
    "TraceFile": "source",
    "TraceMeta": "schema",
    "TraceReader": "reader",
    "write_trace": "reader",
}

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


def __getattr__(name: str) -> Any:
    """Return the object *name* of its module."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
