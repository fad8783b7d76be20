"""The all-to-all of token activations in a layer run: dispatch to the dies that compute, combine back to the owners.

Attention spreads the tokens of the batch evenly over the D dies, and all dies' tokens have the same routing statistics.
Die d gets n_d tokens: n_d/D from each die, including its own share, which crosses no link. The results return the same
way. Dispatch ends before the first expert begins, and combine begins after the last expert has ended:

    layer run time = dispatch + experts + combine

The duration of each phase depends on the network, `wss.engine.network.transfers`, and on the route of the tokens:
`DirectAllToAll`, or `HierarchicalAllToAll`, in which a token crosses between nodes once.
"""

from __future__ import annotations

import numpy as np

from wss.engine.network.transfers import PhaseModel, PhaseResult, build_routes, network_share, proportional_share
from wss.engine.specs import AllToAllSpec, FluidSpec, NetworkSpec
from wss.engine.token_counts import at_nodes, exact_unique_tokens, expected_unique_tokens
from wss.errors import ConfigError
from wss.hardware.wafer import Wafer
from wss.records import AllToAllResult, FloatArray, IntArray, Plan, Routed


class DirectAllToAll:
    """Each die sends tokens to every other die directly; *share* is how the flows of a phase share links."""

    def __init__(self, wafer: Wafer, share: PhaseModel) -> None:
        dies = wafer.num_dies
        # round-robin: first every die with the next one, then with the one after that, and so on
        source, turn = (array.ravel() for array in np.indices((dies, dies))[:, :, 1:])
        order = np.argsort(turn, kind="stable")
        source, die = source[order], (source[order] + turn[order]) % dies
        self._die, self._dies, self._share = die, dies, share
        self._dispatch, self._combine = build_routes(wafer, source, die), build_routes(wafer, die, source)

    def run(self, received: FloatArray, _: FloatArray, nbytes: tuple[float, float]) -> tuple[PhaseResult, PhaseResult]:
        """Return dispatch and combine of *received* tokens, [dies], of *nbytes* each in the one and in the other."""
        flows = received[self._die] / self._dies
        some = flows > 0  # drop empty flows: they would take hop latency and hold links
        return (
            self._share(self._dispatch.only(some), flows[some] * nbytes[0]),
            self._share(self._combine.only(some), flows[some] * nbytes[1]),
        )


class HierarchicalAllToAll:
    """Hierarchical all-to-all: one copy per node, to the GPU with the sender's local index, which forwards it.

    Forwarding begins with the first token. So a token's route is one flow over the links to the relay and from there;
    it takes its latency and the time of its busiest link. In combine, the relay sums its node's results of a token.
    """

    def __init__(self, wafer: Wafer, nodes: IntArray) -> None:
        dies = wafer.num_dies
        self._wafer, self._node = wafer, nodes
        self._gpus, self._dies = dies // (int(nodes.max()) + 1), dies
        source, die = np.nonzero(~np.eye(dies, dtype=np.bool_))
        relay = nodes[die] * self._gpus + source % self._gpus
        self._phases = build_routes(wafer, source, relay, die), build_routes(wafer, die, relay, source)
        is_leg = (relay == die) | (relay == source)  # between nodes to a relay, or inside a node
        self._leg_die, self._leg_inside = die[is_leg], (relay == source)[is_leg]
        self._legs = self._phases[0].only(is_leg), self._phases[1].only(is_leg)

    def run(
        self, received: FloatArray, node_tokens: FloatArray, nbytes: tuple[float, float]
    ) -> tuple[PhaseResult, PhaseResult]:
        """Return dispatch and combine if dies receive *received* tokens, [dies], and nodes *node_tokens*, [nodes].

        *nbytes* are bytes of a token in both. A relay forwards a share of 1/GPUs of a die's tokens, from all nodes.
        """
        between = node_tokens[self._node[self._leg_die]] / self._dies
        tokens = np.where(self._leg_inside, received[self._leg_die] / self._gpus, between)
        links = self._wafer.num_links
        dispatch, combine = (
            proportional_share(routes, legs.loads(tokens * size, links), self._wafer)
            for routes, legs, size in zip(self._phases, self._legs, nbytes, strict=True)
        )
        return dispatch, combine


