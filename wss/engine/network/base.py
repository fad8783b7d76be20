"""What the engine asks of a network: start a read, and say afterwards what each resource carried."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

import simpy
from annotated_types import Ge, Gt, Le

from wss.engine.network.circuit import CircuitModel
from wss.engine.network.fluid import FluidModel
from wss.engine.network.packet import PacketModel
from wss.errors import CHECKED
from wss.hardware.wafer import Wafer
from wss.records import Traffic
from wss.units import Bytes


class Network(Protocol):
    """A network at work, bound to one clock."""

    def read(self, source: int, die: int, nbytes: float, copy: bool, hit: bool = False) -> simpy.Event:
        """Bring *nbytes* from the HBM of *source*, or from its LLC if *hit*, to *die*; into its HBM too if *copy*.

        The event happens when the last byte is there; its value is that time.
        """
        ...

    def carried(self) -> Traffic:
        """Return what has been carried so far."""
        ...


class NetworkModel(Protocol):
    """A network at rest: what depends on the wafer alone, made once."""

    def start(self, env: simpy.Environment) -> Network:
        """Put the network to work under the clock *env*."""
        ...


class NetworkSpec(Protocol):
    """What a configuration says of a network: its kind, and its parameters."""

    def model(self, wafer: Wafer) -> NetworkModel:
        """Return the network of *wafer*."""
        ...


@dataclass(frozen=True, kw_only=True)
class FluidSpec:
    """Reads in flight share HBM ports and links max-min fairly."""

    __pydantic_config__ = CHECKED

    def model(self, wafer: Wafer) -> NetworkModel:
        """Return the network of *wafer*."""
        return FluidModel(wafer)


@dataclass(frozen=True, kw_only=True)
class PacketSpec:
    """Chunks queue first come, first served at each resource; a window of them is under way for each read."""

    __pydantic_config__ = CHECKED

    chunk: Bytes = 64.0 * 2**10
    window: Annotated[int, Ge(1), Le(10**6)] = 32

    def model(self, wafer: Wafer) -> NetworkModel:
        """Return the network of *wafer*."""
        return PacketModel(wafer, self.chunk, self.window)


@dataclass(frozen=True, kw_only=True)
class CircuitSpec:
    """A read holds its whole route; with half duplex, both directions of its links.

    Of the bandwidth of HBMs and links a read achieves the shares *hbm_share* and *link_share*.
    """

    __pydantic_config__ = CHECKED

    duplex: Literal["full", "half"] = "full"
    hbm_share: Annotated[float, Gt(0), Le(1)] = 1.0
    link_share: Annotated[float, Gt(0), Le(1)] = 1.0

    def model(self, wafer: Wafer) -> NetworkModel:
        """Return the network of *wafer*."""
        return CircuitModel(wafer, self.duplex, self.hbm_share, self.link_share)


NETWORKS: dict[str, type[NetworkSpec]] = {"fluid": FluidSpec, "packet": PacketSpec, "circuit": CircuitSpec}
