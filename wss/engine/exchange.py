"""The all-to-all of token activations round a kernel: dispatch to the dies that compute, combine back to the owners.

The tokens of the batch are spread evenly over the D dies by their attention part, whose tokens are routed alike. Die d
gets n_d tokens, n_d/D from each die, its own among them, which cross no link. What it makes of them goes back the same
way. Dispatch ends before the first expert begins, and combine begins after the last one has ended:

    kernel time = dispatch + experts + combine

How long each phase takes is a matter of the network, `CARRIERS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from annotated_types import Gt, Le

from wss.engine.circuits import CircuitModel
from wss.engine.held import held_flows
from wss.engine.network import CircuitSpec, FluidSpec, NetworkSpec, PacketSpec
from wss.engine.packet import packet_flows
from wss.errors import CHECKED, ConfigError
from wss.hardware.wafer import Wafer
from wss.records import BoolArray, Exchanged, FloatArray, IntArray, Plan

ElementBytes = Annotated[float, Gt(0), Le(8)]


@dataclass(frozen=True, kw_only=True)
class Dispatch:
    """What the dies send one another: tokens, spread evenly over them, to where their experts are computed, and back.

    Attributes
    ----------
    dispatch_bytes, combine_bytes
        Bytes of one element of the hidden state on its way to the experts and back. By default FP8 there and BF16 back,
        as DeepSeek-V3 is served (DeepEP's README: "FP8 dispatching and BF16 combining"); FP8's scales, 4 bytes for 128
        elements there, are left out.
    once_per
        A token goes once to each die that computes any of its experts, and comes back once, summed there (DeepEP's
        high-throughput kernels inside a node); or once for each expert (its low-latency kernels).
    """

    __pydantic_config__ = CHECKED

    dispatch_bytes: ElementBytes = 1.0
    combine_bytes: ElementBytes = 2.0
    once_per: Literal["die", "expert"] = "die"

    def received(self, plan: Plan, top_k: int, num_dies: int) -> FloatArray:
        """Return how many tokens each die is sent, those that it has itself included, [dies]."""
        if self.once_per == "expert":
            return np.bincount(plan.die, plan.tokens, num_dies).astype(np.float64)
        return distinct_tokens(plan, top_k, num_dies)


def distinct_tokens(plan: Plan, top_k: int, num_dies: int) -> FloatArray:
    """Return of how many different tokens each die computes anything, as expected from the counts alone, [dies].

    Of N tokens a share p_i is in part i of the die, an expert's tokens there. A token has top_k different experts, so
    of those that are in none of the parts before i, a share p_i · k / (k - p_1 - ... - p_(i-1)) is in i: what is left
    of its k choices falls on the experts that are left. Parts are taken with most tokens first. This is exact if every
    expert is as likely (the hypergeometric distribution), if top_k is 1, and for one die; it is never less than the
    largest part nor more than all parts together, and over all dies never less than N. Which experts a token has
    together is taken to be chance.
    """
    order = np.lexsort((-plan.tokens, plan.die))
    die, share = plan.die[order], plan.tokens[order] * (top_k / plan.tokens.sum())
    before = np.cumsum(share) - share
    before -= before[np.searchsorted(die, die)]
    none_of = np.ones(num_dies)
    np.multiply.at(none_of, die, np.clip(1.0 - share * top_k / np.maximum(top_k - before, share), 0.0, 1.0))
    received: FloatArray = plan.tokens.sum() / top_k * (1.0 - none_of)
    return received


class Way(NamedTuple):
    """The flows of one phase, one for each pair of dies.

    Attributes
    ----------
    paths, lengths
        Links of each flow and how many they are, [flows, longest] and [flows].
    latency
        Seconds over the links of each flow, [flows].
    """

    paths: IntArray
    lengths: IntArray
    latency: FloatArray

    def only(self, flows: BoolArray) -> Way:
        """Return the way of some *flows* alone, [flows]."""
        return Way(self.paths[flows], self.lengths[flows], self.latency[flows])

    def loads(self, nbytes: FloatArray, num_links: int) -> FloatArray:
        """Return the bytes over each link, [links], of flows of *nbytes*, [flows]."""
        links = self.paths[self.paths >= 0]
        return np.bincount(links, np.repeat(nbytes, self.lengths), num_links).astype(np.float64)


class Carrying(NamedTuple):
    """What a network made of a phase: when it ends (s), bytes and busy seconds of each link, [links] each."""

    end: float
    carried: FloatArray
    busy: FloatArray


Carrier = Callable[[Way, FloatArray], Carrying]


def _fluid(_: FluidSpec, wafer: Wafer) -> Carrier:
    """Return how fluid flows share links: in proportion to their bytes, as a well-scheduled collective does.

    All flows over the busiest link then end together, when it has carried everything; the same holds of the next
    busiest for the rest. So a flow ends its latency after its busiest link would have carried all that is to cross it.
    Max-min fair rates of equal weight take as long where a link stays full to the end (docs/model.md).
    """

    def carry(way: Way, nbytes: FloatArray) -> Carrying:
        loads = way.loads(nbytes, wafer.num_links)
        seconds = loads / wafer.link_bandwidth
        slowest = np.where(way.paths >= 0, seconds[way.paths], 0.0).max(axis=1)
        return Carrying(float((way.latency + slowest).max()), loads, seconds)

    return carry


def _packet(spec: PacketSpec, wafer: Wafer) -> Carrier:
    """Return how chunks queue at each link, first come, first served; flows that start together take turns."""

    def carry(way: Way, nbytes: FloatArray) -> Carrying:
        start = np.zeros(len(nbytes))
        finish, busy = packet_flows(
            start, nbytes, spec.chunk, spec.window, way.paths, way.lengths, wafer.link_bandwidth, wafer.link_latency
        )
        return Carrying(float(finish.max()), busy * wafer.link_bandwidth, busy)

    return carry


def _circuit(spec: CircuitSpec, wafer: Wafer) -> Carrier:
    """Return how transfers hold whole routes, in the order of the flows, none overtaking another."""
    model = CircuitModel(wafer, spec.duplex)
    resource = model.shared[model.is_link] - wafer.num_dies
    bandwidth = wafer.link_bandwidth * spec.link_share

    def carry(way: Way, nbytes: FloatArray) -> Carrying:
        start = np.zeros(len(nbytes))
        finish, busy = held_flows(start, nbytes, way.paths, way.lengths, resource, bandwidth, wafer.link_latency)
        return Carrying(float(finish.max()), way.loads(nbytes, wafer.num_links), busy)

    return carry


CARRIERS: dict[type, Callable[[Any, Wafer], Carrier]] = {
    FluidSpec: _fluid,
    PacketSpec: _packet,
    CircuitSpec: _circuit,
}


class Exchange:
    """The exchange of one model's tokens on one wafer."""

    def __init__(self, dispatch: Dispatch, network: NetworkSpec, wafer: Wafer, hidden: int, top_k: int) -> None:
        if type(network) not in CARRIERS:
            name = type(network).__name__
            raise ConfigError(f"dispatch: the network {name} carries reads alone; give one of fluid, packet, circuit")
        self._dispatch, self._top_k, self._dies = dispatch, top_k, wafer.num_dies
        self._there_bytes, self._back_bytes = hidden * dispatch.dispatch_bytes, hidden * dispatch.combine_bytes
        self._carry = CARRIERS[type(network)](network, wafer)
        # in turns: first every die with the one after it, then with the one after that, and so on
        source, turn = (array.ravel() for array in np.indices((self._dies, self._dies))[:, :, 1:])
        order = np.argsort(turn, kind="stable")
        source, die = source[order], (source[order] + turn[order]) % self._dies
        self._die = die
        self._there, self._back = _way(wafer, source, die), _way(wafer, die, source)
        self._nothing = Carrying(0.0, np.zeros(wafer.num_links), np.zeros(wafer.num_links))

    def run(self, plan: Plan) -> Exchanged:
        """Return what it takes to bring the tokens of *plan* to their experts and the results back."""
        received = self._dispatch.received(plan, self._top_k, self._dies)
        flows = received[self._die] / self._dies
        some = flows > 0  # a flow of no bytes is none: it would take its hops, and hold them
        there, back = self._nothing, self._nothing
        if some.any():
            there = self._carry(self._there.only(some), flows[some] * self._there_bytes)
            back = self._carry(self._back.only(some), flows[some] * self._back_bytes)
        return Exchanged(
            tokens=float(plan.tokens.sum()) / self._top_k,
            received=received,
            there_bytes=self._there_bytes,
            back_bytes=self._back_bytes,
            dispatch=there.end,
            combine=back.end,
            link_bytes=there.carried + back.carried,
            link_busy=there.busy + back.busy,
        )


def _way(wafer: Wafer, source: IntArray, die: IntArray) -> Way:
    """Return the flows from each *source* to its *die*, [flows] each."""
    paths = np.ascontiguousarray(wafer.routes[source, die])
    latency = np.where(paths >= 0, wafer.link_latency[paths], 0.0).sum(axis=1)
    return Way(paths, wafer.hops[source, die], latency)
