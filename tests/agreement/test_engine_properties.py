"""What holds for every layer run."""

import itertools
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import ROOT, plan_of, simulate, wafer_of
from kit.engine import check_twin, layer_runs
from kit.naive import kernel_ends
from kit.networks import OneByOne

from wss.config import load
from wss.engine.specs import CircuitSpec, FluidSpec, PacketSpec
from wss.engine.work import PrefetchPlan
from wss.errors import ConfigError
from wss.execution import run
from wss.hardware import WAFERS, build
from wss.hardware.specs import LinkSpec
from wss.metrics.traffic import check_conservation, traffic


@given(layer_runs())
def test_bytes_in_are_bytes_out(layer_run):
    mesh, plan, compute, window = layer_run
    wafer = wafer_of(mesh)
    run = simulate(wafer, plan, 88e6, compute, window)
    check_conservation(plan, run, wafer, 88e6)
    assert run.traffic.link_data.sum() == pytest.approx(traffic(plan, run, wafer, 88e6)["byte_hops"])
    capacity = wafer.link_bandwidth * run.time * (1 + 1e-9)
    assert (run.traffic.link_data + run.traffic.link_request <= capacity).all()
    assert (
        run.traffic.hbm_read + run.traffic.hbm_written <= wafer.spec.die.hbm.bandwidth * run.time * (1 + 1e-9)
    ).all()
    assert (run.traffic.link_busy <= run.time * (1 + 1e-9)).all()


def test_the_conservation_check_can_fail():
    wafer = wafer_of((1, 2))
    run = simulate(wafer, plan_of((0, 1, 1, 0)), 88e6)
    with pytest.raises(AssertionError, match="hbm_read"):
        check_conservation(plan_of((0, 1, 1, 1)), run, wafer, 88e6)
    with pytest.raises(AssertionError, match="hbm_written"):
        check_conservation(plan_of((0, 1, 1, 0, True)), run, wafer, 88e6)


@given(layer_runs(), st.sampled_from([1.0, 1.5, 2.0, 3.7, 10.0]))
def test_a_machine_c_times_as_fast_takes_a_cth_of_the_time(layer_run, c):
    mesh, plan, compute, window = layer_run
    slow = simulate(wafer_of(mesh), plan, 88e6, compute, window)
    fast_wafer = wafer_of(mesh, hbm=3.35e12 * c, link=1.7e12 * c, hop=200e-9 / c, start=410e-9 / c)
    fast = simulate(fast_wafer, plan, 88e6, compute / c, window)
    for name in ("issue", "read_end", "end", "die_end"):
        assert getattr(fast, name) * c == pytest.approx(getattr(slow, name), rel=1e-10, abs=1e-18)


@given(layer_runs(), st.booleans())
def test_a_mirrored_wafer_takes_the_same_time(layer_run, in_x):
    mesh, plan, compute, window = layer_run
    wafer = wafer_of(mesh)
    x, y = wafer.coordinates.T
    mirror = (mesh[0] - 1 - x) * mesh[1] + y if in_x else x * mesh[1] + (mesh[1] - 1 - y)
    mirrored = replace(plan, die=mirror[plan.die], source=mirror[plan.source])
    here, there = (simulate(wafer, p, 88e6, compute, window) for p in (plan, mirrored))
    assert there.time == pytest.approx(here.time, rel=1e-12)
    assert there.end == pytest.approx(here.end, rel=1e-12)


@given(st.integers(0, 24), st.integers(0, 24), st.sampled_from(["hbm", "link"]), st.floats(1, 10))
def test_one_read_alone_is_never_slower_on_a_faster_machine(source, die, part, c):
    base = {"hbm": 3.35e12, "link": 1.7e12}
    faster = {**base, part: base[part] * c}
    plan = plan_of((0, die, 1, source))
    assert simulate(wafer_of(**faster), plan, 88e6).time <= simulate(wafer_of(**base), plan, 88e6).time * (1 + 1e-12)


@given(layer_runs())
@settings(max_examples=30)
def test_the_same_kernel_gives_the_same_bits(layer_run):
    mesh, plan, compute, window = layer_run
    first, second = (simulate(wafer_of(mesh), plan, 88e6, compute, window) for _ in range(2))
    assert np.array_equal(first.end, second.end)
    assert np.array_equal(first.traffic.link_busy, second.traffic.link_busy)


def test_a_link_without_requests_carries_data_alone():
    spec = WAFERS["dojo"]
    wafer = build(replace(spec, link=LinkSpec(bandwidth=1.7e12, request=0.0)))
    run = simulate(wafer, plan_of((0, 24, 1, 0)), 88e6)
    assert run.traffic.link_request.sum() == 0
    assert run.traffic.link_data.sum() == pytest.approx(8 * 88e6)


@given(layer_runs())
@settings(max_examples=60)
def test_the_engine_agrees_with_one_written_from_the_documentation(layer_run):
    mesh, plan, compute, window = layer_run
    wafer = wafer_of(mesh)
    run = simulate(wafer, plan, 88e6, compute, window)
    assert run.end == pytest.approx(kernel_ends(wafer, plan, 88e6, compute.tolist(), window), rel=1e-9)


@given(
    st.lists(layer_runs(), min_size=1, max_size=3),
    st.sampled_from([0.0, 410e-9]),
    st.sampled_from([0.0, 200e-9]),
    st.integers(0, 3),
    st.booleans(),
)
def test_the_compiled_kernel_agrees_with_simpy(some, start, hop, places, flushed):
    wafer = wafer_of(some[0][0], start=start, hop=hop, llc=places * 88e6)
    check_twin(FluidSpec(), wafer, some, flushed)


