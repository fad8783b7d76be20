"""What a policy may see of a kernel: read-only arrays, no clock, nothing that has not happened yet."""

from __future__ import annotations

from dataclasses import dataclass

from wss.records import BoolArray, IntArray


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What things cost on an idle wafer, in seconds; policies weigh with these, the engine does not use them.

    Attributes
    ----------
    hbm_read
        Reading one expert from an HBM.
    link_read
        Moving one expert over a D2D link.
    hop
        Latency of one hop, there and back.
    token
        Computing one token of one expert.
    latency
        From the issue of a read from the own HBM to its first byte.
    tile
        Tokens of one expert are computed in whole tiles of so many.
    request
        Bytes of requests, against the stream, for each byte that is read over links.
    """

    hbm_read: float
    link_read: float
    hop: float
    token: float
    latency: float = 0.0
    tile: int = 1
    request: float = 0.0


@dataclass(frozen=True, eq=False, kw_only=True)
class KernelView:
    """One MoE kernel as it is launched.

    Attributes
    ----------
    layer
        Index among the MoE layers that are run, from 0.
    counts
        Tokens routed to each expert, [experts].
    order
        The experts with tokens, first seen first, [active experts].
    home
        The die that each expert was placed on (the first of them, where there are several), [experts].
    holders
        Which dies hold each expert in their HBM, placed or copied, [experts, dies].
    hops
        Links on the way from one die to another, [dies, dies].
    routes
        Numbers of these links, first link first, -1 after the last, [dies, dies, longest route].
    costs
        What a policy may weigh with.
    """

    layer: int
    counts: IntArray
    order: IntArray
    home: IntArray
    holders: BoolArray
    hops: IntArray
    routes: IntArray
    costs: Costs

    @property
    def num_dies(self) -> int:
        """How many dies there are."""
        return len(self.hops)
