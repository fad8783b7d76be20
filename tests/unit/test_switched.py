"""GPUs behind switches: the graph, its routes, shared ports, and everything else of a run on it."""

from dataclasses import replace
from itertools import product

import networkx as nx
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import nodes_of, plan_of, simulate, view_of, wafer_of
from kit.engine import check_twin
from kit.naive import kernel_ends
from kit.runs import SMALL
from kit.sweeps import do, sweep_file

from wss.cli import cli
from wss.config import load
from wss.engine.specs import CircuitSpec, FluidSpec, PacketSpec
from wss.errors import CapacityError, ConfigError
from wss.execution import run
from wss.hardware import WAFERS, FaultSpec, build
from wss.hardware.topology import switched
from wss.metrics.traffic import check_conservation
from wss.policies import POLICIES
from wss.policies.allocation.basic import Algorithm1
from wss.policies.balanced.policy import Balanced
from wss.report.link_maps import KINDS, is_port, ports_of
from wss.report.report import read_results, write_report
from wss.serving.placement import costs_of

SYSTEMS = {(nodes, gpus): nodes_of(nodes, gpus) for nodes, gpus in [(1, 1), (1, 8), (3, 1), (2, 3), (4, 8)]}
EXPERT = 3 * 4096 * 1536 * 2.0
START = 110e-9 + 300e-9
TWINS = ("simpy", "compiled")
INSIDE, BETWEEN = 4 * 250e-9, 8 * 300e-9  # latency there and back
ON_NODES = SMALL.replace("{preset: dojo, mesh: [2, 3]}", "{preset: h100_nvl8, nodes: 2, gpus: 3}")
ON_NODES = ON_NODES.replace("steps: 3", "steps: 2")


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "nodes.yaml"
    path.write_text(ON_NODES, encoding="utf-8")
    return path


@pytest.mark.parametrize("shape", SYSTEMS)
def test_routes_are_the_shortest_and_lead_along_links(shape):
    wafer = SYSTEMS[shape]
    shortest = dict(nx.all_pairs_shortest_path_length(switched(wafer.spec)))
    dies = [tuple(die) for die in wafer.coordinates.tolist()]
    assert dies == sorted(product(range(shape[0]), range(shape[1])))
    for source, target in product(range(len(dies)), repeat=2):
        route = wafer.routes[source, target]
        route = route[route >= 0]
        assert len(route) == wafer.hops[source, target] == shortest[dies[source]][dies[target]]
        ends = [source, *wafer.links[route, 1].tolist()]
        assert wafer.links[route, 0].tolist() == ends[:-1]
        assert ends[-1] == target
        assert (np.array(ends[1:-1]) >= wafer.num_dies).all()


@pytest.mark.parametrize("shape", SYSTEMS)
def test_no_transfers_can_wait_for_one_another_in_a_circle(shape):
    depends = nx.DiGraph()
    for route in (route for row in SYSTEMS[shape].routes for route in row):
        nx.add_path(depends, route[route >= 0].tolist())
    assert nx.is_directed_acyclic_graph(depends)


def test_a_gpu_has_a_port_to_its_switch_and_with_more_nodes_a_card_on_the_fabric():
    names = [SYSTEMS[2, 3].link_name(link) for link in range(SYSTEMS[2, 3].num_links)]
    assert len(names) == len(set(names)) == 6 * 6
    assert {"(1,2)->switch(1)", "(1,2)->nic(1,2)", "nic(1,2)->fabric", "fabric->nic(0,0)"} <= set(names)
    assert SYSTEMS[1, 8].num_links == 16
    speed = dict(zip(names, SYSTEMS[2, 3].link_bandwidth.tolist(), strict=True))
    assert (speed["(1,2)->switch(1)"], speed["switch(1)->(1,2)"]) == (450e9, 450e9)
    assert (speed["(1,2)->nic(1,2)"], speed["nic(1,2)->(1,2)"]) == (63e9, 63e9)  # PCIe
    assert (speed["nic(1,2)->fabric"], speed["fabric->nic(1,2)"]) == (50e9, 50e9)


def test_the_preset_has_the_datasheets_figures():
    wafer = build(WAFERS["h100_nvl8"])
    assert wafer.num_dies == 8
    assert set(wafer.link_bandwidth) == {450e9}
    assert (wafer.spec.die.hbm.bandwidth, wafer.spec.die.hbm.size) == (3.35e12, 80e9)
    assert set(nodes_of(2, 8).link_bandwidth) == {450e9, 63e9, 50e9}


