"""The network interface: start a read, and report the traffic of each resource."""

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
    """A running network, bound to one clock."""

    def read(self, source: int, die: int, nbytes: float, copy: bool, hit: bool = False) -> simpy.Event:
        """Transfer *nbytes* to *die* from the HBM of *source*, or its LLC if *hit*; if *copy*, into its HBM too.

        The event occurs when the last byte arrives; its value is that time.
        """
        ...

    def carried(self) -> Traffic:
        """Return the traffic so far."""
        ...


class NetworkModel(Protocol):
    """The part of a network that depends only on the wafer; built once."""

    def start(self, env: simpy.Environment) -> Network:
        """Return a running network on the clock *env*."""
        ...


class NetworkSpec(Protocol):
    """The network part of a configuration: its kind, and its parameters."""

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
    """Chunks queue first come, first served at each resource; each read has a window of chunks in flight."""

    __pydantic_config__ = CHECKED

    chunk: Bytes = 64.0 * 2**10
    window: Annotated[int, Ge(1), Le(10**6)] = 32

    def model(self, wafer: Wafer) -> NetworkModel:
        """Return the network of *wafer*."""
        return PacketModel(wafer, self.chunk, self.window)


@dataclass(frozen=True, kw_only=True)
class CircuitSpec:
    """A read holds its whole route; with half duplex, both directions of its links.

    A read achieves the shares *hbm_share* and *link_share* of the bandwidth of HBM and links.
    """

    __pydantic_config__ = CHECKED

    duplex: Literal["full", "half"] = "full"
    hbm_share: Annotated[float, Gt(0), Le(1)] = 1.0
    link_share: Annotated[float, Gt(0), Le(1)] = 1.0

    def model(self, wafer: Wafer) -> NetworkModel:
        """Return the network of *wafer*."""
        return CircuitModel(wafer, self.duplex, self.hbm_share, self.link_share)


NETWORKS: dict[str, type[NetworkSpec]] = {"fluid": FluidSpec, "packet": PacketSpec, "circuit": CircuitSpec}
