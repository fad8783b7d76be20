"""Dead dies and links: routes round them are live, short and deadlock-free; every policy runs; cuts are refused."""

import os
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import networkx as nx
import numpy as np
import pytest
from kit import ROOT, wafer_of

from wss.config import load
from wss.errors import ConfigError
from wss.execution import run
from wss.hardware import FaultSpec, build
from wss.hardware.routing import _least_loaded, allowed_turns, live_routes
from wss.hardware.topology import mesh
from wss.report.link_maps import dead_of, said_dead

EACH = int(os.environ.get("WSS_FAULTS", "20"))
SHAPES = [(5, 5), pytest.param((8, 8), marks=pytest.mark.slow)]


def check_routes(graph, routes):
    """Every pair has a live route, and which link waits for which has no cycle (networkx is the judge)."""
    turns, links = set(), set(graph.edges)
    for source in graph:
        assert set(routes[source]) == set(graph)
        for target, path in routes[source].items():
            assert (path[0], path[-1]) == (source, target)
            assert len(set(path)) == len(path)
            steps = list(pairwise(path))
            assert links.issuperset(steps)
            turns.update(pairwise(steps))
    assert nx.is_directed_acyclic_graph(nx.DiGraph(turns))


def healthy(shape):
    return mesh(wafer_of(shape).spec)


def single_faults(shape):
    graph = healthy(shape)
    edges = sorted({tuple(sorted(edge)) for edge in graph.edges})
    return [("die", die) for die in sorted(graph)] + [("link", edge) for edge in edges]


def without(graph, kind, what):
    damaged = graph.copy()
    if kind == "die":
        damaged.remove_node(what)
    else:
        damaged.remove_edges_from([what, what[::-1]])
    return damaged


@pytest.mark.parametrize("shape", SHAPES)
def test_every_single_fault(shape):
    """Of the larger mesh every third, and all with WSS_FAULTS=250."""
    graph = healthy(shape)
    detours = []
    for fault in single_faults(shape)[:: 3 if shape == (8, 8) and EACH < 250 else 1]:
        damaged = without(graph, *fault)
        routes = live_routes(damaged)
        check_routes(damaged, routes)
        shortest = dict(nx.all_pairs_shortest_path_length(damaged))
        detours += [len(routes[a][b]) - 1 - shortest[a][b] for a in damaged for b in damaged]
    assert np.mean(detours) < 0.1
    assert max(detours) <= 8


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("part", range(4))
def test_a_thousand_random_faults(shape, part):
    """250 each in four parts, 20 of them unless WSS_FAULTS=250: up to a fifth of dies and links, what is left whole."""
    rng = np.random.default_rng([part, *shape])
    graph = healthy(shape)
    faults = single_faults(shape)
    tried = 0
    while tried < EACH:
        count = rng.integers(2, len(faults) // 5)
        damaged = graph.copy()
        for i in rng.choice(len(faults), count, replace=False):
            kind, what = faults[i]
            if (kind == "die" and what in damaged) or (kind == "link" and damaged.has_edge(*what)):
                damaged = without(damaged, kind, what)
        if damaged.number_of_nodes() > 1 and nx.is_strongly_connected(damaged):
            check_routes(damaged, live_routes(damaged))
            tried += 1


def test_turns_that_are_allowed_close_no_cycle_and_no_more_could_be():
    graph = without(healthy((4, 4)), "die", (1, 2))
    turns = allowed_turns(graph, lambda a, b: False)
    depends = nx.DiGraph([(a, b) for a, following in turns.items() for b in following])
    assert nx.is_directed_acyclic_graph(depends)
    for a in graph.edges:
        for end in graph.successors(a[1]):
            b = (a[1], end)
            if end != a[0] and b not in turns[a]:
                assert nx.has_path(depends, b, a)


def test_a_healthy_pair_keeps_its_xy_route():
    spec = wafer_of((5, 5)).spec
    whole, damaged = build(spec), build(spec, FaultSpec(links=(((0, 0), (0, 1)),)))
    changed = (whole.hops != damaged.hops).sum()
    assert 0 < changed < 30
    assert damaged.num_links == whole.num_links - 2


def test_dies_are_renumbered_and_experts_live_on_the_living():
    wafer = build(wafer_of((3, 3)).spec, FaultSpec(dies=((1, 1),)))
    assert wafer.num_dies == 8
    assert [1, 1] not in wafer.coordinates.tolist()
    assert wafer.hops[3, 4] == 4, "(1,0) to (1,2), round the dead centre"


def test_yield_draws_dies_by_seed():
    graph = healthy((8, 8))
    dead = [FaultSpec(die_yield=0.9, seed=seed).dead_dies(graph) for seed in range(200)]
    assert np.mean([len(d) for d in dead]) == pytest.approx(6.4, abs=0.6)
    assert dead[0] == FaultSpec(die_yield=0.9, seed=0).dead_dies(graph)
    assert FaultSpec(die_yield=1.0).dead_dies(graph) == set()


SETTINGS = ["batch=64", "steps=1", "layers=[0, 1]"]


@pytest.mark.parametrize(
    "faults", ["{dies: [[2, 2]]}", "{links: [[[0, 0], [1, 0]]]}", "{yield: 0.85, seed: 1}", "{dies: [[1, 1], [3, 3]]}"]
)
def test_every_policy_runs_on_a_damaged_wafer(faults):
    result = run(load(ROOT / "configs" / "gpt_oss_20b.yaml", [*SETTINGS, f"faults={faults}"]))
    assert len(result.to_dict()["runs"]) == 5
    assert all(r["bound_ratio"] >= 1 for r in result.to_dict()["runs"])


def test_a_wafer_without_faults_is_as_before():
    base = load(ROOT / "configs" / "gpt_oss_20b.yaml", SETTINGS)
    assert run(replace(base, faults=FaultSpec())).to_dict()["runs"] == run(base).to_dict()["runs"]


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ("{dies: [[9, 9]]}", "faults: dies: [9, 9] is not on the mesh"),
        ("{links: [[[0, 0], [2, 0]]]}", "faults: links: [[0, 0], [2, 0]] is not a link of the mesh"),
        ("{dies: [[0, 1], [1, 0]]}", "faults: cut the wafer into parts of 22 and 1 dies"),
        ("{yield: 0.0}", "faults.yield: 0.0 is not right"),
        ("{yield: 0.01}", "faults: "),
        ("{dice: [[1, 1]]}", "faults.dice: is not a key here; did you mean 'dies'?"),
        ("3", "faults: 3 is not right"),
    ],
)
def test_faults_that_cannot_be_are_refused(faults, expected):
    with pytest.raises(ConfigError) as error:
        load(ROOT / "configs" / "gpt_oss_20b.yaml", [f"faults={faults}"])
    (fault,) = error.value.faults
    assert expected in fault


