"""Datasheets of a wafer, or of a cluster of GPUs: dies, memories and links.

All numbers are SI here; a configuration gives them with units. The presets state the sources of their figures.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from annotated_types import Ge, Lt

from wss.errors import CHECKED, of_sound_fields
from wss.units import Bytes, BytesOrZero, BytesPerSecond, FlopPerSecond, Seconds

Precision = Literal["fp16", "fp8", "fp4"]  # as in wss.models, which wss.hardware does not import


@dataclass(frozen=True, kw_only=True)
class HbmSpec:
    """The HBM of one die; *reserve* is the share of its size that weights and copies may not use."""

    __pydantic_config__ = CHECKED

    bandwidth: BytesPerSecond
    size: Bytes
    latency: Seconds = 300e-9
    reserve: Annotated[float, Ge(0), Lt(1)] = 0.1


@dataclass(frozen=True, kw_only=True)
class LlcSpec:
    """The last-level cache of one die.

    A hit is read at its bandwidth. The default is 5120 B per cycle, as NVIDIA gives for the A100's L2, at 1.755 GHz.
    """

    __pydantic_config__ = CHECKED

    size: BytesOrZero = 64.0 * 2**20
    bandwidth: BytesPerSecond = 8.99e12
    hit: Seconds = 100e-9
    miss: Seconds = 110e-9
    write: Seconds = 30e-9


@dataclass(frozen=True, kw_only=True)
class DieSpec:
    """One GPU die: peak FLOP/s by precision, SMs (which run the tiles of a GEMM), HBM and LLC."""

    __pydantic_config__ = CHECKED

    flops: dict[Precision, FlopPerSecond]
    sms: Annotated[int, Ge(1)] = 132
    hbm: HbmSpec
    llc: LlcSpec = field(default_factory=LlcSpec)


@dataclass(frozen=True, kw_only=True)
class LinkSpec:
    """One D2D link, in one direction. A read requests its data in granules, with one request each."""

    __pydantic_config__ = CHECKED

    bandwidth: BytesPerSecond
    latency: Seconds = 200e-9
    request: BytesOrZero = 16.0
    granule: Bytes = 64.0


@dataclass(frozen=True, kw_only=True)
class WaferSpec:
    """A mesh of X x Y equal dies joined by D2D links; die (x, y) has the index y + x·Y."""

    __pydantic_config__ = CHECKED

    name: str = "given in the configuration"
    mesh: tuple[Annotated[int, Ge(1)], Annotated[int, Ge(1)]]
    die: DieSpec
    link: LinkSpec
    source: str = "given in the configuration"

    @of_sound_fields
    def __post_init__(self) -> None:
        if self.mesh[0] * self.mesh[1] > 1024:
            raise ValueError(f"mesh {self.mesh[0]} x {self.mesh[1]} has more than 1024 dies; give a smaller mesh")


@dataclass(frozen=True, kw_only=True)
class SwitchedSpec:
    """Nodes of equal GPUs; GPU g of node n is the die (n, g) and has the index g + n·gpus.

    Parameters
    ----------
    nodes, gpus
        Number of nodes, and of GPUs per node.
    die
        A GPU.
    link
        A GPU's port to the switch of its node, in one direction; all of the GPU's traffic inside the node in that
        direction shares it.
    nic
        A GPU's port to its own network card, in one direction.
    fabric
        The card's port to the network between the nodes, which carries whatever the cards can send. A single node has
        neither cards nor fabric.
    """

    __pydantic_config__ = CHECKED

    name: str = "given in the configuration"
    nodes: Annotated[int, Ge(1)] = 1
    gpus: Annotated[int, Ge(1)]
    die: DieSpec
    link: LinkSpec
    nic: LinkSpec
    fabric: LinkSpec
    source: str = "given in the configuration"

    @of_sound_fields
    def __post_init__(self) -> None:
        if self.nodes * self.gpus > 1024:
            raise ValueError(f"nodes {self.nodes} of {self.gpus} GPUs are more than 1024 dies; give fewer nodes")


SystemSpec = WaferSpec | SwitchedSpec


_H100_LIKE = DieSpec(flops={"fp16": 989e12, "fp8": 1979e12}, hbm=HbmSpec(bandwidth=3.35e12, size=80e9))
_D2D = LinkSpec(bandwidth=1.7e12)
_PAPER = "arXiv 2510.05497, hardware table"

# Bandwidths are the datasheets'. No latency of an idle read from another H100 is published: 1 us there and back in a
# node and 2.4 us between nodes are assumed; they are small beside the 84 us in which NVLink carries 38 MB.
# A read over NVLink requests cache lines of 128 B. A read between nodes requests messages of 1 MiB (assumed) with
# headers of 42 B (InfiniBand: LRH 8, BTH 12, RETH 16, CRCs 6).
_H100_SXM = replace(_H100_LIKE, llc=LlcSpec(size=50e6))

WAFERS: dict[str, SystemSpec] = {
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
