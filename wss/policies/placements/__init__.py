"""The placements by name."""

from wss.policies.placement import Contiguous, Placement, Random, Strided
from wss.policies.placements.dup import Dup
from wss.policies.placements.eplb import Eplb
from wss.policies.placements.layouts import LayoutFile, layout_text
from wss.policies.placements.near import Near
from wss.policies.placements.popular import PopularEverywhere
from wss.policies.placements.remap import OracleBest, OracleWorst, Remap
from wss.policies.placements.separated import Separated

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

REPLICATING = (Eplb, Dup, PopularEverywhere, Near)  # those that make ``extra`` copies, as far as there is room

__all__ = ["PLACEMENTS", "REPLICATING", "layout_text"]
