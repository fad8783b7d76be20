"""What the engine asks of a network: start a read, and say afterwards what each resource carried."""

from __future__ import annotations

from typing import Protocol

import simpy

from wss.engine.fluid import FluidModel
from wss.hardware.wafer import Wafer
from wss.records import Carried


class Network(Protocol):
    """A network at work, bound to one clock."""

    def read(self, source: int, die: int, nbytes: float, copy: bool) -> simpy.Event:
        """Bring *nbytes* from the HBM of *source* to *die*, written to its HBM too if *copy*.

        The event happens when the last byte is there; its value is that time.
        """
        ...

    def carried(self) -> Carried:
        """Return what has been carried so far."""
        ...


class NetworkModel(Protocol):
    """A network at rest: what depends on the wafer alone, made once."""

    def __init__(self, wafer: Wafer) -> None: ...

    def start(self, env: simpy.Environment) -> Network:
        """Put the network to work under the clock *env*."""
        ...


NETWORKS: dict[str, type[NetworkModel]] = {"fluid": FluidModel}
