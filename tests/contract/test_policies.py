"""What policies promise beyond the contract, which tests/contract/test_testing.py tries on all of them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import contiguous, in_plain_python, pool_of, shown_of, view_of, wafer_of

from wss.policies import POLICIES, SEAMS, Forecasting, PredictionView, Signal
from wss.policies.allocation.algorithm1 import algorithm1, keep_candidates, nearest_source
from wss.policies.allocation.basic import Algorithm1, Chunked, Even, Home, InTurn
from wss.policies.allocation.nearest_replica import Nearest, to_nearest
from wss.policies.placement.basic import contiguous_homes
from wss.policies.prediction import TokenHeatmap
from wss.policies.validation import sealed, validate_plan
from wss.records import Plan

WAFERS = {mesh: wafer_of(mesh) for mesh in [(1, 1), (1, 3), (3, 8), (5, 5), (8, 8)]}


@st.composite
def views(draw):
    """A layer run on one of the wafers, with copies here and there and experts first seen in any order."""
    wafer = WAFERS[draw(st.sampled_from(sorted(WAFERS)))]
    num_experts = draw(st.integers(1, 40))
    counts = np.array(draw(st.lists(st.integers(0, 2000), min_size=num_experts, max_size=num_experts)), np.int64)
    counts[draw(st.integers(0, num_experts - 1))] += 1
    holders = contiguous(num_experts, wafer.num_dies)
    for expert, die in draw(st.lists(st.tuples(st.integers(0, num_experts - 1), st.integers(0, wafer.num_dies - 1)))):
        holders[expert, die] = True
    order = np.array(draw(st.permutations(np.flatnonzero(counts).tolist())), np.int64)
    view = view_of(wafer, counts, holders, order)
    home = contiguous_homes(num_experts, wafer.num_dies)
    object.__setattr__(view, "primary_die", home)
    for array in (view.counts, view.order, view.primary_die, view.holders):
        array.flags.writeable = False
    return view


@given(views(), st.sampled_from(sorted(SEAMS["allocation"].classes)))
def test_a_die_that_holds_the_expert_reads_its_own(view, name):
    plan = validate_plan(SEAMS["allocation"].classes[name]().allocate(view), view, name)
    assert not plan.remote[view.holders[plan.expert, plan.die]].any()


@given(views())
def test_nearest_and_its_readable_twin_agree(view):
    arguments = (view.order, view.counts, view.replicas, view.hops)
    assert np.array_equal(to_nearest(*arguments), in_plain_python(to_nearest, *arguments))


def test_each_die_sends_its_share_to_the_nearest_holder():
    """Three dies in a row send 2 of 6 tokens of expert 0 each; die 1 has both holders at one hop, and die 2 less to do.

    Expert 2 lives at both ends too. Of its two tokens dies 0 and 1 send one each, as it is the third expert: the first
    die to send is 2, and two tokens of three dies come from the second and the third.
    """
    holders = np.array([[True, False, True], [True, False, False], [True, False, True]])
    view = view_of(WAFERS[1, 3], np.array([6, 9, 2]), holders, np.array([1, 0, 2]))
    plan = Nearest().allocate(view)
    assert list(zip(plan.expert, plan.die, plan.tokens, strict=True)) == [
        (1, 0, 9),
        (0, 0, 2),
        (0, 2, 4),
        (2, 0, 1),
        (2, 2, 1),
    ]
    assert not plan.remote.any()


def test_of_equally_near_holders_without_tokens_the_lower_die_is_taken():
    """The one token of the first expert is sent by the last die of 2 x 2, a hop from dies 1 and 2."""
    holders = np.array([[False, True, True, False]])
    plan = Nearest().allocate(view_of(wafer_of((2, 2)), np.array([1]), holders))
    assert plan.die.tolist() == [1]


def test_of_equally_near_holders_the_one_with_two_replicas_gets_twice_as_much():
    """Dies 0 and 3 of 2 x 2 are a hop from either holder, and send their tokens so that the two have 2 to 1."""
    replicas = np.tile([[0, 2, 1, 0]], (30, 1))
    plan = Nearest().allocate(view_of(wafer_of((2, 2)), np.full(30, 400), replicas))
    by_die = np.bincount(plan.die, plan.tokens, 4)
    assert by_die.sum() == 30 * 400
    assert by_die[1] / by_die[2] == pytest.approx(2, rel=0.02)


@given(views(), st.sampled_from(sorted(SEAMS["prediction"].classes)), st.integers(0, 10))
def test_every_prediction_is_pure_and_of_the_plans_shape(view, name, seed):
    num_experts = len(view.counts)
    prediction = SEAMS["prediction"].classes[name]()
    values = {}
    for signal in prediction.signals:
        rows = view.num_dies if signal is Signal.NEXT_STEP else num_experts
        counts = np.random.default_rng(seed).integers(0, 5, (rows, num_experts))
        values[signal] = sealed(counts / 3 if signal is Signal.DECAYED_TRANSITIONS else counts)
    plan = InTurn().allocate(view)
    shown = PredictionView(signals=values, plan=plan, num_experts=num_experts, num_dies=view.num_dies)
    selected = prediction.predict(shown)
    assert selected.shape == plan.expert.shape
    assert selected.dtype == np.bool_
    assert not selected[~plan.remote].any()
    if isinstance(prediction, Forecasting):
        expected = prediction.expected_tokens(shown)
        assert expected.shape == (view.num_dies, num_experts)
        assert (expected >= 0).all()


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 3), st.booleans()), min_size=1), st.data())
@pytest.mark.parametrize("name", sorted(SEAMS["caching"].classes))
def test_every_caching_chooses_as_many_as_asked(name, copies, data):
    last_use, uses, new = map(list, zip(*copies, strict=True))
    count = data.draw(st.integers(0, len(copies)))
    foreseen = data.draw(st.lists(st.sampled_from([0.0, 1.5, np.inf]), min_size=len(copies), max_size=len(copies)))
    evicted = SEAMS["caching"].classes[name]().evict(pool_of(last_use, uses, foreseen, new), count)
    assert len(set(evicted.tolist()) & set(range(len(copies)))) == count


def test_lru_gives_up_the_oldest():
    assert SEAMS["caching"].classes["lru"]().evict(pool_of([5, 2, 9, 2]), 3).tolist() == [1, 3, 0]


def test_contiguous_is_the_layout_of_the_papers_simulator():
    home = contiguous_homes(256, 25)
    assert home[:11].tolist() == [0] * 10 + [1]
    assert home[250:].tolist() == [0, 1, 2, 3, 4, 5]
    few = contiguous_homes(8, 25)
    assert few.tolist() == list(range(8))


def layer_run(counts, mesh=(5, 5), order=None):
    wafer = WAFERS[mesh]
    holders = contiguous(len(counts), wafer.num_dies)
    return view_of(wafer, np.array(counts, np.int64), holders, order)


def test_in_turn_puts_the_ith_first_seen_expert_on_die_i_plus_7():
    plan = InTurn().allocate(layer_run([3, 0, 5, 1], order=np.array([2, 3, 0])))
    assert plan.expert.tolist() == [2, 3, 0]
    assert plan.die.tolist() == [7, 8, 9]
    assert plan.source.tolist() == [2, 3, 0]
    assert plan.tokens.tolist() == [5, 1, 3]


def test_chunked_gives_every_die_the_same_work():
    plan = Chunked().allocate(layer_run([10, 0, 20], mesh=(1, 3), order=np.array([2, 0])))
    assert list(zip(plan.expert, plan.die, plan.tokens, strict=True)) == [(2, 0, 10), (2, 1, 10), (0, 2, 10)]


def test_even_splits_an_expert_over_its_holders_what_is_left_going_where_least_went_so_far():
    """Of 8 tokens dies 0 and 1 get 3, a third more than their share, and die 2 gets 2; so it gets the next one left."""
    holders = np.array([[True, True, True], [False, True, False], [False, True, True]])
    plan = Even().allocate(view_of(WAFERS[1, 3], np.array([8, 5, 1]), holders, np.array([2, 0, 1])))
    tasks = list(zip(plan.expert, plan.die, plan.tokens, strict=True))
    assert tasks == [(2, 2, 1), (0, 0, 3), (0, 1, 3), (0, 2, 2), (1, 1, 5)]
    assert not plan.remote.any()


def test_home_never_moves_weights():
    assert not Home().allocate(layer_run([7] * 40)).remote.any()


def test_candidates_are_near_the_holders_least_loaded_first_and_a_holder_is_always_among_them():
    hops = WAFERS[5, 5].hops
    holders = np.zeros(25, np.bool_)
    holders[12] = True
    load = np.zeros(25)
    load[12] = 9.0
    load[7] = 1.0

    def candidates(keep, radius):
        kept = np.zeros(25, np.int64)
        number = keep_candidates(kept, np.ones(25, np.bool_), holders, holders, hops, load, keep, radius)
        return kept[:number].tolist()

    assert candidates(5, 1) == [11, 13, 17, 7, 12]
    assert candidates(3, 1) == [11, 13, 12]
    assert set(candidates(99, 2)) == set(np.flatnonzero(hops[12] <= 2))


def test_the_nearest_source_is_read_ties_going_to_the_home():
    hops = WAFERS[5, 5].hops
    holders = np.zeros(25, np.bool_)
    holders[[0, 2, 24]] = True
    assert nearest_source(1, 2, holders, hops) == 2
    assert nearest_source(1, 0, holders, hops) == 0
    assert nearest_source(23, 0, holders, hops) == 24


def test_algorithm1_splits_an_overfull_expert_over_its_neighbours():
    """One expert of 5,000 tokens at the centre, 450 us of computing: four dies take 112 us each while the centre's HBM
    is read for 4 x 26 us; a fifth would save computing, but keep that HBM busy for 130 us.
    """
    counts = np.zeros(25, np.int64)
    counts[12] = 5000
    plan = Algorithm1().allocate(layer_run(counts))
    assert sorted(plan.die) == [7, 11, 12, 13]
    assert plan.tokens.sum() == 5000
    assert plan.tokens.max() - plan.tokens.min() <= 2 * 50


def test_algorithm1_leaves_small_experts_at_home():
    plan = Algorithm1().allocate(layer_run([8] * 25))
    assert plan.die.tolist() == list(range(25))
    assert not plan.remote.any()


@given(views())
def test_algorithm1_and_its_readable_twin_agree(view):
    ascending = np.sort(view.order)
    ascending = ascending[np.argsort(view.counts[ascending], kind="stable")]
    arguments = (
        ascending,
        view.counts,
        view.primary_die,
        (view.holders, view.sources, view.holders),
        view.hops,
        (26e-6, 9e-8, view.transfers),
        (50, 5, 1),
    )
    assert np.array_equal(algorithm1(*arguments), in_plain_python(algorithm1, *arguments))


@given(
    st.integers(1, 8).flatmap(
        lambda n: st.tuples(
            st.lists(st.lists(st.integers(0, 4), min_size=n, max_size=n), min_size=n, max_size=n),
            st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, 3)), min_size=1).map(sorted),
        )
    ),
    st.sampled_from((0.1, 0.2, 0.5, 1.0)),
    st.sampled_from((np.int64, np.float64)),
    st.randoms(use_true_random=False),
)
def test_the_heatmap_keeps_what_a_stable_sort_puts_first_in_a_row_of_the_die(case, share, kind, random):
    rows, pairs = case
    random.shuffle(pairs)
    expert, die = map(sealed, zip(*pairs, strict=True))  # as in a run
    transitions = sealed(np.array(rows, kind))
    source = np.array([random.choice((own, 9)) for own in die.tolist()])
    plan = Plan(expert=expert, die=die, tokens=np.ones_like(die), source=source, copy=np.zeros(len(die), np.bool_))
    top = np.argsort(-transitions, axis=1, kind="stable")[:, : math.ceil(share * len(transitions))]
    expected = [
        where != own and any(e in top[row] and transitions[row, e] > 0 for row, other in pairs if other == own)
        for (e, own), where in zip(pairs, source.tolist(), strict=True)
    ]
    assert TokenHeatmap(share=share).predict(shown_of(transitions, plan)).tolist() == expected


def test_the_heatmap_keeps_what_follows_what_the_die_computes():
    """Die 7 computes and fetches expert 0, which follows itself; die 8 computes 1, which does not."""
    transitions = np.zeros((10, 10), np.int64)
    transitions[0, 0] = 4
    transitions[1, 3] = 4
    plan = InTurn().allocate(layer_run([1, 1, 0, 0, 0, 0, 0, 0, 0, 0]))
    assert TokenHeatmap(share=0.1).predict(shown_of(sealed(transitions), plan)).tolist() == [True, False]


def test_the_papers_five_policies_are_there():
    assert [*POLICIES][:5] == ["base", "ep", "pred", "allo", "allo_pred"]


def test_algorithm1_considers_more_dies_for_a_popular_expert():
    """5,000 tokens among experts of one: 5000 // max(201, 50) = 24 candidates, so all 13 within two hops."""
    counts = np.ones(25, np.int64)
    counts[12] = 5000
    few = Algorithm1(min_candidates=1, radius=2).allocate(layer_run(np.full(25, 1000)))
    many = Algorithm1(min_candidates=1, radius=2).allocate(layer_run(counts))
    assert len(few.die) == 25, "1000 // 1000: one candidate each"
    assert (many.expert == 12).sum() > 2


def test_algorithm1_gives_a_home_back_the_read_that_it_did_not_serve():
    """Both experts live on die 0, charged 2 reads. Expert 0 goes to its copy on die 2; that leaves die 0 with one, no
    more than expert 1's copy on die 1 would have, and a tie goes to the home.
    """
    wafer = WAFERS[1, 3]
    holders = np.array([[True, False, True], [True, True, False]])
    plan = algorithm1(
        np.array([0, 1]),
        *map(sealed, ([1, 2], [0, 0])),
        (sealed(holders),) * 3,
        wafer.hops,
        (1.0, 0.0, sealed(np.full((3, 3), 100.0))),
        (50, 5, 1),
    )
    assert plan.tolist() == [[0, 2, 1, 2], [1, 0, 2, 0]]


def test_a_die_runs_its_tasks_in_first_seen_order_whatever_the_policy():
    order = np.array([3, 0, 2, 1])
    for allocation in (Algorithm1(), Even(), Nearest(), Home(), InTurn(), Chunked()):
        plan = allocation.allocate(layer_run([40, 30, 20, 10], order=order))
        assert list(dict.fromkeys(plan.expert.tolist())) == order.tolist()
