"""`wss flows`: against independent simulators, by hand, and in general."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import shared

from wss.errors import ConfigError
from wss.execution.transfers import read_scenario, run_flows
from wss.hardware.routing import xy

GIVEN = [
    "g01_single_5x5",
    "g02_two_flows_one_link_5x5",
    "g03_parking_lot_3x8",
    "g04_read_from_one_5x5",
    "g05_hotspot_bg_5x5",
    "g06_all2all_5x5",
    "g07_zipf_all2all_3x8",
    "g08_staggered_5x5",
    "g09_transpose_5x5",
    "g10_neighbour_3x8",
    "g11_reads250_t0_5x5",
    "g12_reads250_poisson_3x8",
    "g13_mixed1000_poisson_5x5",
]


def finish_of(result):
    return np.array([flow["finish_s"] for flow in result["flows"]])


def reference(name, simulator):
    content = json.loads(shared("reference", "network", "results", f"{name}.{simulator}.json").read_text())
    return [flow["id"] for flow in content["flows"]], finish_of(content)


def scenario_of(name):
    return read_scenario(shared("reference", "network", "scenarios", f"{name}.json"))


@pytest.mark.parametrize("name", GIVEN)
def test_fluid_agrees_with_simgrid(name):
    ids, expected = reference(name, "simgrid-latfirst")
    result = run_flows(scenario_of(name), "fluid", 1e6, 0, "full")
    assert [flow["id"] for flow in result["flows"]] == ids
    assert finish_of(result) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("simulator", ["astra-chunk1MB", "nspy-chunk1MB"])
@pytest.mark.parametrize("name", GIVEN)
def test_packet_agrees_with_astra_sim_and_ns_py(name, simulator):
    ids, expected = reference(name, simulator)
    result = run_flows(scenario_of(name), "packet", 1e6, 0, "full")
    assert [flow["id"] for flow in result["flows"]] == ids
    off = np.abs(finish_of(result) - expected)
    if (name, simulator) == ("g11_reads250_t0_5x5", "nspy-chunk1MB"):  # two flows tie, and ns.py differs from ASTRA-sim
        assert off.max() <= 2e-6
        assert (off > 1e-9).sum() == 2
    else:
        assert off.max() <= 1e-9


@pytest.mark.parametrize("start", [0.0, 0.1, 0.7, 3.3])
def test_ties_of_chunks_are_not_decided_by_rounding(tmp_path, start):
    """A chunk of each comes to the last link at 0.1 + 0.2 + 0.1 + 0.2 s and at 0.2 + 0.1 + 0.1 + 0.2 s.

    Both services before began at 0.3 s, that of the first flow by an arrival scheduled at 0 s, that of the second by
    the end of a service scheduled at 0.2 s; so the first goes first, whenever it all begins.
    """
    flows = [flow(0, (3, 1), (1, 0), 2, start), flow(1, (0, 1), (1, 0), 3, start + 0.2)]
    changes = {"topology": {"x": 4, "y": 2}, "link_bandwidth_Bps": 10.0, "hop_latency_s": 0.2}
    path = write(tmp_path / "tie.json", flows, **changes)
    finish = finish_of(run_flows(read_scenario(path), "packet", 1.0, 0, "full"))
    assert finish - start == pytest.approx([1.1, 1.2], abs=1e-9)


@pytest.mark.parametrize("name", GIVEN)
def test_packet_with_small_chunks_agrees_with_astra_sim(name):
    _, expected = reference(name, "astra-chunk64KiB")
    off = np.abs(finish_of(run_flows(scenario_of(name), "packet", 65536.0, 0, "full")) - expected)
    assert off.max() <= 0.8e-6


def write(path, flows, **changes):
    content = {"topology": {"x": 3, "y": 2}, "link_bandwidth_Bps": 1e12, "hop_latency_s": 1e-7, "flows": flows}
    path.write_text(json.dumps(content | changes))
    return path


def flow(number, src, dst, nbytes=1e6, start=0.0):
    return {"id": number, "src": list(src), "dst": list(dst), "bytes": nbytes, "start_s": start}


def run_on(tmp_path, network, *flows, chunk=1e6, window=0, duplex="full"):
    result = run_flows(read_scenario(write(tmp_path / "x.json", list(flows))), network, chunk, window, duplex)
    return finish_of(result) * 1e6, result


@pytest.mark.parametrize(("network", "expected"), [("fluid", 2.2), ("packet", 2.2 + 1 * 0.5), ("circuit", 2.2)])
def test_one_flow_of_two_hops(tmp_path, network, expected):
    """2 MB at 1 MB/us over 2 hops of 0.1 us; in chunks of 0.5 MB the last one is sent on once more, in 0.5 us."""
    finish, result = run_on(tmp_path, network, flow(0, (0, 0), (2, 0), 2e6), chunk=0.5e6)
    assert finish == pytest.approx([expected])
    used = [link for link in result["links"] if link["bytes"]]
    assert [(link["src"], link["dst"]) for link in used] == [([0, 0], [1, 0]), ([1, 0], [2, 0])]
    assert result["makespan_s"] == pytest.approx(expected * 1e-6)


def test_two_flows_share_a_link_each_in_its_way(tmp_path):
    both = (flow(0, (0, 0), (1, 0)), flow(1, (0, 0), (1, 0)))
    assert run_on(tmp_path, "fluid", *both)[0] == pytest.approx([2.1, 2.1])
    assert run_on(tmp_path, "packet", *both, chunk=0.25e6)[0] == pytest.approx([1.85, 2.1])
    assert run_on(tmp_path, "circuit", *both)[0] == pytest.approx([1.1, 2.2])


def test_a_window_of_one_chunk_waits_for_each_delivery(tmp_path):
    """Four chunks of 0.25 MB over two hops, one at a time: 4 · 2 · (0.25 + 0.1) us."""
    assert run_on(tmp_path, "packet", flow(0, (0, 0), (2, 0)), chunk=0.25e6, window=1)[0] == pytest.approx([2.8])


def test_a_start_goes_before_an_arrival_and_starts_in_the_order_of_ids(tmp_path):
    """A chunk comes to the second link at 1.1 us, when a flow starts there: that goes first."""
    over, there = flow(0, (0, 0), (2, 0)), flow(1, (1, 0), (2, 0), 1e6, 1.1e-6)
    assert run_on(tmp_path, "packet", over, there)[0] == pytest.approx([3.2, 2.2])
    both = [flow(7, (0, 0), (1, 0)), flow(3, (0, 0), (1, 0))]
    finish, result = run_on(tmp_path, "packet", *both)
    assert dict(zip([each["id"] for each in result["flows"]], finish, strict=True)) == pytest.approx({3: 1.1, 7: 2.1})


def test_of_two_arrivals_at_once_that_comes_first_which_was_scheduled_first(tmp_path):
    """Both chunks come to the middle's link down at 1.1 us; the lower id started first."""
    left, right = flow(0, (0, 0), (1, 1)), flow(1, (2, 0), (1, 1))
    assert run_on(tmp_path, "packet", left, right)[0] == pytest.approx([2.2, 3.2])
    left, right = flow(1, (0, 0), (1, 1)), flow(0, (2, 0), (1, 1))
    assert run_on(tmp_path, "packet", left, right)[0] == pytest.approx([2.2, 3.2])  # in order of their ids


