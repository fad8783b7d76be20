"""The engine's part of a configuration: networks, and the all-to-all of tokens; without numba and SimPy."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

from annotated_types import Ge, Gt, Le

from wss.errors import CHECKED
from wss.units import Bytes

if TYPE_CHECKING:
    from wss.engine.network.base import NetworkModel
    from wss.engine.network.resources import Resources


class NetworkSpec(Protocol):
    """The network part of a configuration: its kind, and its parameters."""

    def model(self, resources: Resources) -> NetworkModel:
        """Return the network over *resources*."""
        ...


@dataclass(frozen=True, kw_only=True)
class FluidSpec:
    """Reads in flight share HBM ports and links max-min fairly."""

    __pydantic_config__ = CHECKED

    def model(self, resources: Resources) -> NetworkModel:
        """Return the network over *resources*."""
        return _compiled(self, resources)


@dataclass(frozen=True, kw_only=True)
class PacketSpec:
    """Chunks queue at HBM ports and links, first come, first served.

    Each read has a window of chunks in flight.
    """

    __pydantic_config__ = CHECKED

    chunk: Bytes = 64.0 * 2**10
    window: Annotated[int, Ge(1), Le(10**6)] = 32

    def model(self, resources: Resources) -> NetworkModel:
        """Return the network over *resources*."""
        return _compiled(self, resources)


@dataclass(frozen=True, kw_only=True)
class CircuitSpec:
    """A read holds all links of its route; with half duplex, in both directions.

    A read achieves the shares *hbm_share* and *link_share* of the bandwidth of HBM and links.
    """

    __pydantic_config__ = CHECKED

    duplex: Literal["full", "half"] = "full"
    hbm_share: Annotated[float, Gt(0), Le(1)] = 1.0
    link_share: Annotated[float, Gt(0), Le(1)] = 1.0

    def model(self, resources: Resources) -> NetworkModel:
        """Return the network over *resources*."""
        return _compiled(self, resources)


def _compiled(spec: FluidSpec | PacketSpec | CircuitSpec, resources: Resources) -> NetworkModel:
    """Return the compiled network of *spec*."""
    from wss.engine.network.compiled import CompiledModel  # noqa: PLC0415 -- it imports this module

    return CompiledModel(spec, resources)


NETWORKS: dict[str, type[NetworkSpec]] = {"fluid": FluidSpec, "packet": PacketSpec, "circuit": CircuitSpec}

ElementBytes = Annotated[float, Gt(0), Le(8)]


@dataclass(frozen=True, kw_only=True)
class AllToAllSpec:
    """Parameters of dispatch and combine: bytes of a token, how often it is sent, and how tokens are counted.

    Attributes
    ----------
    dispatch_bytes, combine_bytes
        Bytes of one element of the hidden state in dispatch and in combine. None: the activation bytes of `precision`;
        if it states none, FP8 in dispatch and BF16 in combine, as DeepSeek-V3 is served (DeepEP's README: "FP8
        dispatching and BF16 combining"). FP8's scales, 4 bytes per 128 elements there, are not modelled.
    once_per
        "die": a token is sent once to each die that computes any of its experts, and its sum returns once (DeepEP's
        high-throughput kernels inside a node). "expert": once for each expert (its low-latency kernels). "node", for
        GPUs: once to each node, to the GPU with the sender's local index, and from there once to each die; results
        return the same way, summed on each die and then in the node (its high-throughput kernels between nodes). With
        a single node, "node" equals "die".
    counting
        How unique tokens are counted. "expected": from the counts of experts, as if their combinations in
        tokens were random. "exact": from each token's own experts. Not used with `once_per` "expert".
    sharing
        How the flows of a phase share links on the fluid network. "proportional": in proportion to their bytes, as in a
        well-scheduled collective. "max_min": max-min fairly, as reads do. Packets and circuits share as they do for
        reads.
    """

    __pydantic_config__ = CHECKED

    dispatch_bytes: ElementBytes | None = None
    combine_bytes: ElementBytes | None = None
    once_per: Literal["die", "expert", "node"] = "die"
    counting: Literal["expected", "exact"] = field(default="expected", metadata={"option": True})
    sharing: Literal["proportional", "max_min"] = field(default="proportional", metadata={"option": True})

    def filled(self, activations: float | None = None) -> AllToAllSpec:
        """Return the same with all bytes given; *activations* are the bytes per element of a token, if stated."""
        return replace(
            self,
            dispatch_bytes=self.dispatch_bytes or activations or 1.0,
            combine_bytes=self.combine_bytes or activations or 2.0,
        )

    @property
    def needs_tokens(self) -> bool:
        """Whether the experts of each token are required."""
        return self.counting == "exact" and self.once_per != "expert"