class AllToAll:
    """The all-to-all of one model's tokens on one wafer.

    Raises
    ------
    ConfigError
        If `once_per` is "node" and the wafer has no nodes, or the network is not fluid.
    """

    def __init__(self, spec: AllToAllSpec, network: NetworkSpec, wafer: Wafer, hidden: int, top_k: int) -> None:
        self._spec, self._top_k, self._dies = spec, top_k, wafer.num_dies
        given = spec.filled()
        self._bytes = hidden * (given.dispatch_bytes or 0), hidden * (given.combine_bytes or 0)
        self._nodes = _nodes_of(spec, network, wafer)
        self._phases: DirectAllToAll | HierarchicalAllToAll
        if self._nodes is not None:
            self._phases = HierarchicalAllToAll(wafer, self._nodes)
        else:
            self._phases = DirectAllToAll(wafer, _phase_model(spec, network, wafer))
        self._nothing = PhaseResult(0.0, np.zeros(wafer.num_links), np.zeros(wafer.num_links))

    def run(self, plan: Plan, routed: Routed | None = None, zero_choices: int = 0) -> AllToAllResult:
        """Return the times and bytes of dispatch and combine for *plan*.

        *routed* is the experts of each token, required to count them exactly. *zero_choices* of all choices are
        zero-computation experts, to which nothing is sent.
        """
        received, node_tokens = self._sent(plan, routed, zero_choices)
        dispatch, combine = self._nothing, self._nothing
        if self._dies > 1 and received.any():
            dispatch, combine = self._phases.run(received, node_tokens, self._bytes)
        return AllToAllResult(
            tokens=float(plan.tokens.sum() + zero_choices) / self._top_k,
            received=received,
            node_tokens=node_tokens,
            dispatch_bytes=self._bytes[0],
            combine_bytes=self._bytes[1],
            dispatch=dispatch.end,
            combine=combine.end,
            link_bytes=dispatch.link_bytes + combine.link_bytes,
            link_busy=dispatch.link_busy + combine.link_busy,
        )

    def _sent(self, plan: Plan, routed: Routed | None, zero_choices: int) -> tuple[FloatArray, FloatArray]:
        """Return the unique tokens of each die, [dies], and of each node, [nodes]; no nodes if tokens go directly."""
        if self._spec.once_per == "expert":
            return np.bincount(plan.die, plan.tokens, self._dies).astype(np.float64), np.zeros(0)
        received = self._unique_tokens(plan, routed, self._dies, zero_choices)
        if self._nodes is None:
            return received, np.zeros(0)
        nodes = int(self._nodes[-1]) + 1
        return received, self._unique_tokens(at_nodes(plan, self._nodes), routed, nodes, zero_choices)

    def _unique_tokens(self, plan: Plan, routed: Routed | None, groups: int, zero_choices: int) -> FloatArray:
        """Return the unique tokens of each of *groups* dies or nodes, [groups]."""
        if not self._spec.needs_tokens:
            return expected_unique_tokens(plan, self._top_k, groups, zero_choices)
        if routed is None:
            raise ValueError("exact counting needs the experts of each token")
        return exact_unique_tokens(plan, routed, groups)


def _nodes_of(dispatch: AllToAllSpec, network: NetworkSpec, wafer: Wafer) -> IntArray | None:
    """Return the node of each GPU, [dies], if tokens are sent once to each of several nodes; else None."""
    if dispatch.once_per != "node":
        return None
    nodes = wafer.nodes
    if nodes is None:
        raise ConfigError("dispatch: once_per: node is for GPUs in nodes, and this wafer is a mesh; give once_per: die")
    if nodes[-1] == 0:
        return None
    if not isinstance(network, FluidSpec):
        raise ConfigError("dispatch: once_per: node needs the fluid network; give network: fluid")
    return nodes


def _phase_model(dispatch: AllToAllSpec, network: NetworkSpec, wafer: Wafer) -> PhaseModel:
    """Return how the flows of a phase share links."""
    if dispatch.sharing == "max_min" or not isinstance(network, FluidSpec):
        return network_share(network, wafer)
    return lambda routes, nbytes: proportional_share(routes, routes.loads(nbytes, wafer.num_links), wafer)
