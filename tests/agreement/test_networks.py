"""One contract for every network a run can use, and how far they differ."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import ROOT, plan_of, run_layer, simulate, wafer_of
from kit.engine import layer_runs

from wss.config import load
from wss.engine.specs import NETWORKS, CircuitSpec, PacketSpec
from wss.execution import run
from wss.hardware import build
from wss.metrics.traffic import check_conservation
from wss.records import Plan

CONFIGS = ROOT / "configs"
MB, US = 1e6, 1e-6


@given(layer_runs(), st.sampled_from(sorted(NETWORKS)))
@settings(max_examples=60)
def test_every_network_conserves_bytes_and_is_no_faster_than_a_read_alone(layer_run, network):
    mesh, plan, compute, window = layer_run
    wafer = wafer_of(mesh)
    run = simulate(wafer, plan, 5e6, compute, window, network=network)
    check_conservation(plan, run, wafer, 5e6)
    hops = wafer.hops[plan.source, plan.die]
    alone = 410e-9 + 2 * hops * 200e-9 + 5e6 / np.where(hops > 0, 1.7e12, 3.35e12)
    assert (run.read_end - run.issue >= alone * (1 - 1e-9)).all()
    assert (run.end >= run.read_end * (1 - 1e-12)).all()
    assert (run.traffic.link_busy <= run.time * (1 + 1e-9)).all()


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_every_network_gives_the_same_bits_again(network):
    wafer = wafer_of((3, 3))
    plan = plan_of(*((e, (e + 4) % 9, 1, e % 9) for e in range(30)))
    first, second = (simulate(wafer, plan, 5e6, 1e-6, network=network) for _ in range(2))
    assert np.array_equal(first.end, second.end)


@pytest.mark.parametrize(("source", "die"), [(0, 0), (0, 1), (0, 8)])
def test_one_read_alone_in_small_chunks_is_nearly_fluid(source, die):
    """Chunks of 64 KiB are stored and forwarded at each hop: a chunk's time more for each. The window must cover the
    round trip: with 32 chunks of 64 KiB, four hops away, it does not.
    """
    wafer = wafer_of((3, 3))
    plan = plan_of((0, die, 1, source))
    fluid = simulate(wafer, plan, 88e6).time
    wide, narrow = (
        run_layer(PacketSpec(window=window), wafer, plan, 88e6, np.zeros(1), 1).time for window in (256, 32)
    )
    assert fluid * (1 - 1e-12) <= wide <= fluid * 1.02
    assert (narrow > 1.5 * fluid) == (wafer.hops[source, die] == 4)


def test_one_packet_read_worked_out_by_hand():
    """One chunk of 1 MB, one hop: the request, 0.25 MB at 1 MB/us, and 0.1 us; 0.5 us of access; the HBM 0.5 us at
    2 MB/us; the link 1 us and 0.1 us.
    """
    wafer = wafer_of((1, 2), hbm=2 * MB / US, link=MB / US, hop=0.1 * US, start=0.3 * US)
    llc = replace(wafer.spec.die.llc, miss=0.2 * US)
    wafer = build(replace(wafer.spec, die=replace(wafer.spec.die, llc=llc)))
    network = PacketSpec(chunk=2 * MB, window=1)
    run = run_layer(network, wafer, plan_of((0, 1, 1, 0)), MB, np.zeros(1), 1)
    assert run.time == pytest.approx((0.25 + 0.1 + 0.5 + 0.5 + 1.0 + 0.1) * US)


@pytest.mark.parametrize(("source", "window", "takes"), [(0, 1, 5.0), (0, 2, 2.75), (0, 4, 2.0), (1, 1, 7.05)])
def test_a_chunk_that_its_window_held_back_waits_its_latency_too(source, window, takes):
    """Four chunks of 0.25 MB: each is asked for, waits 1 us, and is read in 0.25 us; a hop takes 0.1 us.

    From the other die a chunk takes 0.1 + 0.0625 us for its request, 1.25 us there, and 0.25 + 0.1 us over the link.
    """
    wafer = wafer_of((1, 2), hbm=MB / US, link=MB / US, hop=0.1 * US, start=US)
    network = PacketSpec(chunk=0.25 * MB, window=window)
    run = run_layer(network, wafer, plan_of((0, 0, 1, source)), MB, np.zeros(1), 1)
    assert run.time == pytest.approx(takes * US)


def test_circuits_hold_and_half_duplex_holds_both_ways():
    """Reads of 1 MB at 1 MB/us either way over one link: side by side, or one after another."""
    wafer = wafer_of((1, 2), hbm=10 * MB / US, link=MB / US, hop=0.0, start=0.0)
    plan = plan_of((0, 1, 1, 0), (1, 0, 1, 1))
    times = [run_layer(CircuitSpec(duplex=duplex), wafer, plan, MB, np.zeros(2), 2).time for duplex in ("full", "half")]
    assert times == pytest.approx([1 * US, 2 * US])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deepseek_v3", "qwen3_235b", "llama4_maverick", "kimi_k2"])
def test_fluid_and_windowed_packet_differ_by_less_than_a_tenth(name):
    """A whole MoE layer run of each model, for base, ep and allo."""
    layer = load(CONFIGS / f"{name}.yaml").model.moe_layers[5]
    precision = "fp8" if name == "kimi_k2" else "fp16"
    settings = ["policies=[base, ep, allo]", "steps=1", f"layers=[{layer}]", f"precision={precision}"]
    times = [
        {r["policy"]: r["decode_time_s"] for r in run(load(CONFIGS / f"{name}.yaml", [*settings, s])).to_dict()["runs"]}
        for s in ("network=fluid", "network={kind: packet, chunk: 256 KiB, window: 32}")
    ]
    for policy, fluid in times[0].items():
        assert times[1][policy] == pytest.approx(fluid, rel=0.1), policy


def test_a_circuit_achieves_its_shares_of_bandwidth():
    """1 MB from an HBM of 10 MB/us over a link of 1 MB/us: half of the link counts, or a twentieth of the HBM."""
    wafer = wafer_of((1, 2), hbm=10 * MB / US, link=MB / US, hop=0.0, start=0.0)
    for shares, expected in (({"link_share": 0.5}, 2 * US), ({"hbm_share": 0.05}, 2 * US), ({}, US)):
        run = run_layer(CircuitSpec(**shares), wafer, plan_of((0, 1, 1, 0)), MB, np.zeros(1), 1)
        assert run.time == pytest.approx(expected)


def test_a_circuit_holds_no_link_for_requests_even_where_they_weigh_as_much_as_data():
    wafer = wafer_of((1, 2), hbm=10 * MB / US, link=MB / US, hop=0.0, start=0.0)
    link = replace(wafer.spec.link, request=64.0, granule=64.0)
    wafer = build(replace(wafer.spec, link=link))
    plan = plan_of((0, 1, 1, 0), (1, 0, 1, 1))
    assert run_layer(CircuitSpec(), wafer, plan, MB, np.zeros(2), 2).time == pytest.approx(US)


@pytest.mark.parametrize(
    ("request_bytes", "granule", "carried"), [(16.0, 64.0, 3e6 * 16 / 64), (16.0, 1e6, 3 * 16.0), (0.0, 64.0, 0.0)]
)
def test_requests_are_of_64_bytes_of_a_matrix_or_none(request_bytes, granule, carried):
    """Die 2 of three in a row reads an expert of 3 MB, three matrices, from die 0; requests cross both links."""
    wafer = wafer_of((1, 3))
    spec = replace(wafer.spec, link=replace(wafer.spec.link, request=request_bytes, granule=granule))
    wafer = build(spec)
    zero = np.zeros(1, np.int64)
    plan = Plan(expert=zero, die=zero + 2, tokens=zero + 1, source=zero, copy=zero > 0)
    found = simulate(wafer, plan, 3e6, np.zeros(1), 2, network="fluid").traffic
    by_link = dict(zip(map(tuple, wafer.links.tolist()), found.link_request.tolist(), strict=True))
    assert by_link == pytest.approx({(2, 1): carried, (1, 0): carried, (0, 1): 0.0, (1, 2): 0.0})
    assert found.link_data.sum() == pytest.approx(2 * 3e6)
