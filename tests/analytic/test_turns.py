"""Whose turn it is at one instant: what has been read is stored, then dies look up by number, each its own in order."""

from dataclasses import replace

import numpy as np
import pytest
from kit import plan_of, wafer_of
from kit.engine import check_twin

from wss.config import load
from wss.engine.layer import simulate_layer
from wss.engine.layer_compiled import compiled_layer
from wss.engine.llc import Llcs, store
from wss.engine.specs import CircuitSpec, FluidSpec, PacketSpec
from wss.engine.work import LayerWork, WaferNetwork
from wss.execution import run
from wss.hardware import build
from wss.hardware.specs import LlcSpec

MB, US = 1e6, 1e-6
ENGINES = {
    "fluid": (FluidSpec(), simulate_layer),
    "fluid compiled": (FluidSpec(), compiled_layer),
    "circuit": (CircuitSpec(), simulate_layer),
    "circuit compiled": (CircuitSpec(), compiled_layer),
}


def wafer_with(places, *, write=0.0):
    """Three dies without latencies: HBM 1 MB/us, links 100 MB/us, LLC 2 MB/us with room for so many experts."""
    wafer = wafer_of((1, 3), hbm=MB / US, link=100 * MB / US, hop=0.0, start=0.0)
    llc = LlcSpec(size=places * MB, bandwidth=2 * MB / US, hit=0.0, miss=0.0, write=write)
    return build(replace(wafer.spec, die=replace(wafer.spec.die, llc=llc)))


def ran(engine, wafer, plan, compute, content, window=1):
    """Run *plan* with *content* in the LLCs, {die: experts, the oldest first}."""
    network, simulate = ENGINES[engine]
    llcs = Llcs(wafer.spec.die.llc, wafer.num_dies, MB)
    for die, experts in content.items():
        for expert in experts:
            store(llcs.caches, die, expert, 0.0, 0)
    llcs.begin(flushed=False)
    work = LayerWork(layer=0, plan=plan, nbytes=MB, compute=np.array(compute), window=window)
    return simulate(WaferNetwork(wafer, network), llcs, work), llcs


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_dies_look_up_in_the_order_of_their_numbers(engine):
    """At 1 us die 0 has read and die 1 has computed; A and B lie in LLC 2, and C will push out who was looked up first.

    By number that is A, which die 0 then misses.
    """
    own, a, b, c = 0, 1, 2, 3
    plan = plan_of((own, 0, 1, 0), (a, 0, 1, 2), (c, 0, 1, 2), (a, 0, 1, 2), (own, 1, 1, 1), (b, 1, 1, 2))
    compute = [0.5 * US, 0, 0, 0, 1 * US, 0]
    done, llcs = ran(engine, wafer_with(2), plan, compute, {2: (a, b), 1: (own,)})
    assert done.issue[[1, 5]] == pytest.approx(1 * US)
    assert done.hit.tolist() == [False, True, False, False, True, True]
    assert llcs.content(2) == [(0, c), (0, a)]


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_what_was_read_by_an_instant_is_stored_before_dies_look_up(engine):
    """At 1 us die 2 has read C, which takes the one place in its LLC from A, and die 0 has computed: it misses A."""
    own, a, c = 0, 1, 2
    plan = plan_of((own, 0, 1, 0), (a, 0, 1, 2), (c, 2, 1, 2))
    done, _ = ran(engine, wafer_with(1), plan, [1 * US, 0, 0], {2: (a,), 0: (own,)})
    assert done.hit.tolist() == [True, False, False]


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_what_is_there_from_an_instant_on_is_found_at_it(engine):
    """0.2 us of reading and 0.1 us of writing are 0.3 us of computing, but for the last bit."""
    own, a = 0, 1
    plan = plan_of((own, 0, 1, 0), (a, 0, 1, 1), (a, 1, 1, 1))
    wafer = wafer_with(1, write=0.1 * US)
    die = wafer.spec.die
    die = replace(die, hbm=replace(die.hbm, bandwidth=5 * MB / US), llc=replace(die.llc, bandwidth=10 * MB / US))
    wafer = build(replace(wafer.spec, die=die))
    done, _ = ran(engine, wafer, plan, [np.nextafter(0.2 * US + 0.1 * US, 0), 0, 0], {0: (own,)})
    assert done.hit.tolist() == [True, True, False]


@pytest.mark.parametrize("engine", ["fluid", "fluid compiled"])
def test_what_is_read_at_one_instant_is_stored_by_die_then_by_task(engine):
    """Die 0's reads of A and B, and die 1's of C, end together; the plan names C first, and C is stored last.

    LLC 2 has room for two, so B and C stay, in that order.
    """
    a, b, c = 1, 2, 3
    plan = plan_of((c, 1, 1, 2), (a, 0, 1, 2), (b, 0, 1, 2))
    done, llcs = ran(engine, wafer_with(2), plan, [0.0, 0.0, 0.0], {}, window=2)
    assert done.read_end == pytest.approx([3 * US] * 3)
    assert llcs.content(2) == [(0, b), (0, c)]


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_times_that_only_rounding_tells_apart_are_one_instant(engine):
    """Die 1 has computed a last bit before die 0: by number die 0 still looks up first, and C pushes out its A."""
    own, a, b, c = 0, 1, 2, 3
    plan = plan_of((own, 0, 1, 0), (a, 0, 1, 2), (c, 0, 1, 2), (a, 0, 1, 2), (own, 1, 1, 1), (b, 1, 1, 2))
    compute = [1 * US, 0, 0, 0, np.nextafter(1 * US, 0), 0]
    done, _ = ran(engine, wafer_with(2), plan, compute, {2: (a, b), 0: (own,), 1: (own,)})
    assert done.hit.tolist() == [True, True, False, False, True, True]


