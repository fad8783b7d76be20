"""Rules for copies of remote experts: which dies they serve, where they are written, how much space they have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wss.errors import CHECKED


@dataclass(frozen=True, kw_only=True)
class CopyRules:
    """Rules for the experts that a prediction keeps. The defaults are the paper's.

    A die reads an expert at most once per layer run, so a copy is first used in the next step. The allocation's view
    shows it from then on.

    Parameters
    ----------
    serve
        Which dies may read a copy. "own_die": only its own die, as in the paper, where each die translates addresses
        with a table of its own copies. "all_dies": every die; each die then needs a table of every die's copies.
    llc
        Whether a copy is written to the LLC of its die as well as to the HBM.
    room
        Where copies lie. "free": in the bytes that weights and activation buffers leave. "reserve": in the reserve of
        the HBM.
    prefill
        Whether copies are also made during prefill. In the paper, other hardware runs the prefill.
    """

    __pydantic_config__ = CHECKED

    serve: Literal["own_die", "all_dies"] = "own_die"
    llc: bool = True
    room: Literal["free", "reserve"] = "free"
    prefill: bool = False
