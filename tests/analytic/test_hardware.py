import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import wafer_of

from wss.hardware import WAFERS, build
from wss.hardware.topology import mesh

MESHES = [(1, 1), (1, 4), (4, 1), (2, 2), (3, 8), (5, 5)]


@pytest.mark.parametrize("shape", MESHES)
def test_hops_are_shortest_paths(shape):
    wafer = wafer_of(shape)
    dies = [tuple(c) for c in wafer.coordinates.tolist()]
    shortest = dict(nx.all_pairs_shortest_path_length(mesh(wafer.spec)))
    assert [[shortest[a][b] for b in dies] for a in dies] == wafer.hops.tolist()


@pytest.mark.parametrize("shape", MESHES)
def test_routes_go_x_first_along_links(shape):
    wafer = wafer_of(shape)
    for source in range(wafer.num_dies):
        for target in range(wafer.num_dies):
            route = wafer.routes[source, target]
            route = route[route >= 0]
            assert len(route) == wafer.hops[source, target]
            at, turned = source, False
            for link in route:
                assert wafer.links[link, 0] == at
                at = wafer.links[link, 1]
                along_y = wafer.coordinates[wafer.links[link, 0], 0] == wafer.coordinates[at, 0]
                assert not (turned and not along_y)
                turned = turned or along_y
            assert at == target


@pytest.mark.parametrize("shape", MESHES)
def test_the_channel_dependency_graph_is_acyclic(shape):
    wafer = wafer_of(shape)
    depends = nx.DiGraph()
    for route in (route for row in wafer.routes for route in row):
        nx.add_path(depends, route[route >= 0].tolist())
    assert nx.is_directed_acyclic_graph(depends)


def test_dies_are_numbered_y_first():
    wafer = wafer_of((3, 8))
    x, y = wafer.coordinates.T
    assert np.array_equal(y + 8 * x, np.arange(24))


def test_a_built_wafer_is_sealed():
    wafer = wafer_of((2, 2))
    with pytest.raises(ValueError, match="read-only"):
        wafer.hops[0, 0] = 1


@pytest.mark.parametrize("name", ["dojo", "tsmc_sow", "dojo_enhanced"])
def test_presets_have_the_papers_figures(name):
    spec = WAFERS[name]
    paper = {
        "dojo": ((5, 5), 3.35e12, 1.7e12, 80e9, 989e12),
        "tsmc_sow": ((3, 8), 3.35e12, 1.7e12, 80e9, 989e12),
        "dojo_enhanced": ((5, 5), 8e12, 2e12, 180e9, 4500e12),
    }[name]
    die = spec.die
    assert (spec.mesh, die.hbm.bandwidth, spec.link.bandwidth, die.hbm.size, die.flops["fp16"]) == paper
    assert (die.llc.hit, die.llc.miss, die.llc.write, die.hbm.latency, spec.link.latency) == pytest.approx(
        (100e-9, 110e-9, 30e-9, 300e-9, 200e-9)
    )
    assert build(spec).usable_hbm == pytest.approx(0.9 * die.hbm.size)


@given(st.integers(1, 5), st.integers(1, 5))
def test_a_mesh_has_two_links_an_edge(x, y):
    assert wafer_of((x, y)).num_links == 2 * (x * (y - 1) + y * (x - 1))
