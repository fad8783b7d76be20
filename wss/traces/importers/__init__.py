"""Importers of recorded routing traces, a module for each kind of source."""

from wss.traces.importers.formats import FORMATS, open_source
from wss.traces.importers.paper_json import MODEL_FOLDERS, open_paper_json
from wss.traces.importers.source import Hints, RouterHints, Source

__all__ = ["FORMATS", "MODEL_FOLDERS", "Hints", "RouterHints", "Source", "open_paper_json", "open_source"]