def tied(rng, mesh):
    """A plan whose reads and computing take whole numbers of half microseconds, so that much happens at one instant."""
    dies = mesh[0] * mesh[1]
    tasks = [
        (expert, die, 1, source)
        for die in range(dies)
        for expert, source in zip(rng.permutation(8)[: rng.integers(0, 7)], rng.integers(0, dies, 8), strict=False)
    ]
    tasks = tasks or [(0, 0, 1, 0)]
    compute = rng.integers(0, 4, len(tasks)) * 0.5 * US
    return mesh, plan_of(*(tasks[i] for i in rng.permutation(len(tasks)))), compute, int(rng.integers(1, 4))


# 88 whole chunks per expert, more than a window of them; the usual 1343 take as many times longer
@pytest.mark.parametrize(
    "network", [FluidSpec(), CircuitSpec(), PacketSpec(chunk=MB)], ids=["fluid", "circuit", "packet"]
)
def test_the_engines_agree_where_much_is_at_one_instant(network):
    rng = np.random.default_rng(20)
    for _ in range(150):
        mesh = (int(rng.integers(1, 3)), int(rng.integers(1, 4)))
        slow = rng.choice([0.0, 0.1 * US])
        wafer = wafer_of(mesh, hbm=88 * MB / US, link=88 * MB / US, hop=slow, start=slow)
        llc = LlcSpec(size=int(rng.integers(0, 5)) * 88 * MB, bandwidth=176 * MB / US, hit=slow, miss=0.0, write=slow)
        wafer = build(replace(wafer.spec, die=replace(wafer.spec.die, llc=llc)))
        check_twin(network, wafer, [tied(rng, mesh) for _ in range(2)], flushed=False)


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_in_which_order_a_plan_names_the_dies_decides_nothing(engine):
    rng = np.random.default_rng(21)
    wafer = wafer_with(2)
    for _ in range(30):
        _, plan, compute, window = tied(rng, (1, 3))
        other = np.lexsort((np.arange(len(plan.die)), -plan.die))  # the last die's tasks first
        content = {0: (0, 1), 1: (2, 3), 2: (4, 5)}
        here, _ = ran(engine, wafer, plan, compute, content, window)
        columns = {name: column[other] for name, column in vars(plan).items()}
        there, _ = ran(engine, wafer, replace(plan, **columns), compute[other], content, window)
        assert there.hit.tolist() == here.hit[other].tolist()
        assert there.end == pytest.approx(here.end[other], rel=1e-9)


def test_packets_wait_for_the_turns_of_an_instant_and_go_on():
    """Reads that end while others have chunks under way: dies look up between them, and all of it ends."""
    rng = np.random.default_rng(22)
    network = WaferNetwork(wafer_with(2), PacketSpec(chunk=0.25 * MB, window=2))
    for _ in range(20):
        _, plan, compute, window = tied(rng, (1, 3))
        runs = []
        for order in (np.arange(len(plan.die)), np.lexsort((np.arange(len(plan.die)), -plan.die))):
            llcs = Llcs(wafer_with(2).spec.die.llc, 3, MB)
            some = replace(plan, **{name: column[order] for name, column in vars(plan).items()})
            work = LayerWork(layer=0, plan=some, nbytes=MB, compute=compute[order], window=window)
            done = simulate_layer(network, llcs, work)
            assert (done.end >= done.read_end).all()
            assert (done.end > 0).all()
            runs.append(done.end[np.argsort(order)])
        assert runs[0] == pytest.approx(runs[1], rel=1e-9)


TIES = """
model:
  {name: t, num_layers: 2, moe_layers: [1], num_experts: 13, top_k: 3, hidden_size: 256, moe_intermediate_size: 512}
wafer:
  mesh: [2, 2]
  die:
    flops: {fp8: 900 TFLOPS, fp16: 900 TFLOPS}
    hbm: {bandwidth: 1 TB/s, latency: 0, size: 80 GB}
    llc: {size: 1179.766 kB, bandwidth: 8 TB/s, hit: 0, miss: 110 ns, write: 30 ns}
  link: {bandwidth: 5 TB/s, latency: 200 ns, granule: 128 B, request: 16 B}
trace: {synth: {requests: 17, prompt_min: 1, prompt_max: 4, decode_tokens: 4}}
batch: 17
steps: 3
precision: fp8
gemm: ideal
policies: [base, ep]
window: 4
seed: 306
"""


def test_runs_whose_time_hangs_on_ties_agree(tmp_path):
    """With dies and tasks served the other way round a layer run here takes 44% longer."""
    (tmp_path / "ties.yaml").write_text(TIES)
    rows = []
    for engine in ("simpy", "compiled"):
        ledgers = run(load(tmp_path / "ties.yaml", [f"engine={engine}"])).ledgers
        rows.append([row.time_s for ledger in ledgers for row in ledger.rows])
    assert rows[0] == pytest.approx(rows[1], rel=1e-9)
