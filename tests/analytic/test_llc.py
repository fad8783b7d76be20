"""The LLCs: what hits, what a hit costs, what goes first, and prefetching."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import plan_of, wafer_of
from kit.engine import ENGINES

from wss.config import load
from wss.engine.llc import PREFETCHED, Llcs, keys_of, look_up, pin_if_cached, store
from wss.engine.specs import NETWORKS, CircuitSpec
from wss.engine.work import LayerWork, PrefetchPlan, WaferNetwork
from wss.execution import run
from wss.hardware import build
from wss.hardware.specs import LlcSpec
from wss.metrics.traffic import check_conservation
from wss.policies import PrefetchView, Signal
from wss.policies.prefetching import Popular

MB, US = 1e6, 1e-6


def layer_run(wafer, llcs, *tasks, compute=0.0, network="fluid", ahead=None, engine="simpy"):
    plan = plan_of(*tasks)
    llcs.begin(flushed=False)
    seconds = np.broadcast_to(np.asarray(compute, np.float64), len(tasks))
    work = LayerWork(layer=0, plan=plan, nbytes=MB, compute=seconds, window=1, prefetch=ahead)
    done = ENGINES[engine](WaferNetwork(wafer, NETWORKS[network]()), llcs, work)
    check_conservation(plan, done, wafer, MB)
    return done


def key(layer, expert):
    return keys_of(layer, np.array([expert]))[0]


class Cache:
    """One LLC with room for *slots* experts of one layer."""

    def __init__(self, slots):
        self.llcs = Llcs(LlcSpec(size=slots), 1, 1.0)

    def store(self, expert, pin=0):
        store(self.llcs.caches, 0, expert, 0.0, pin)

    def look_up(self, expert, now=0.0):
        return bool(look_up(self.llcs.caches, 0, expert, now))

    def begin(self, *, flushed):
        self.llcs.begin(flushed=flushed)

    @property
    def experts(self):
        return [expert for _, expert in self.llcs.content(0)]


def slow_wafer(size, *, write=0.0):
    """Two dies: HBM 1 MB/us after 1 us, links 4 MB/us and 0.1 us, LLC 2 MB/us after 0.2 us."""
    wafer = wafer_of((1, 2), hbm=MB / US, link=4 * MB / US, hop=0.1 * US, start=US)
    llc = LlcSpec(size=size, bandwidth=2 * MB / US, hit=0.2 * US, miss=0.0, write=write)
    wafer = build(replace(wafer.spec, die=replace(wafer.spec.die, llc=llc)))
    return wafer, Llcs(llc, 2, MB)


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_what_was_read_before_comes_out_of_the_llc(network):
    """Reads of 1 MB: 1 us and 1 us from the HBM; then 0.2 us and 0.5 us from the LLC, or 0.4 us over the hop."""
    wafer, llcs = slow_wafer(2 * MB)
    first = layer_run(wafer, llcs, (0, 0, 1, 0), network=network)
    assert (first.hit.tolist(), first.time) == ([False], pytest.approx(2 * US))
    again = layer_run(wafer, llcs, (0, 0, 1, 0), network=network)
    assert (again.hit.tolist(), again.time) == ([True], pytest.approx(0.7 * US))
    assert (again.traffic.hbm_read.sum(), again.traffic.llc_read[0]) == (0, pytest.approx(MB))
    afar = layer_run(wafer, llcs, (0, 1, 1, 0), network=network)
    assert afar.hit.tolist() == [True]
    if network != "packet":  # whose chunks go one after another
        assert afar.time == pytest.approx((0.2 + 2 * 0.1 + 0.5) * US)


def test_a_circuits_shares_are_of_hbms_and_links_not_of_llcs():
    wafer, llcs = slow_wafer(2 * MB)
    network = WaferNetwork(wafer, CircuitSpec(link_share=0.1, hbm_share=0.1))
    work = LayerWork(layer=0, plan=plan_of((0, 0, 1, 0)), nbytes=MB, compute=np.zeros(1), window=1)
    for expected in (1 + 10, 0.2 + 0.5):
        llcs.begin(flushed=False)
        done = ENGINES["simpy"](network, llcs, work)
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
    assert layer_run(wafer, llcs, (0, 0, 1, 0), (0, 1, 1, 0)).traffic.hbm_read[0] == pytest.approx(2 * MB)


def test_an_llc_larger_than_all_experts_has_no_more_slots_than_those():
    assert Llcs(LlcSpec(size=1e18), 2, 1e6, experts=36).slots == 36
    assert Llcs(LlcSpec(size=5e6), 2, 1e6, experts=36).slots == 5
    assert Llcs(LlcSpec(size=5e6), 2, 1e6).slots == 5


def test_an_expert_larger_than_the_llc_is_never_stored():
    wafer, llcs = slow_wafer(0.99 * MB)
    for _ in range(2):
        assert not layer_run(wafer, llcs, (0, 0, 1, 0)).hit.any()
    assert llcs.content(0) == []


def test_the_least_recently_used_goes_first():
    llc = Cache(3)
    for expert in (0, 1, 2):
        llc.store(expert)
    assert llc.look_up(0)
    llc.store(3)
    assert llc.experts == [2, 0, 3]
    assert [llc.look_up(expert) for expert in range(4)] == [True, False, True, True]


@pytest.mark.parametrize(("experts", "slots"), [(8, 2), (20, 5), (20, 19)])
def test_under_uniform_use_the_hit_ratio_is_slots_over_experts(experts, slots):
    """Independent uniform use: whatever LRU holds, the next one is among it with probability slots / experts."""
    llc, random = Cache(slots), np.random.default_rng(0)
    draws = random.integers(experts, size=20_000)
    hits = 0
    for i, expert in enumerate(draws.tolist()):
        hit = llc.look_up(expert, float(i))
        hits += hit
        if not hit:
            llc.store(expert)
    p = slots / experts
    assert hits / len(draws) == pytest.approx(p, abs=4 * (p * (1 - p) / len(draws)) ** 0.5 + slots / len(draws))


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["store", "prefetch", "look_up", "pin", "begin", "flush"]), st.integers(0, 9)),
    max_size=60,
)


@given(st.integers(0, 5), OPERATIONS)
def test_an_llc_does_what_a_list_of_experts_does(slots, operations):
    """Against a list, the least recently used first, and the layer runs for which each stays."""
    llc, experts, pins = Cache(slots), [], {}
    for what, expert in operations:
        if what in ("store", "prefetch"):
            llc.store(expert, PREFETCHED if what == "prefetch" else 0)
            free = next((other for other in experts if not pins[other]), None)
            if expert not in experts and (len(experts) < slots or free is not None):
                if len(experts) == slots:
                    experts.remove(free)
                experts.append(expert)
                pins[expert] = 2 * (what == "prefetch")
        elif what == "look_up":
            assert llc.look_up(expert) == (expert in experts)
            if expert in experts:
                experts.remove(expert)
                experts.append(expert)
                pins[expert] = 0
        elif what == "pin":
            assert bool(pin_if_cached(llc.llcs.caches, 0, expert)) == (expert in experts)
            pins[expert] = 2
        else:
            llc.begin(flushed=what == "flush")
            experts = [each for each in experts if what == "begin" or pins[each] == 2]
            pins = {each: max(0, pins[each] - 1) for each in experts}
        assert llc.experts == experts


def test_a_prefetch_stays_until_it_is_read_or_its_layer_run_is_over():
    llc = Cache(1)
    llc.store(0, PREFETCHED)
    llc.begin(flushed=True)
    llc.store(5)
    assert llc.experts == [0]
    assert llc.look_up(0)
    llc.store(5)
    assert llc.experts == [5]

    llc = Cache(1)
    llc.store(0, PREFETCHED)
    llc.begin(flushed=False)
    llc.begin(flushed=False)
    llc.store(5)
    assert llc.experts == [5]


def test_a_flush_leaves_only_what_was_prefetched():
    llc = Cache(2)
    llc.store(0)
    llc.store(1, PREFETCHED)
    llc.begin(flushed=True)
    assert llc.experts == [1]
    llc.begin(flushed=True)
    assert llc.experts == [], "the layer run that it was prefetched for is over"


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_there_already_is_kept_without_reading_it(engine):
    """Die 0 has read expert 7 of layer 1 before: it stays through a flush, and nothing is read for it."""
    wafer, llcs = slow_wafer(4 * MB)
    store(llcs.caches, 0, key(1, 7), 0.0, 0)
    ahead = PrefetchPlan(layer=1, experts=[[7], []])
    done = layer_run(wafer, llcs, (0, 0, 1, 0), (1, 1, 1, 1), compute=[0.0, 5 * US], ahead=ahead, engine=engine)
    assert done.prefetched.tolist() == [0, 0]
    llcs.begin(flushed=True)
    assert llcs.content(0) == [(1, 7)]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_die_that_is_done_prefetches_until_the_barrier(engine):
    """Die 0 is done at 2 us and reads ahead for 2 us each: one is there at 4 us, one is under way at the end, 5 us."""
    wafer, llcs = slow_wafer(4 * MB)
    ahead = PrefetchPlan(layer=1, experts=[[7, 8, 9], []])
    tasks = ((0, 0, 1, 0), (1, 1, 1, 1))
    done = layer_run(wafer, llcs, *tasks, compute=[0.0, 5 * US], ahead=ahead, engine=engine)
    assert done.time == pytest.approx(5 * US)
    assert done.prefetched.tolist() == [2, 0]
    assert llcs.content(0) == [(0, 0), (1, 7)]


@pytest.mark.parametrize("engine", ENGINES)
def test_of_dies_that_end_together_the_last_prefetches_nothing(engine):
    """Both dies end at 2 us, die 1 after die 0 in order: die 0 begins a read that is never stored."""
    wafer, llcs = slow_wafer(4 * MB)
    ahead = PrefetchPlan(layer=1, experts=[[7], [8]])
    done = layer_run(wafer, llcs, (0, 0, 1, 0), (1, 1, 1, 1), ahead=ahead, engine=engine)
    assert done.prefetched.tolist() == [1, 0]
    assert llcs.content(0) == [(0, 0)]


def test_popular_prefetches_what_the_die_holds_and_tokens_went_to():
    holders = np.array([[1, 0], [0, 1], [1, 0], [1, 1]], np.bool_)
    signals = {Signal.POPULARITY: np.array([5, 9, 7, 0])}
    view = PrefetchView(signals=signals, counts=np.zeros(4, np.int64), holders=holders, slots=2)
    assert Popular().prefetch(view).tolist() == [[2, 0], [1, -1]]


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