@given(
    st.lists(layer_runs(), min_size=1, max_size=3),
    st.sampled_from([0.0, 200e-9]),
    st.integers(0, 3),
    st.sampled_from(["full", "half"]),
    st.sampled_from([(1.0, 1.0), (0.7, 1.0), (0.9, 0.3)]),
    st.booleans(),
)
def test_the_compiled_circuits_agree_with_simpy(some, hop, places, duplex, shares, flushed):
    wafer = wafer_of(some[0][0], hop=hop, llc=places * 88e6)
    check_twin(CircuitSpec(duplex=duplex, hbm_share=shares[0], link_share=shares[1]), wafer, some, flushed)


@given(
    st.lists(layer_runs(), min_size=1, max_size=3),
    st.sampled_from([0.0, 410e-9]),
    st.sampled_from([0.0, 200e-9]),
    st.integers(0, 3),
    st.sampled_from([(8e6, 4), (8e6, 1), (100e6, 2)]),
    st.booleans(),
)
def test_the_compiled_packets_agree_with_simpy(some, start, hop, slots, chunks, flushed):
    wafer = wafer_of(some[0][0], start=start, hop=hop, llc=slots * 88e6)
    check_twin(PacketSpec(chunk=chunks[0], window=chunks[1]), wafer, some, flushed)


@given(
    st.lists(layer_runs(), min_size=1, max_size=3),
    st.sampled_from([FluidSpec(), PacketSpec(chunk=8e6, window=4), CircuitSpec(), CircuitSpec(duplex="half")]),
    st.integers(1, 4),
    st.integers(0, 1),
    st.data(),
)
def test_prefetching_agrees_in_both_engines(some, network, slots, layer, data):
    """The next layer may be the same one, as where one layer is simulated."""
    wafer = wafer_of(some[0][0], llc=slots * 88e6)
    experts = st.lists(st.integers(0, 9), max_size=5, unique=True)
    lists = data.draw(st.lists(experts, min_size=wafer.num_dies, max_size=wafer.num_dies))
    check_twin(network, wafer, some, data.draw(st.booleans()), PrefetchPlan(layer=layer, experts=lists))


ENDS = """
import numpy as np
from kit import plan_of, wafer_of
from kit.engine import ENGINES
from wss.engine.llc import Llcs
from wss.engine.specs import CircuitSpec, FluidSpec, PacketSpec
from wss.engine.work import LayerWork, PrefetchPlan, WaferNetwork

wafer = wafer_of((2, 2), llc=2 * 88e6)
plan = plan_of((0, 0, 1, 0), (1, 0, 1, 2), (2, 1, 1, 3, True), (3, 3, 1, 0), (1, 2, 1, 1))
compute = np.array([1e-5, 0, 2e-5, 0, 1e-6])
for network in (FluidSpec(), PacketSpec(chunk=8e6, window=4), CircuitSpec(duplex="half")):
    for engine in ENGINES.values():
        llcs = Llcs(wafer.spec.die.llc, 4, 88e6)
        ahead = PrefetchPlan(layer=1, experts=[[7], [8], [], [9, 5]])
        work = LayerWork(layer=0, plan=plan, nbytes=88e6, compute=compute, window=2, prefetch=ahead)
        for _ in range(2):
            llcs.begin(flushed=False)
            done = engine(WaferNetwork(wafer, network), llcs, work)
        print([time.hex() for time in (*done.end, *done.traffic.link_busy)], done.hit, done.prefetched)
"""


@pytest.mark.slow
def test_compiled_code_gives_the_bits_of_plain_python():
    outputs = [
        subprocess.run(
            [sys.executable, "-c", ENDS],
            env=os.environ
            | {"NUMBA_DISABLE_JIT": off, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for off in ("0", "1")
    ]
    assert outputs[0].count("0x") > 6 * 5
    assert outputs[0] == outputs[1]


CIRCUITS = "{kind: circuit, duplex: half, hbm_share: 0.8}"
QUICK = (("deepseek_v3", "dojo", "fluid"), ("qwen3_235b", "dojo", "circuit"), ("llama4_maverick", "tsmc_sow", CIRCUITS))
WHOLE = [
    pytest.param(*whole, marks=[pytest.mark.slow] * (whole not in QUICK))
    for whole in itertools.product(
        ("deepseek_v3", "llama4_maverick", "qwen3_235b", "kimi_k2"),
        ("dojo", "tsmc_sow"),
        ("fluid", "circuit", CIRCUITS),
    )
]


@pytest.mark.parametrize(("name", "wafer", "network"), WHOLE)
def test_whole_runs_agree_in_every_policy(name, wafer, network):
    config = ROOT / "configs" / f"{name}.yaml"
    settings_ = [f"wafer={wafer}", "batch=512", "steps=2", "precision=fp8", f"network={network}"]
    layer = load(config).model.moe_layers[7]
    rows = [
        [
            row
            for ledger in run(load(config, [*settings_, f"layers=[{layer}]", f"engine={engine}"])).ledgers
            for row in ledger.rows
        ]
        for engine in ("simpy", "compiled")
    ]
    for a, b in zip(*rows, strict=True):
        assert (a.policy, a.step, a.hops) == (b.policy, b.step, b.hops)
        assert b.time_s == pytest.approx(a.time_s, rel=1e-9)
        assert b.mean_die_time_s == pytest.approx(a.mean_die_time_s, rel=1e-9)


def test_the_compiled_engine_refuses_a_network_of_a_plug_in():
    config = ROOT / "configs" / "qwen3_235b.yaml"
    with pytest.raises(ConfigError, match="is for the networks fluid, packet, circuit, not OneByOne"):
        replace(load(config, ["engine=compiled"]), network=OneByOne())
    assert load(config, ["engine=compiled", "network=packet"]).engine == "compiled"
