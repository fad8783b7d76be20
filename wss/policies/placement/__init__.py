"""Placements: on which dies experts lie before decode."""

from wss.policies.placement.dup import Replicating
from wss.policies.placement.eplb import Eplb
from wss.policies.placement.layout_file import layout_text

REPLICATING = (Eplb, Replicating)  # these make up to ``extra`` replicas, limited by free slots

__all__ = ["REPLICATING", "layout_text"]
