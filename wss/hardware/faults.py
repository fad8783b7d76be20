"""Dead dies and links, applied to the graph of a wafer.

A dead die takes its router and its links with it; a dead link is dead in both directions. Faults are listed or drawn:
with a yield of 0.95, each die is dead with probability 0.05, independently, from a named random stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Le

from wss.errors import CHECKED
from wss.hardware.specs import SwitchedSpec, SystemSpec
from wss.hardware.topology import Coordinate, DieGraph, mesh
from wss.rng import stream, uniform


@dataclass(frozen=True, kw_only=True)
class FaultSpec:
    """The dead dies and links; *die_yield* (``yield`` in a configuration) and *seed* draw further dead dies."""

    __pydantic_config__ = CHECKED

    dies: tuple[tuple[int, int], ...] = ()
    links: tuple[tuple[tuple[int, int], tuple[int, int]], ...] = ()
    die_yield: Annotated[float, Gt(0), Le(1)] = 1.0
    seed: Annotated[int, Ge(0)] = 0

    def dead_dies(self, graph: DieGraph) -> set[Coordinate]:
        """Return the dead dies of *graph*, both listed and drawn."""
        dies = sorted(graph.nodes)
        luck = uniform(stream(self.seed, "yield"), len(dies))
        return set(self.dies) | {die for die, lucky in zip(dies, luck, strict=True) if lucky >= self.die_yield}


def faults_on(system: SystemSpec, spec: FaultSpec) -> list[str]:
    """Return the errors in *spec* for *system*, one line each."""
    import networkx as nx  # noqa: PLC0415 -- slow to import, and no part of reading a file

    if isinstance(system, SwitchedSpec):
        return ["GPUs behind switches cannot have any; leave faults out, or give a wafer that is a mesh"]
    graph = mesh(system)
    wrong = [f"dies: {list(die)} is not on the mesh; give [x, y] of a die" for die in spec.dies if die not in graph]
    wrong += [
        f"links: {[list(a), list(b)]} is not a link of the mesh; give the [x, y] of two neighbours"
        for a, b in spec.links
        if not graph.has_edge(a, b)
    ]
    if not wrong:
        live = apply(spec, graph)
        if live.number_of_nodes() == 0:
            wrong.append("no die is left; give fewer faults")
        elif not nx.is_strongly_connected(live):
            parts = sorted(map(len, nx.strongly_connected_components(live)), reverse=True)
            sizes = " and ".join(map(str, parts))
            wrong.append(f"cut the wafer into parts of {sizes} dies; give fewer faults, or another seed")
    return wrong


def apply(spec: FaultSpec, graph: DieGraph) -> DieGraph:
    """Return a copy of *graph* without the dead dies and links."""
    live: DieGraph = graph.copy()
    live.remove_nodes_from(spec.dead_dies(graph))
    live.remove_edges_from([pair for a, b in spec.links for pair in ((a, b), (b, a)) if live.has_edge(*pair)])
    return live