@pytest.mark.parametrize(
    ("tasks", "reads_in_turn"),
    [
        pytest.param([(0, 1, 0)], 1, id="one read"),
        pytest.param([(0, 1, 0), (1, 2, 0)], 2, id="two read from one GPU and share its port"),
        pytest.param([(0, 2, 0), (1, 2, 1)], 2, id="one GPU reads from two and shares its own"),
        pytest.param([(0, 2, 0), (1, 3, 1)], 1, id="two pairs do not meet in the switch"),
        pytest.param([(0, 7, 0), (1, 0, 7)], 1.125, id="to and fro: requests of 16 B for 128 B go with the data"),
    ],
)
def test_reads_inside_a_node_by_hand(tasks, reads_in_turn):
    plan = plan_of(*((expert, die, 1, source) for expert, die, source in tasks))
    run = simulate(SYSTEMS[1, 8], plan, EXPERT)
    assert run.time == pytest.approx(START + INSIDE + reads_in_turn * EXPERT / 450e9, rel=1e-12)


@pytest.mark.parametrize(
    ("tasks", "reads_in_turn"),
    [
        pytest.param([(0, 8, 0)], 1, id="one read"),
        pytest.param([(0, 8, 0), (1, 16, 0)], 2, id="the card of a GPU is shared"),
        pytest.param([(0, 8, 0), (1, 9, 1), (2, 24, 16)], 1, id="each GPU has one, and the fabric is as wide as all"),
    ],
)
def test_reads_between_nodes_by_hand(tasks, reads_in_turn):
    plan = plan_of(*((expert, die, 1, source) for expert, die, source in tasks))
    run = simulate(SYSTEMS[4, 8], plan, EXPERT)
    assert run.time == pytest.approx(START + BETWEEN + reads_in_turn * EXPERT / 50e9, rel=1e-12)
    asked = run.traffic.link_request
    assert asked[asked > 0].min() == pytest.approx(EXPERT * 42 / 2**20)


@st.composite
def layer_runs(draw):
    """A shape, a plan on it with at most one task an (expert, die), computing times and a window."""
    shape = draw(st.sampled_from(sorted(SYSTEMS)[:4]))
    dies = st.integers(0, shape[0] * shape[1] - 1)
    pairs = draw(st.lists(st.tuples(st.integers(0, 9), dies), min_size=1, max_size=16, unique=True))
    tasks = []
    for expert, die in pairs:
        source = draw(dies)
        tasks.append((expert, die, 1, source, source != die and draw(st.booleans())))
    compute = draw(st.lists(st.floats(0, 1e-4), min_size=len(tasks), max_size=len(tasks)))
    return shape, plan_of(*tasks), np.array(compute), draw(st.integers(1, 4))


@given(layer_runs())
@settings(max_examples=50, deadline=None)
def test_the_fluid_engine_agrees_with_one_written_from_the_documentation(layer_run):
    shape, plan, compute, window = layer_run
    run = simulate(SYSTEMS[shape], plan, EXPERT, compute, window)
    assert run.end == pytest.approx(kernel_ends(SYSTEMS[shape], plan, EXPERT, compute.tolist(), window), rel=1e-9)


@given(st.lists(layer_runs(), min_size=1, max_size=3), st.integers(0, 2), st.sampled_from(["full", "half"]))
@settings(max_examples=50, deadline=None)
def test_the_compiled_engines_agree_with_simpy(some, places, duplex):
    wafer = nodes_of(*some[0][0], llc=places * 88e6)
    for network in (FluidSpec(), CircuitSpec(duplex=duplex), PacketSpec(chunk=8e6, window=4)):
        check_twin(network, wafer, some, flushed=False)


@given(layer_runs())
@settings(max_examples=20, deadline=None)
def test_packets_carry_every_byte(layer_run):
    shape, plan, compute, window = layer_run
    run = simulate(SYSTEMS[shape], plan, EXPERT, compute, window, network="packet")
    check_conservation(plan, run, SYSTEMS[shape], EXPERT)


NETWORK = {"fluid": "fluid", "circuit": "circuit", "packet": "{kind: packet, chunk: 4 MiB}"}


def is_in_both_engines(policy, network):
    """Circuits leave no idle shares of links for moves in the background."""
    return getattr(policy.rebalancing, "how", "blocking") != "background" or network != "circuit"


