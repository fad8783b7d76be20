"""Presets of wafers and of nodes of GPUs, with the sources of their figures; to add one is to add an entry."""

from __future__ import annotations

from dataclasses import replace

from wss.hardware.specs import DieSpec, HbmSpec, LinkSpec, LlcSpec, SwitchedSpec, SystemSpec, WaferSpec
from wss.presets import Presets

_H100_LIKE = DieSpec(flops={"fp16": 989e12, "fp8": 1979e12}, hbm=HbmSpec(bandwidth=3.35e12, size=80e9))
_D2D = LinkSpec(bandwidth=1.7e12)
_PAPER = "arXiv 2510.05497, hardware table"

# Bandwidths are the datasheets'. No latency of an idle read from another H100 is published: 1 us there and back in a
# node and 2.4 us between nodes are assumed; they are small beside the 84 us in which NVLink carries 38 MB.
# A read over NVLink requests cache lines of 128 B. A read between nodes requests messages of 1 MiB (assumed) with
# headers of 42 B (InfiniBand: LRH 8, BTH 12, RETH 16, CRCs 6).
_H100_SXM = replace(_H100_LIKE, llc=LlcSpec(size=50e6))

_PRESETS: dict[str, SystemSpec] = {
    "dojo": WaferSpec(
        name="dojo",
        mesh=(5, 5),
        die=_H100_LIKE,
        link=_D2D,
        source=f"{_PAPER}: Dojo-like 5 x 5; FP8 peak from the H100 SXM datasheet",
    ),
    "tsmc_sow": WaferSpec(
        name="tsmc_sow",
        mesh=(3, 8),
        die=_H100_LIKE,
        link=_D2D,
        source=f"{_PAPER}: TSMC-SoW-like 3 x 8; FP8 peak from the H100 SXM datasheet",
    ),
    "dojo_enhanced": WaferSpec(
        name="dojo_enhanced",
        mesh=(5, 5),
        die=DieSpec(
            flops={"fp16": 4500e12, "fp8": 9000e12, "fp4": 18000e12},
            hbm=HbmSpec(bandwidth=8e12, size=180e9),
            llc=LlcSpec(bandwidth=18e12),
        ),
        link=LinkSpec(bandwidth=2e12),
        source=f"{_PAPER}: Dojo-Enhanced, B300-like; the FP8 and FP4 peaks double the paper's FP16 figure, "
        "the LLC is twice as fast (ours)",
    ),
    "h100_nvl8": SwitchedSpec(
        name="h100_nvl8",
        gpus=8,
        die=_H100_SXM,
        link=LinkSpec(bandwidth=450e9, latency=250e-9, granule=128.0),
        nic=LinkSpec(bandwidth=63e9, latency=300e-9, request=42.0, granule=2.0**20),
        fabric=LinkSpec(bandwidth=50e9, latency=300e-9, request=42.0, granule=2.0**20),
        source="H100 SXM datasheet (80 GB at 3.35 TB/s, NVLink 900 GB/s both ways, L2 50 MB); DGX H100: a ConnectX-7 "
        "of 400 Gb/s on PCIe 5.0 x16 for each GPU; latencies assumed",
    ),
}
WAFERS: Presets[SystemSpec] = Presets("WAFERS", _PRESETS)
