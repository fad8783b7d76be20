"""DeepSeek's expert-parallel load balancer (EPLB), from its public description; checked against its results.

It has three steps. Groups of experts are packed onto nodes. Within a node, replicas are added one by one to the expert
with the most load per replica, until all slots are filled. The replicas are packed onto the node's GPUs. The global
form is the same with one group on one node. Packing puts the heaviest item first into the lightest pack; all packs hold
equal numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Le

from wss.compiling import compiled
from wss.errors import ConfigError
from wss.policies.parts import Placement
from wss.policies.placement.basic import Extra
from wss.policies.placement.packing import heaviest_first, pack
from wss.policies.signals import Signal
from wss.policies.views import PlacementView
from wss.records import FloatArray, IntArray


@compiled
def replicate(load, num_slots):  # type: ignore[no-untyped-def]
    """Return the expert in each of *num_slots* slots, [slots], and the replicas of each expert, [experts].

    Slot e < experts holds expert e. The other slots go, one by one, to the expert with the most *load* per replica;
    *load* is [experts].
    """
    slots = np.arange(num_slots)
    replicas = np.ones(load.size, np.int64)
    for slot in range(load.size, num_slots):
        expert = np.argmax(load / replicas)
        slots[slot] = expert
        replicas[expert] += 1
    return slots, replicas


def balance(load: FloatArray, num_slots: int, num_groups: int, num_nodes: int, num_gpus: int) -> IntArray:
    """Return the expert in each slot of one layer, [num_slots]; slot s is on GPU s // (num_slots / num_gpus).

    Parameters
    ----------
    load
        Load of each expert, [experts]. A group is a range of neighbouring experts.
    num_slots, num_groups, num_nodes, num_gpus
        GPUs divide slots, nodes divide GPUs and groups, groups divide experts.
    """
    groups = np.arange(load.size).reshape(num_groups, -1)
    of_group = load[groups].sum(axis=1)
    node_of = pack(of_group, heaviest_first(of_group), num_nodes, num_groups // num_nodes)
    slots_a_node, gpus = num_slots // num_nodes, num_gpus // num_nodes
    filled = []
    for node in range(num_nodes):
        experts = groups[node_of == node].ravel()
        slots, replicas = replicate(load[experts], slots_a_node)
        weight = load[experts[slots]] / replicas[slots]
        order = heaviest_first(weight)
        gpu = pack(weight, order, gpus, slots_a_node // gpus)
        by_gpu = order[np.argsort(gpu[order], kind="stable")]
        filled.append(experts[slots[by_gpu]])
    return np.concatenate(filled)


@dataclass(frozen=True, kw_only=True)
class Eplb(Placement):
    """DeepSeek's EPLB: busy experts of the prefill get replicas, and dies get equal loads.

    Replicas are packed globally or by node. One die may hold several replicas of one expert. It then computes as many
    parts of the expert's tokens.

    Parameters
    ----------
    extra
        Slots of each die and layer beyond E/D rounded up, for replicas, limited by free HBM.
    nodes
        1 for the global form. Otherwise a number of nodes with equally many dies, or ``columns`` or ``rows`` of the
        mesh; ``columns`` of GPUs are their nodes.
    groups
        Groups of experts, each kept on one node; None: the model's own. The global form ignores groups. If the nodes do
        not divide the groups, the form is global, as in DeepSeek's program.
    """

    signals = frozenset({Signal.PREFILL_LOAD})

    extra: Extra = 1
    nodes: Annotated[int, Ge(1), Le(10**6)] | Literal["columns", "rows"] = 1
    groups: Annotated[int, Ge(1), Le(4096)] | None = field(default=None, metadata={"option": True})

    @property
    def dies_interchangeable(self) -> bool:
        """Whether the dies of its layout may be renumbered: not if dies form nodes."""
        return self.nodes == 1

    def place(self, view: PlacementView) -> IntArray:
        """Return the replicas on each die, [layers, experts, dies].

        Raises ConfigError if the dies do not form such nodes, or the experts such groups.
        """
        dies, num_nodes = self._nodes(view.coordinates)
        groups = view.groups if self.groups is None else self.groups
        if num_nodes > 1 and view.num_experts % groups:
            raise ConfigError(
                f"eplb: {view.num_experts} experts cannot be split into {groups} equal groups; "
                "give groups that divide the experts, or nodes: 1"
            )
        if num_nodes == 1 or groups % num_nodes:
            groups, num_nodes, dies = 1, 1, np.arange(view.num_dies)
        return self.spread(view.expected, view.slots(self.extra), groups, num_nodes, dies)

    def note(self, coordinates: IntArray, own_groups: int) -> str | None:
        """Return a note if nodes are configured but do not divide the groups, so the form is global; otherwise None."""
        groups, (_, num_nodes) = own_groups if self.groups is None else self.groups, self._nodes(coordinates)
        if groups % num_nodes == 0:
            return None
        whose = "of the model" if self.groups is None else "given"
        return (
            f"its placement is EPLB's global form: {num_nodes} nodes do not divide the {groups} "
            f"group{'s' if groups > 1 else ''} of experts {whose}"
        )

    @staticmethod
    def spread(load: FloatArray, slots: int, groups: int, num_nodes: int, dies: IntArray) -> IntArray:
        """Balance *load* [layers, experts] over *dies*, ordered by node; return the replicas, [layers, experts, dies].

        *slots* is the slots of each die.
        """
        replicas = np.zeros((*load.shape, len(dies)), np.int64)
        for layer, own in enumerate(load):
            experts = balance(own, slots * len(dies), groups, num_nodes, len(dies))
            np.add.at(replicas[layer], (experts, np.repeat(dies, slots)), 1)
        return replicas

    def _nodes(self, coordinates: IntArray) -> tuple[IntArray, int]:
        """Return the dies, ordered by node, and the number of nodes."""
        dies = np.arange(len(coordinates))
        if isinstance(self.nodes, int):
            num_nodes, even = self.nodes, len(dies) % self.nodes == 0
        else:
            line = coordinates[:, 0 if self.nodes == "columns" else 1]
            dies = np.argsort(line, kind="stable")
            sizes = np.unique(line, return_counts=True)[1]
            num_nodes, even = len(sizes), len(set(sizes.tolist())) == 1
        if not even:
            raise ConfigError(
                f"eplb: the {len(dies)} dies cannot be split into {num_nodes} equal nodes; "
                "give other nodes, or nodes: 1"
            )
        return dies, num_nodes