def test_a_window_lets_a_small_flow_through(tmp_path):
    big, small = flow(0, (0, 0), (1, 0), 100e6), flow(1, (0, 0), (1, 0), 1e6, 1e-7)
    open_loop = run_on(tmp_path, "packet", big, small, chunk=1e6)[0]
    windowed = run_on(tmp_path, "packet", big, small, chunk=1e6, window=4)[0]
    assert open_loop[1] > 100
    assert windowed[1] < 10


def test_circuits_hold_their_whole_route_and_half_duplex_both_ways(tmp_path):
    there, back = flow(0, (0, 0), (2, 0)), flow(1, (1, 0), (0, 0))
    assert run_on(tmp_path, "circuit", there, back)[0] == pytest.approx([1.2, 1.1])
    assert run_on(tmp_path, "circuit", there, back, duplex="half")[0] == pytest.approx([1.2, 2.3])
    waits = (flow(0, (0, 0), (1, 0)), flow(1, (0, 0), (2, 0)), flow(2, (1, 0), (2, 0), 1e6, 1e-8))
    assert run_on(tmp_path, "circuit", *waits)[0] == pytest.approx([1.1, 2.3, 3.4]), "no backfill"


@pytest.mark.parametrize("network", ["fluid", "packet", "circuit"])
def test_local_and_empty_flows(tmp_path, network):
    finish, result = run_on(tmp_path, network, flow(0, (1, 1), (1, 1), 5e6, 1e-6), flow(1, (0, 0), (2, 1), 0))
    assert finish == pytest.approx([1.0, 0.3])
    assert sum(link["bytes"] for link in result["links"]) == 0


def test_flows_that_start_together_take_turns_in_the_order_of_their_ids(tmp_path):
    finish, result = run_on(tmp_path, "packet", flow(7, (0, 0), (1, 0)), flow(3, (0, 0), (1, 0)), chunk=0.5e6)
    assert [f["id"] for f in result["flows"]] == [3, 7]
    assert finish == pytest.approx([1.6, 2.1])


DIES = st.tuples(st.integers(0, 2), st.integers(0, 1))
FLOWS = st.lists(
    st.tuples(DIES, DIES, st.integers(0, 5_000_000), st.sampled_from([0.0, 0.0, 3e-7, 2e-6])), min_size=1, max_size=15
)


