"""How copies of remote experts are kept: whom they serve, where they are written, what room they have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wss.errors import CHECKED


@dataclass(frozen=True, kw_only=True)
class CopyRules:
    """What happens to an expert that a prediction keeps. The defaults are the paper's.

    A die reads an expert at most once in a layer run, so a copy first serves the next step, and the allocation learns
    of it then.

    Parameters
    ----------
    serve
        The dies that may read a copy: its own alone, as the paper translates addresses on each die by a table of its
        own copies; or all, for which each die needs a table of every die's copies.
    llc
        Whether a copy is written to the LLC of its die as well as to the HBM.
    room
        Where copies lie: in what weights and activation buffers leave `free`, or in the `reserve` of the HBM.
    prefill
        Whether copies are made in the prefill too. In the paper, other hardware runs it.
    """

    __pydantic_config__ = CHECKED

    serve: Literal["own_die", "all_dies"] = "own_die"
    llc: bool = True
    room: Literal["free", "reserve"] = "free"
    prefill: bool = False
