"""Rates of a wafer under the paper's physics: the artifact's rates, scaled by the wafer's datasheet over Dojo's.

A wafer with twice Dojo's peak FLOP/s, HBM bandwidth or link bandwidth computes, reads or sends twice as fast as the
artifact's machine. Its latencies, its LLC and its achieved shares of peak remain those of the artifact.
"""

from __future__ import annotations

from typing import NamedTuple

from wss.engine.paper.machine import DRAM_BYTES_PER_NS, FLOP_PER_NS, LINK_BYTES_PER_NS, LINK_SHARE
from wss.hardware import WAFERS, SystemSpec


class Rates(NamedTuple):
    """Speed of a wafer relative to the artifact's machine: compute, HBM reads, and links."""

    compute: float = 1.0
    dram: float = 1.0
    link: float = 1.0

    @property
    def flop_per_ns(self) -> float:
        """Peak FLOP per ns."""
        return FLOP_PER_NS * self.compute

    @property
    def dram_bytes_per_ns(self) -> float:
        """Peak bytes per ns of one HBM."""
        return DRAM_BYTES_PER_NS * self.dram

    @property
    def link_bytes_per_ns(self) -> float:
        """Achieved bytes per ns of a link."""
        return LINK_BYTES_PER_NS * self.link * LINK_SHARE


def rates_of(spec: SystemSpec) -> Rates:
    """Return the rates of a wafer: its datasheet over Dojo's."""
    dojo = WAFERS["dojo"]
    return Rates(
        compute=spec.die.flops["fp16"] / dojo.die.flops["fp16"],
        dram=spec.die.hbm.bandwidth / dojo.die.hbm.bandwidth,
        link=spec.link.bandwidth / dojo.link.bandwidth,
    )