def test_building_a_cut_wafer_is_refused():
    with pytest.raises(ConfigError, match="cut the wafer"):
        build(wafer_of((1, 3)).spec, FaultSpec(dies=((0, 1),)))


def loads_beside(hole, shape):
    """Routes over the links that pass a hole on each side: west, east, north, south; and over the fullest link."""
    load = Counter(
        link
        for found in live_routes(without(healthy(shape), "die", hole)).values()
        for path in found.values()
        for link in pairwise(path)
    )
    x, y = hole
    sides = [
        sum(n for (a, b), n in load.items() if a[0] == b[0] == at and hole[1] in (a[1], b[1])) for at in (x - 1, x + 1)
    ]
    sides += [
        sum(n for (a, b), n in load.items() if a[1] == b[1] == at and hole[0] in (a[0], b[0])) for at in (y - 1, y + 1)
    ]
    return sides, max(load.values())


def test_detours_pass_a_hole_on_all_its_sides():
    """On 5 x 5 they were 404 in the west and 72 in the east, and 106 over the fullest link, before they were spread."""
    sides, fullest = loads_beside((2, 2), (5, 5))
    assert max(sides) < 2 * min(sides)
    assert fullest <= 60


def test_of_ways_as_short_the_one_with_fewest_routes_is_taken():
    """From one corner of a square to the other there are two ways."""
    graph = healthy((2, 2))
    before = {((0, 0), (1, 0)): [], ((0, 0), (0, 1)): []}
    for link, comes in ((((1, 0), (1, 1)), ((0, 0), (1, 0))), (((0, 1), (1, 1)), ((0, 0), (0, 1)))):
        assert graph.has_edge(*link)
        before[link] = [comes]
    arrivals = [((1, 0), (1, 1)), ((0, 1), (1, 1))]
    assert _least_loaded(arrivals, before, Counter({((0, 1), (1, 1)): 1})) == [(0, 0), (1, 0), (1, 1)]
    assert _least_loaded(arrivals, before, Counter({((0, 0), (1, 0)): 1})) == [(0, 0), (0, 1), (1, 1)]


def test_heading_summary_and_picture_name_what_is_dead(tmp_path):
    faults = "faults={dies: [[2, 2]], links: [[[0, 0], [1, 0]]]}"
    result = run(load(ROOT / "configs" / "gpt_oss_20b.yaml", [*SETTINGS, faults, "policies=[base]"]))
    assert result.provenance["dead"] == {"dies": [[2, 2]], "links": [[[0, 0], [1, 0]]]}
    assert "dead: dies (2,2); links (0,0)-(1,0)" in result.table()
    wafer = build(wafer_of((3, 3)).spec, FaultSpec(dies=((1, 1),), links=(((0, 0), (0, 1)),)))
    ends = [(wafer.place(a), wafer.place(b)) for a, b in wafer.links.tolist()]
    links = [{"source_x": a[0], "source_y": a[1], "target_x": b[0], "target_y": b[1]} for a, b in ends]
    assert dead_of(links) == ([(1, 1)], [((0, 0), (0, 1))])
    assert said_dead(*dead_of(links)) == "; dead (x): (1,1), (0,0)-(0,1)"
    whole = run(load(ROOT / "configs" / "gpt_oss_20b.yaml", [*SETTINGS, "policies=[base]"])).to_dict()
    assert "dead" not in whole["provenance"]