@pytest.mark.parametrize("network", ["fluid", "circuit", "packet"])
def test_every_policy_runs_alike_in_both_engines(config, network):
    policies = f"policies=[{', '.join(name for name in POLICIES if is_in_both_engines(POLICIES[name], network))}]"
    results = [run(load(config, [policies, f"network={NETWORK[network]}", f"engine={engine}"])) for engine in TWINS]
    for ours, theirs in zip(*(result.ledgers for result in results), strict=True):
        for a, b in zip(ours.rows, theirs.rows, strict=True):
            assert (a.policy, a.step, a.layer, a.hops) == (b.policy, b.step, b.layer, b.hops)
            assert a.time_s == pytest.approx(b.time_s, rel=1e-9)
    moved = {ledger.policy for ledger in results[0].ledgers if ledger.link_data.any()}
    assert {"base", "pred"} <= moved
    assert not {"ep", "remap", "dup", "eplb", "oracle_best"} & moved


def test_every_policy_runs_over_packets(config):
    result = run(load(config, [f"policies=[{', '.join(POLICIES)}]", "network={kind: packet, chunk: 1 MiB}", "steps=1"]))
    assert all(own["bound_ratio"] > 1 - 1e-9 for own in result.to_dict()["runs"])
    assert len(result.to_dict()["runs"]) == len(POLICIES)


def test_the_nearest_die_is_a_link_away_on_a_mesh_and_two_behind_a_switch():
    def nearest(wafer):
        return view_of(wafer, np.ones(1, np.int64), np.eye(1, wafer.num_dies, dtype=np.bool_)).nearest

    damaged = build(WAFERS["dojo"], FaultSpec(dies=((0, 0), (2, 2)), links=(((3, 3), (4, 3)),)))
    assert [nearest(wafer) for wafer in (wafer_of((1, 1)), wafer_of((5, 5)), damaged)] == [1, 1, 1]
    assert [nearest(SYSTEMS[shape]) for shape in ((1, 8), (4, 8), (3, 1))] == [2, 2, 4]


def crowded(wafer, popular):
    """A layer run in which expert 0, at home on die 0, has *popular* tokens; every die has an expert of one token."""
    counts = np.ones(wafer.num_dies, np.int64)
    counts[0] = popular
    return view_of(wafer, counts, np.eye(wafer.num_dies, dtype=np.bool_))


def test_algorithm1_takes_the_gpus_of_the_node_for_the_nearest_and_no_others():
    plan = Algorithm1(min_candidates=32).allocate(crowded(SYSTEMS[4, 8], 20_000))
    assert set(plan.die[plan.expert == 0].tolist()) == set(range(8))


@pytest.mark.parametrize("allocation", [Algorithm1(radius=2, min_candidates=32), Balanced()])
@pytest.mark.parametrize(("popular", "is_worth_it"), [(12_000, False), (300_000, True)])
def test_an_expert_goes_to_another_node_only_if_that_is_worth_the_slow_read(config, allocation, popular, is_worth_it):
    """A read takes 84 us in a node and 755 us between nodes; 12,000 tokens take 0.8 ms on one GPU, 300,000 20 ms."""
    wafer = SYSTEMS[4, 8]
    experiment = load(config, ["model=qwen3_235b", "wafer={preset: h100_nvl8, nodes: 4}", "trace.synth=qwen3_235b"])
    view = replace(crowded(wafer, popular), costs=costs_of(experiment.setup, wafer))
    assert view.transfers[0, 1] == pytest.approx(INSIDE + EXPERT / 450e9)
    assert view.transfers[0, 8] == pytest.approx(BETWEEN + EXPERT / 50e9)
    plan = allocation.allocate(view)
    dies = set(plan.die[plan.expert == 0].tolist())
    assert len(dies) > 1
    assert (max(dies) >= 8) == is_worth_it


def test_qwen3_in_fp16_fits_eight_h100s_with_room_for_copies(tmp_path):
    path = tmp_path / "qwen.yaml"
    path.write_text(
        "{model: qwen3_235b, wafer: h100_nvl8, trace: {synth: qwen3_235b}, batch: 64, steps: 1, layers: [3],"
        " policies: [ep, {name: dup, preset: dup, placement: {kind: popular, extra: 3}}], baseline: ep}"
    )
    runs = {own["policy"]: own for own in run(load(path)).to_dict()["runs"]}
    assert runs["ep"]["hbm_peak_bytes"] == pytest.approx(94 * 16 * EXPERT, rel=0.01)
    assert runs["dup"]["hbm_peak_bytes"] > 94 * 19 * EXPERT
    with pytest.raises(CapacityError, match="deepseek-ai/DeepSeek-V3 in fp16 does not fit h100_nvl8"):
        run(load(path, ["model=deepseek_v3", "trace.synth=deepseek_v3"]))


