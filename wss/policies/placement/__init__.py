"""Placements: on which dies experts lie before decode."""

from wss.policies.placement.dup import Dup
from wss.policies.placement.eplb import Eplb
from wss.policies.placement.hop_replication import Near
from wss.policies.placement.layout_file import layout_text
from wss.policies.placement.popular import PopularEverywhere

REPLICATING = (Eplb, Dup, PopularEverywhere, Near)  # these make up to ``extra`` replicas, limited by free slots

__all__ = ["REPLICATING", "layout_text"]
