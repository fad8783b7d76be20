"""How fast a wafer is under the paper's physics: the artifact's own rates, in proportion to its datasheet over Dojo's.

A wafer with twice Dojo's peak FLOP/s, HBM bandwidth or link bandwidth computes, reads or sends twice as fast as the
artifact's machine does. Its latencies, its LLC and the shares of peak that it achieves stay those of the artifact.
"""

from __future__ import annotations

from typing import NamedTuple

from wss.engine.paper.machine import DRAM_BYTES_PER_NS, FLOP_PER_NS, LINK_BYTES_PER_NS, LINK_SHARE
from wss.hardware import WAFERS, SystemSpec


class Rates(NamedTuple):
    """How many times as fast as the artifact's machine a wafer computes, reads from HBM, and sends over a link."""

    compute: float = 1.0
    dram: float = 1.0
    link: float = 1.0

    @property
    def flop_per_ns(self) -> float:
        """Peak FLOP a ns."""
        return FLOP_PER_NS * self.compute

    @property
    def dram_bytes_per_ns(self) -> float:
        """Peak bytes a ns of one HBM."""
        return DRAM_BYTES_PER_NS * self.dram

    @property
    def link_bytes_per_ns(self) -> float:
        """Bytes a ns of a link, as far as they are achieved."""
        return LINK_BYTES_PER_NS * self.link * LINK_SHARE


def rates_of(spec: SystemSpec) -> Rates:
    """Return the rates of a wafer: what its datasheet has over what Dojo's has."""
    dojo = WAFERS["dojo"]
    return Rates(
        compute=spec.die.flops["fp16"] / dojo.die.flops["fp16"],
        dram=spec.die.hbm.bandwidth / dojo.die.hbm.bandwidth,
        link=spec.link.bandwidth / dojo.link.bandwidth,
    )