@given(FLOWS, st.sampled_from(["fluid", "packet", "circuit"]), st.sampled_from([1e5, 1e6]), st.sampled_from([0, 1, 4]))
def test_every_network_conserves_bytes_and_beats_no_bound(tmp_path_factory, flows, network, chunk, window):
    path = tmp_path_factory.mktemp("flows") / "x.json"
    entries = [flow(i, *rest) for i, rest in enumerate(flows)]
    result = run_flows(read_scenario(write(path, entries)), network, chunk, window, "full")
    hops = {i: len(xy(src, dst)) - 1 for i, (src, dst, _, _) in enumerate(flows)}
    expected = dict.fromkeys(range(len(result["links"])), 0.0)
    names = {(tuple(link["src"]), tuple(link["dst"])): i for i, link in enumerate(result["links"])}
    for src, dst, nbytes, _ in flows:
        for step in pairwise(xy(src, dst)):
            expected[names[step]] += nbytes
    assert [link["bytes"] for link in result["links"]] == pytest.approx(list(expected.values()))
    for i, (_, _, nbytes, start) in enumerate(flows):
        least = start + hops[i] * 1e-7 + (nbytes / 1e12 if hops[i] else 0)
        assert result["flows"][i]["finish_s"] >= least * (1 - 1e-12)
    for link in result["links"]:
        assert link["bytes"] / 1e12 * (1 - 1e-9) <= link["busy_s"] <= result["makespan_s"] * (1 + 1e-9)


GOOD = flow(0, (0, 0), (1, 0))
BAD = {
    "a torus": ({"topology": {"kind": "torus2d", "x": 3, "y": 3}}, "topology: kind is 'torus2d'"),
    "another routing": ({"routing": "YX"}, "routing: 'YX' is not known"),
    "another schema": ({"schema": "netref-scenario-99"}, "schema: 'netref-scenario-99'"),
    "bytes beyond floats": (
        {"flows": [GOOD | {"bytes": 10**400}]},
        "is not readable JSON (10000000000000000000... is too large)",
    ),
    "not JSON": ("{", "is not readable JSON"),
    "a list": ("[]", "is not an object"),
    "no topology": ({"topology": None}, "topology: x and y are [None, None]"),
    "a mesh of nothing": ({"topology": {"x": 0, "y": 3}}, "topology: x and y are [0, 3]"),
    "a mesh too large": ({"topology": {"x": 999, "y": 999}}, "topology: x and y are [999, 999]"),
    "no bandwidth": ({"link_bandwidth_Bps": 0}, "link_bandwidth_Bps: 0 should be a number above 0"),
    "a bandwidth of infinity": (
        {"link_bandwidth_Bps": float("inf")},
        "is not readable JSON (Infinity is not a",
    ),
    "a negative latency": ({"hop_latency_s": -1}, "hop_latency_s: -1 should be a number, at least 0"),
    "no flows": ({"flows": []}, "flows: should be a list"),
    "flows of numbers": ({"flows": [1]}, "flows: should be a list"),
    "a key missing": ({"flows": [{"id": 0, "src": [0, 0], "dst": [1, 0], "bytes": 1}]}, "flows.0.start_s: is missing"),
    "an unknown key": ({"flows": [GOOD | {"size": 1}]}, "flows.0.size: is not a key of a flow"),
    "an id twice": ({"flows": [GOOD, GOOD]}, "flows.1.id: 0 is there twice"),
    "an id of no kind": ({"flows": [GOOD | {"id": 0.5}]}, "flows.0.id: 0.5 should be a whole number or text"),
    "off the mesh": ({"flows": [flow(0, (0, 0), (3, 0))]}, "flows.0.dst: [3, 0] is not on the mesh of 3 x 2 dies"),
    "no die": ({"flows": [GOOD | {"src": 5}]}, "flows.0.src: 5 should be [x, y]"),
    "negative bytes": ({"flows": [GOOD | {"bytes": -1}]}, "flows.0.bytes: -1 should be a number, at least 0"),
    "bytes that are no number": (
        {"flows": [GOOD | {"bytes": float("nan")}]},
        "is not readable JSON (NaN is not a",
    ),
    "true for bytes": ({"flows": [GOOD | {"bytes": True}]}, "flows.0.bytes: True"),
    "a negative start": ({"flows": [GOOD | {"start_s": -1e-9}]}, "flows.0.start_s: -1e-09"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_what_cannot_be_run_is_refused(tmp_path, case):
    changes, expected = BAD[case]
    path = tmp_path / "x.json"
    if isinstance(changes, str):
        path.write_text(changes)
    else:
        write(path, **({"flows": [GOOD]} | changes))
    with pytest.raises(ConfigError) as error:
        read_scenario(path)
    (fault,) = error.value.faults
    assert fault.startswith(f"{path}: {expected}")


def test_all_faults_come_at_once(tmp_path):
    write(tmp_path / "x.json", [GOOD | {"bytes": -1}, GOOD], hop_latency_s="slow")
    with pytest.raises(ConfigError) as error:
        read_scenario(tmp_path / "x.json")
    assert len(error.value.faults) == 3


def test_too_many_chunks_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="more than 50 million chunks"):
        run_on(tmp_path, "packet", flow(0, (0, 0), (1, 0), 1e15), chunk=1.0)
