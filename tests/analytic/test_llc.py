"""The LLCs: what hits, what a hit costs, what goes first, and prefetching."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import plan_of, wafer_of

from wss.config import load
from wss.engine import NETWORKS, Llcs, PrefetchPlan, simulate_layer
from wss.engine.llc import Llc
from wss.engine.network.base import CircuitSpec
from wss.execution import run
from wss.hardware import build
from wss.hardware.specs import LlcSpec
from wss.metrics.traffic import check_conservation
from wss.policies.prefetching import Popular

MB, US = 1e6, 1e-6


def layer_run(wafer, llcs, *tasks, compute=0.0, window=1, network="fluid", ahead=None, nbytes=MB):
    plan = plan_of(*tasks)
    model = NETWORKS[network]().model(wafer)
    llcs.begin(flushed=False)
    done = simulate_layer(model, llcs, 0, plan, nbytes, np.full(len(tasks), compute), window, ahead)
    check_conservation(plan, done, wafer, nbytes)
    return done


def slow_wafer(size, *, write=0.0):
    """Two dies: HBM 1 MB/us after 1 us, links 4 MB/us and 0.1 us, LLC 2 MB/us after 0.2 us."""
    wafer = wafer_of((1, 2), hbm=MB / US, link=4 * MB / US, hop=0.1 * US, start=US)
    llc = LlcSpec(size=size, bandwidth=2 * MB / US, hit=0.2 * US, miss=0.0, write=write)
    wafer = build(replace(wafer.spec, die=replace(wafer.spec.die, llc=llc)))
    return wafer, Llcs(llc, 2)


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_what_was_read_before_comes_out_of_the_llc(network):
    """Reads of 1 MB: 1 us and 1 us from the HBM; then 0.2 us and 0.5 us from the LLC, or 0.4 us over the hop."""
    wafer, llcs = slow_wafer(2 * MB)
    first = layer_run(wafer, llcs, (0, 0, 1, 0), network=network)
    assert (first.hit.tolist(), first.time) == ([False], pytest.approx(2 * US))
    again = layer_run(wafer, llcs, (0, 0, 1, 0), network=network)
    assert (again.hit.tolist(), again.time) == ([True], pytest.approx(0.7 * US))
    assert (again.carried.hbm_read.sum(), again.carried.llc_read[0]) == (0, pytest.approx(MB))
    afar = layer_run(wafer, llcs, (0, 1, 1, 0), network=network)
    assert afar.hit.tolist() == [True]
    if network != "packet":  # whose chunks go one after another
        assert afar.time == pytest.approx((0.2 + 2 * 0.1 + 0.5) * US)


def test_a_circuits_shares_are_of_hbms_and_links_not_of_llcs():
    wafer, llcs = slow_wafer(2 * MB)
    model = CircuitSpec(link_share=0.1, hbm_share=0.1).model(wafer)
    for expected in (1 + 10, 0.2 + 0.5):
        llcs.begin(flushed=False)
        done = simulate_layer(model, llcs, 0, plan_of((0, 0, 1, 0)), MB, np.zeros(1), 1)
        assert done.time == pytest.approx(expected * US)


def test_a_read_hits_once_the_read_before_it_is_stored():
    """Die 1 computes expert 1 for 2 us, then reads expert 0 from die 0, whose own read of it ended at 2 us."""
    for write, hit in ((0.0, True), (0.5 * US, False)):
        wafer, llcs = slow_wafer(2 * MB, write=write)
        done = layer_run(wafer, llcs, (0, 0, 1, 0), (1, 1, 1, 1), (0, 1, 1, 0), compute=2.1 * US)
        assert done.issue[2] == pytest.approx(2.1 * US)
        assert done.hit.tolist() == [False, False, hit]


def test_two_reads_under_way_both_go_to_the_hbm():
    wafer, llcs = slow_wafer(2 * MB)
    assert layer_run(wafer, llcs, (0, 0, 1, 0), (0, 1, 1, 0)).carried.hbm_read[0] == pytest.approx(2 * MB)


def test_an_llc_larger_than_all_experts_has_no_more_places_than_those():
    large = LlcSpec(size=1e18)
    assert Llcs(large, 2, experts=36).places(1e6) == 36
    assert Llcs(LlcSpec(size=5e6), 2, experts=36).places(1e6) == 5
    assert Llcs(large, 2).places(1e6) == 10**12


def test_an_expert_larger_than_the_llc_is_never_stored():
    wafer, llcs = slow_wafer(0.99 * MB)
    for _ in range(2):
        assert not layer_run(wafer, llcs, (0, 0, 1, 0)).hit.any()
    assert llcs[0].used == 0


def test_the_least_recently_used_goes_first():
    llc = Llc(3.0)
    for expert in (0, 1, 2):
        llc.store((0, expert), 1.0, 0.0)
    assert llc.look_up((0, 0), 0.0)
    llc.store((0, 3), 1.0, 0.0)
    assert [llc.look_up((0, expert), 0.0) for expert in range(4)] == [True, False, True, True]
    llc.store((0, 4), 2.0, 0.0)  # two go for it: 0 and 2
    assert [llc.look_up((0, expert), 0.0) for expert in range(5)] == [False, False, False, True, True]


@pytest.mark.parametrize(("experts", "slots"), [(8, 2), (20, 5), (20, 19)])
def test_under_uniform_use_the_hit_ratio_is_slots_over_experts(experts, slots):
    """Independent uniform use: whatever LRU holds, the next one is among it with probability slots / experts."""
    llc, random = Llc(10.0 * slots + 9), np.random.default_rng(0)
    draws = random.integers(experts, size=20_000)
    hits = 0
    for i, expert in enumerate(draws.tolist()):
        hit = llc.look_up((0, expert), float(i))
        hits += hit
        if not hit:
            llc.store((0, expert), 10.0, float(i))
    p = slots / experts
    assert hits / len(draws) == pytest.approx(p, abs=4 * (p * (1 - p) / len(draws)) ** 0.5 + slots / len(draws))


@given(st.floats(0, 10), st.lists(st.tuples(st.integers(0, 9), st.floats(0.1, 5), st.booleans()), max_size=60))
def test_the_llc_is_never_overfull(size, stores):
    llc = Llc(size)
    for i, (expert, nbytes, keep) in enumerate(stores):
        llc.store((0, expert), nbytes, float(i), keep=keep)
        assert llc.used <= size + 1e-9
        if i % 7 == 0:
            llc.begin(flushed=i % 2 == 0)


def test_a_prefetch_stays_until_it_is_read_or_its_kernel_is_over():
    llc = Llc(1.0)
    assert llc.store((1, 0), 1.0, 0.0, keep=True)
    llc.begin(flushed=True)
    assert not llc.store((1, 5), 1.0, 0.0)
    assert llc.look_up((1, 0), 0.0)
    assert llc.store((1, 5), 1.0, 0.0)

    llc = Llc(1.0)
    llc.store((1, 0), 1.0, 0.0, keep=True)
    llc.begin(flushed=False)
    llc.begin(flushed=False)
    assert llc.store((1, 5), 1.0, 0.0)


def test_a_flush_leaves_only_what_was_prefetched():
    llc = Llc(2.0)
    llc.store((0, 0), 1.0, 0.0)
    llc.store((1, 1), 1.0, 0.0, keep=True)
    llc.begin(flushed=True)
    assert [llc.look_up((0, 0), 0.0), llc.look_up((1, 1), 0.0), llc.used] == [False, True, 1.0]


def test_a_prefetch_whose_kernel_is_over_does_not_survive_a_flush():
    llc = Llc(1.0)
    llc.store((1, 0), 1.0, 0.0, keep=True)
    llc.begin(flushed=True)
    llc.begin(flushed=True)
    assert llc.used == 0


def test_what_is_there_already_is_kept_without_reading_it():
    """Die 0 has read expert 7 of layer 1 before: it stays through a flush, and nothing is read for it."""
    wafer, llcs = slow_wafer(4 * MB)
    llcs[0].store((1, 7), MB, 0.0)
    ahead = PrefetchPlan(layer=1, experts=[[7], []])
    done = layer_run(wafer, llcs, (0, 0, 1, 0), (1, 1, 1, 1), compute=5 * US, ahead=ahead)
    assert done.prefetched.tolist() == [0, 0]
    llcs.begin(flushed=True)
    assert llcs[0].look_up((1, 7), 0.0)


def test_a_die_that_is_done_prefetches_until_the_barrier():
    """Die 0 is done at 2 us and reads ahead for 2 us each: one is there at 4 us, one is under way at the end, 5 us."""
    wafer, llcs = slow_wafer(4 * MB)
    tasks = ((0, 0, 1, 0), (1, 1, 1, 1))
    ahead = PrefetchPlan(layer=1, experts=[[7, 8, 9], []])
    llcs.begin(flushed=False)
    plan = plan_of(*tasks)
    model = NETWORKS["fluid"]().model(wafer)
    done = simulate_layer(model, llcs, 0, plan, MB, np.array([0.0, 5 * US]), 1, ahead)
    check_conservation(plan, done, wafer, MB)
    assert done.time == pytest.approx(5 * US)
    assert done.prefetched.tolist() == [2, 0]
    assert [llcs[0].look_up((1, expert), 1.0) for expert in (7, 8, 9)] == [True, False, False]


def test_popular_prefetches_what_the_die_holds_and_tokens_went_to():
    holders = np.array([[1, 0], [0, 1], [1, 0], [1, 1]], np.bool_)
    assert Popular().ahead(np.array([5, 9, 7, 0]), holders, 2).tolist() == [[2, 0], [1, -1]]


def test_a_run_prefetches_and_hits(tmp_path):
    """Experts of 38 MB on Qwen3: an LLC holds one. The die that ends last never prefetches; the others are faster."""
    path = tmp_path / "e.yaml"
    path.write_text(
        "{model: qwen3_235b, wafer: dojo, trace: {synth: {preset: qwen3_235b, requests: 64}}, batch: 64, steps: 2,"
        " layers: [0, 1, 2], policies: [ep, {name: ahead, preset: ep, prefetching: popular}], baseline: ep}"
    )
    runs = {r["policy"]: r for r in run(load(path)).to_dict()["runs"]}
    assert runs["ep"]["llc_hits"] == runs["ep"]["prefetched_bytes"] == 0
    assert runs["ahead"]["llc_hits"] > 0
    assert runs["ahead"]["prefetched_bytes"] >= runs["ahead"]["llc_hit_bytes"] > 0
    assert runs["ahead"]["decode_time_s"] <= runs["ep"]["decode_time_s"] * (1 + 1e-12)
    assert runs["ahead"]["imbalance"] > runs["ep"]["imbalance"]
