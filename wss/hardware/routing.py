"""Routes: XY on a healthy mesh, short routes around dead parts on a damaged one, never with a possible deadlock.

Between GPUs there is one route, up to a switch and down again: through the switch of their node, or from one node to
another through their network cards and the fabric. No link down waits for one up, so there is no deadlock either.

The network cannot deadlock if the channel-dependency graph is acyclic: its nodes are links, its edges the turns from
link to link that routes take (Dally and Seitz, 1987). XY routing, X first, has that property.

On a damaged mesh, the initial allowed turns are those of XY on live links. Every other turn is then allowed if it
closes no cycle with the turns allowed before it; turns near the damage are tried first. If some pair of dies cannot
reach one another by allowed turns, the initial turns are instead those of up*/down* routing (Schroeder et al., Autonet,
1991), which reaches all pairs of a connected network: links towards the root of a breadth-first tree, then links away
from it. The root decides on which sides of a hole detours pass. Several roots are tried; the one whose fullest link has
the fewest routes is selected. A pair keeps its XY route if that is live and allowed. Otherwise it takes a shortest
route by allowed turns; ties go to the route whose links have the fewest routes so far.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np

from wss.hardware.topology import FABRIC, Coordinate, DieGraph, End, nic_of, switch_of

Link = tuple[Coordinate, Coordinate]
Path = list[Coordinate]
Turns = dict[Link, list[Link]]
Routes = dict[Coordinate, dict[Coordinate, Path]]


def xy(source: Coordinate, target: Coordinate) -> Path:
    """Return the dies on the route from *source* to *target*, both included: along X first, then along Y."""
    x, y = source
    path = [source]
    while x != target[0]:
        x += 1 if target[0] > x else -1
        path.append((x, y))
    while y != target[1]:
        y += 1 if target[1] > y else -1
        path.append((x, y))
    return path


def xy_routes(graph: DieGraph) -> Routes:
    """Return the route of every pair of a healthy mesh."""
    return {source: {target: xy(source, target) for target in graph} for source in graph}


def switched_route(source: Coordinate, target: Coordinate) -> list[End]:
    """Return the dies and switches on the route between two GPUs, both included."""
    if source == target:
        return [source]
    if source[0] == target[0]:
        return [source, switch_of(source), target]
    return [source, nic_of(source), FABRIC, nic_of(target), target]


def live_routes(graph: DieGraph) -> Routes:
    """Return a route for every pair of a damaged, connected mesh: deadlock-free, short, and spread over the links.

    If the turns of XY do not reach all pairs, up*/down* routing is tried from the centre and from the corners. The root
    whose fullest link has the fewest routes is selected.
    """
    routes = _routes(graph, allowed_turns(graph, _is_xy))
    if routes is not None:
        return routes
    tried = [_routes(graph, allowed_turns(graph, _up_down(graph, root))) for root in _roots(graph)]
    reaching = [found for found in tried if found is not None]
    assert reaching, "up*/down* routing reaches every pair of a connected network"
    return min(reaching, key=_crowding)


def _roots(graph: DieGraph) -> list[Coordinate]:
    """Return the dies from which up*/down* routing is tried: the centre, and those nearest to the corners."""
    import networkx as nx  # noqa: PLC0415 -- slow to import, and no part of reading a file

    corners = [min(graph, key=lambda die: (x * die[0] + y * die[1], die)) for x in (1, -1) for y in (1, -1)]
    return list(dict.fromkeys([min(nx.center(graph.to_undirected())), *corners]))


def _crowding(routes: Routes) -> tuple[int, int]:
    """Return the number of routes over the fullest link, and the number of links of all routes together."""
    load = Counter(link for found in routes.values() for path in found.values() for link in pairwise(path))
    return max(load.values(), default=0), load.total()


def _routes(graph: DieGraph, turns: Turns) -> Routes | None:
    """Return the route of every pair by allowed *turns*, XY if possible; None if the turns do not reach all pairs."""
    routes = {source: _xy_routes_from(graph, source, turns) for source in graph}
    load = Counter(link for found in routes.values() for path in found.values() for link in pairwise(path))
    for source in sorted(graph):
        found = routes[source]
        if len(found) < len(graph) and not _add_detours(graph, source, turns, found, load):
            return None
    return routes


def allowed_turns(graph: DieGraph, first: Callable[[Link, Link], bool]) -> Turns:
    """Return the links a route may take after each link: the turns of *first*, and all others that close no cycle."""
    links = sorted(graph.edges)
    number = {link: i for i, link in enumerate(links)}
    turns: Turns = {link: [] for link in links}
    after = np.zeros((len(links), len(links)), np.bool_)  # after[i, j]: link j can follow link i, over some turns

    def allow(a: Link, b: Link) -> None:
        i, j = number[a], number[b]
        if after[j, i]:
            return
        gained = after[j].copy()
        gained[j] = True
        after[after[:, i]] |= gained
        after[i] |= gained
        turns[a].append(b)

    every = [(a, (a[1], end)) for a in links for end in sorted(graph.successors(a[1])) if end != a[0]]
    far = _distance_to_damage(graph)
    every.sort(key=lambda turn: (not first(*turn), far[turn[0][1]]))
    for a, b in every:
        allow(a, b)
    return turns


def _distance_to_damage(graph: DieGraph) -> dict[Coordinate, float]:
    """Return the distance of each die, in links, from the nearest die that lacks a neighbour of the mesh."""
    import networkx as nx  # noqa: PLC0415 -- slow to import, and no part of reading a file

    last = (max(x for x, _ in graph), max(y for _, y in graph))

    def lacks_one(die: Coordinate) -> bool:
        x, y = die
        around = [(x - 1, y), (x + 1, y), (x, y - 1), (x, y + 1)]
        inside = [other for other in around if 0 <= other[0] <= last[0] and 0 <= other[1] <= last[1]]
        return any(not graph.has_edge(die, other) for other in inside)

    damaged = [die for die in graph if lacks_one(die)]
    far: dict[Coordinate, float] = dict.fromkeys(graph, 0.0)
    if damaged:
        far.update(nx.multi_source_dijkstra_path_length(graph, damaged, weight=None))
    return far


def _is_xy(a: Link, b: Link) -> bool:
    """Whether XY routing turns from *a* to *b*: straight on, or from X to Y."""
    along_y = [link[0][0] == link[1][0] for link in (a, b)]
    return along_y[1] or not along_y[0]


def _up_down(graph: DieGraph, root: Coordinate) -> Callable[[Link, Link], bool]:
    """Return whether up*/down* routing may turn from one link to another: never up after down."""
    import networkx as nx  # noqa: PLC0415 -- slow to import, and no part of reading a file

    depth = nx.single_source_shortest_path_length(graph, root)

    def is_up(link: Link) -> bool:
        return (depth[link[1]], link[1]) < (depth[link[0]], link[0])

    return lambda a, b: is_up(a) or not is_up(b)


def _xy_routes_from(graph: DieGraph, source: Coordinate, turns: Turns) -> dict[Coordinate, Path]:
    """Return the routes from *source* to all dies that XY reaches by allowed *turns*."""
    routes: dict[Coordinate, Path] = {}
    for along_x in ((-1, 0), (1, 0)):
        for corner in _straight_on(graph, [source], along_x, turns):
            for along_y in ((0, -1), (0, 1)):
                routes.update((path[-1], path) for path in _straight_on(graph, corner, along_y, turns))
    return routes


def _add_detours(
    graph: DieGraph, source: Coordinate, turns: Turns, routes: dict[Coordinate, Path], load: Counter[Link]
) -> bool:
    """Add to *routes* those from *source* to all other dies, and to *load* their links; return whether all have one.

    Among the shortest routes by allowed *turns*, the one whose links have the fewest routes so far is selected.
    """
    before: dict[Link, list[Link]] = {(source, end): [] for end in sorted(graph.successors(source))}
    depth = dict.fromkeys(before, 1)
    waiting = deque(before)
    arrivals: dict[Coordinate, list[Link]] = {}
    while waiting:
        link = waiting.popleft()
        found = arrivals.setdefault(link[1], [])
        if not found or depth[found[0]] == depth[link]:
            found.append(link)
        for following in turns[link]:
            if following not in depth:
                depth[following], before[following] = depth[link] + 1, []
                waiting.append(following)
            if depth[following] == depth[link] + 1:
                before[following].append(link)
    for target in sorted(graph):
        if target in routes:
            continue
        if target not in arrivals:
            return False
        routes[target] = _least_loaded(arrivals[target], before, load)
        load.update(pairwise(routes[target]))
    return True


def _least_loaded(arrivals: list[Link], before: dict[Link, list[Link]], load: Counter[Link]) -> Path:
    """Return the route to one of *arrivals*, over links that may come *before* each, with the least total *load*."""
    least: dict[Link, tuple[int, Path]] = {}

    def cost(link: Link) -> tuple[int, Path]:
        if link not in least:
            so_far, path = min(map(cost, before[link]), default=(0, [link[0]]))
            least[link] = so_far + load[link], [*path, link[1]]
        return least[link]

    return min(map(cost, arrivals))[1]


def _straight_on(graph: DieGraph, path: Path, step: tuple[int, int], turns: Turns) -> Iterator[Path]:
    """Yield *path* and its extensions in the direction *step*, die by die, while links and turns allow."""
    while True:
        yield path
        link = (path[-1], (path[-1][0] + step[0], path[-1][1] + step[1]))
        if not graph.has_edge(*link) or (len(path) > 1 and link not in turns[path[-2], path[-1]]):
            return
        path = [*path, link[1]]
