"""Placements by name."""

from wss.policies.placement.basic import Contiguous, Placement, Random, Strided
from wss.policies.placement.coactivation import Separated
from wss.policies.placement.dup import Dup
from wss.policies.placement.eplb import Eplb
from wss.policies.placement.hop_replication import Near
from wss.policies.placement.layout_file import LayoutFile, layout_text
from wss.policies.placement.popular import PopularEverywhere
from wss.policies.placement.remap import OracleBest, OracleWorst, Remap

PLACEMENTS: dict[str, type[Placement]] = {
    "contiguous": Contiguous,
    "strided": Strided,
    "random": Random,
    "eplb": Eplb,
    "remap": Remap,
    "dup": Dup,
    "popular": PopularEverywhere,
    "separated": Separated,
    "near": Near,
    "oracle_best": OracleBest,
    "oracle_worst": OracleWorst,
    "file": LayoutFile,
}

REPLICATING = (Eplb, Dup, PopularEverywhere, Near)  # these make up to ``extra`` replicas, limited by free slots

__all__ = ["PLACEMENTS", "REPLICATING", "layout_text"]
