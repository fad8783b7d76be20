"""Datasheets of a wafer, or of a cluster of GPUs: dies, memories and links.

All numbers are SI here; a configuration gives them with units.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