@pytest.mark.parametrize(
    ("settings_", "wrong"),
    [
        (["faults={dies: [[0, 0]]}"], "faults: GPUs behind switches cannot have any"),
        (["wafer.nodes=0"], "wafer.nodes: 0 is not right; it should be greater than or equal to 1"),
        (["wafer.nodes=400"], "nodes 400 of 3 GPUs are more than 1024 dies; give fewer nodes"),
        (["wafer.mesh=[2, 2]"], "wafer.mesh: is not a key here"),
        (["wafer={gpus: 4}"], "wafer.die: is missing; give it"),
    ],
)
def test_what_is_wrong_with_nodes_is_said_in_one_line(config, settings_, wrong):
    with pytest.raises(ConfigError) as caught:
        load(config, settings_)
    assert any(wrong in line for line in caught.value.faults)


def test_the_papers_simulator_knows_no_switches(config):
    text = ["physics=paper", "model=qwen3_235b", "trace.synth=qwen3_235b", "layers=[3]", "batch=8"]
    with pytest.raises(ConfigError, match="physics: paper has no switches; give a wafer that is a mesh"):
        run(load(config, text))


WRITTEN_OUT = """\
  nodes: 2
  gpus: 3
  die:
    flops: {fp16: 989 TFLOPS, fp8: 1979 TFLOPS}
    hbm: {bandwidth: 3.35 TB/s, size: 80 GB}
    llc: {size: 50 MB}
  link: {bandwidth: 450 GB/s, latency: 250 ns, granule: 128 B}
  nic: {bandwidth: 63 GB/s, latency: 300 ns, request: 42 B, granule: 1 MiB}
  fabric: {bandwidth: 50 GB/s, latency: 300 ns, request: 42 B, granule: 1 MiB}
"""


def test_nodes_can_be_written_out(config, tmp_path):
    path = tmp_path / "again.yaml"
    path.write_text(ON_NODES.replace("wafer: {preset: h100_nvl8, nodes: 2, gpus: 3}", f"wafer:\n{WRITTEN_OUT}"))
    preset, written = build(load(config).wafer), build(load(path).wafer)
    assert written.spec.die == preset.spec.die
    for what in ("coordinates", "link_bandwidth", "link_latency", "link_request"):
        assert getattr(written, what) == pytest.approx(getattr(preset, what)), what


@pytest.mark.slow
def test_a_sweep_and_a_run_are_drawn_with_the_ports_of_each_gpu(config, tmp_path):
    small = {"batch": 8, "steps": 1, "policies": "[base, ep]"}
    lines = "".join(f"  {line}\n" for line in ON_NODES.splitlines() if line.split(":")[0] not in small)
    lines += "".join(f"  {key}: {value}\n" for key, value in small.items())
    wafers = "grid:\n  wafer: {nodes: {wafer.nodes: 2}, mesh: {wafer: {preset: dojo, mesh: [2, 2]}}}\n"
    do(sweep_file(tmp_path, f"name: nodes\nconfig:\n{lines}{wafers}"), tmp_path / "swept")
    results = read_results(tmp_path / "swept")
    assert {link["source_x"] for link in results.links.to_pylist() if link["wafer"] == "nodes"} == {None, 0, 1}
    write_report(results, tmp_path / "report", "png")
    assert {path.stem for path in (tmp_path / "report").glob("links*")} == {"links_nodes", "links_mesh"}

    done = CliRunner().invoke(cli, ["run", str(config), "--out", str(tmp_path / "ran")])
    assert done.exit_code == 0, done.output
    results = read_results(tmp_path / "ran")
    write_report(results, tmp_path / "report of a run", "png")
    (picture,) = (tmp_path / "report of a run").glob("links*")
    assert picture.stat().st_size > 5000


def test_the_map_of_ports_has_each_port_in_its_place():
    wafer = SYSTEMS[2, 3]
    links = [
        {"link": wafer.link_name(link), "policy": "ep", "utilization": float(link)} for link in range(wafer.num_links)
    ]
    assert all(is_port(link) for link in links)
    assert not is_port({"link": wafer_of((1, 2)).link_name(0)})
    table = ports_of(links, KINDS)
    assert table.shape == (6, 6)
    for row, (begin, end) in enumerate([("{}", "switch({n})"), ("switch({n})", "{}"), ("{}", "nic{}"), ("nic{}", "{}"),
                                        ("nic{}", "fabric"), ("fabric", "nic{}")]):  # fmt: skip
        for column, (n, g) in enumerate(product(range(2), range(3))):
            name = "->".join(end.format(f"({n},{g})", n=n) for end in (begin, end))
            assert table[row, column] == [link["link"] for link in links].index(name)
