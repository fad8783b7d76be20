"""The lower bound worked out by hand, and no layer run below it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import contiguous, run_layer, simulate, view_of, wafer_of

from wss.engine.specs import NETWORKS
from wss.hardware import GEMMS
from wss.metrics.bounds import Bounds
from wss.models import MODELS
from wss.policies import SEAMS
from wss.records import Plan, WeightLocations

ALLOCATIONS = SEAMS["allocation"].classes
MODEL = MODELS["deepseek_v3"]
READ = 3 * 7168 * 2048 * 2 / 3.35e12
TOKEN = 6 * 7168 * 2048 / 989e12
START = 410e-9
WAFERS = [wafer_of((3, 3)), wafer_of((1, 3)), wafer_of((2, 2), llc=1.5 * MODEL.expert_bytes("fp16"))]


def bound_of(counts, wafer=None, gemm="ideal", where=None):
    return Bounds(MODEL, wafer or wafer_of((5, 5)), "fp16", GEMMS[gemm]).of(np.array(counts), where)


def held_by(*dies, num_dies=25, cached=()):
    """Expert e is held by dies[e] (one, or several); those in *cached* lie in some LLC."""
    holders = np.zeros((len(dies), num_dies), np.bool_)
    for expert, mine in enumerate(dies):
        holders[expert, mine] = True
    return WeightLocations(holders=holders, cached=np.isin(np.arange(len(dies)), cached))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param([1] * 25, START + READ, id="a read for each die"),
        pytest.param([1] * 26, START + 2 * READ, id="some die's HBM serves two"),
        pytest.param([0] * 30 + [1], START + READ, id="experts without tokens are not read"),
        pytest.param([25_000], 1000 * TOKEN, id="an equal share of tokens for each die"),
        pytest.param([25_001], 1001 * TOKEN, id="some die computes one more"),
    ],
)
def test_the_bound_worked_out_by_hand(counts, expected):
    assert bound_of(counts) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("counts", "where", "expected"),
    [
        pytest.param([1] * 3, held_by(7, 7, 7), START + 3 * READ, id="one HBM holds all three"),
        pytest.param([1] * 3, held_by(7, 7, [7, 8]), START + 2 * READ, id="a replica may be read elsewhere"),
        pytest.param([1, 0, 1], held_by(7, 7, 7), START + 2 * READ, id="what has no tokens is not read"),
        pytest.param([20_000], held_by(7), 2500 * TOKEN, id="on eight dies; for nine the HBM would read longer"),
        pytest.param([20_000, 1], held_by(7, 7), START + 9 * READ, id="the same HBM reads one expert more"),
        pytest.param([20_000], held_by([7, 8]), START + 6 * READ, id="on twelve dies, two HBMs read six times each"),
    ],
)
def test_where_the_weights_are_tightens_it(counts, where, expected):
    best = bound_of(counts, where=where)
    assert best >= bound_of(counts)
    assert best == pytest.approx(expected, rel=1e-12)


def test_what_the_llcs_can_hold_is_taken_off():
    """25 LLCs with room for one expert each: of 26 experts one is read, of 25 none; or what is known to lie there."""
    wafer = wafer_of((5, 5), llc=1.5 * MODEL.expert_bytes("fp16"))
    assert bound_of([1] * 26, wafer) == pytest.approx(START + READ, rel=1e-12)
    assert bound_of([1] * 25, wafer) == pytest.approx(TOKEN, rel=1e-12)
    assert bound_of([1] * 3, wafer, where=held_by(7, 7, 7)) == pytest.approx(START + 3 * READ, rel=1e-12)
    assert bound_of([1] * 3, wafer, where=held_by(7, 7, 7, cached=[1])) == pytest.approx(START + 2 * READ, rel=1e-12)


def test_the_bound_with_measured_gemms():
    """1000 tokens, 16 tiles of 64, on some die: two launches, and 0.707 of the peak, less what starting tiles takes."""
    least = 2 * 2.16e-6 + 1024 * 2 * 2048 * (2 * (7168 + 626) + 7168 / 2048 * (2048 + 626)) / (0.707 * 989e12)
    assert bound_of([25_000], gemm="h800") == pytest.approx(least, rel=1e-12)


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=60).filter(any), st.sampled_from(sorted(ALLOCATIONS)))
def test_no_policys_kernel_beats_it(counts, name):
    wafer = wafer_of((3, 3))
    counts = np.array(counts)
    holders = contiguous(len(counts), wafer.num_dies)
    plan = ALLOCATIONS[name]().allocate(view_of(wafer, counts, holders))
    run = simulate(wafer, plan, MODEL.expert_bytes("fp16"), plan.tokens * TOKEN)
    where = WeightLocations(holders=holders, cached=np.zeros(len(counts), np.bool_))
    assert run.time >= bound_of(counts, wafer, where=where) * (1 - 1e-12)


@st.composite
def plans(draw):
    """A wafer, an expert or several on some dies each, and any plan that reads them from there."""
    wafer = draw(st.sampled_from(WAFERS))
    dies = st.integers(0, wafer.num_dies - 1)
    held = draw(st.lists(st.sets(dies, min_size=1, max_size=3), min_size=1, max_size=6))
    tasks = []
    for expert, mine in enumerate(held):
        for die in sorted(draw(st.sets(dies, max_size=wafer.num_dies))):
            source = die if die in mine else draw(st.sampled_from(sorted(mine)))
            tasks.append((expert, die, draw(st.integers(1, 3000)), source))
    if not tasks:
        tasks.append((0, min(held[0]), 1, min(held[0])))
    columns = np.array(draw(st.permutations(tasks)), np.int64).T.copy()
    plan = Plan(
        expert=columns[0], die=columns[1], tokens=columns[2], source=columns[3], copy=np.zeros(len(tasks), np.bool_)
    )
    return wafer, [sorted(mine) for mine in held], plan


@given(plans(), st.sampled_from(["fluid", "circuit"]), st.sampled_from(sorted(GEMMS)), st.integers(1, 4))
def test_no_plan_on_any_placement_beats_it(case, network, gemm, window):
    wafer, held, plan = case
    counts = np.bincount(plan.expert, plan.tokens, len(held)).astype(np.int64)
    shape = (MODEL.hidden_size, MODEL.moe_intermediate_size, wafer.spec.die, "fp16")
    seconds = GEMMS[gemm].seconds(plan.tokens.astype(np.float64), plan.die, *shape)
    run = run_layer(NETWORKS[network](), wafer, plan, MODEL.expert_bytes("fp16"), seconds, window)
    where = held_by(*held, num_dies=wafer.num_dies)
    assert run.time >= bound_of(counts, wafer, gemm, where) * (1 - 1e-12)
