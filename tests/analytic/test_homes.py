"""What rebalancing rests on, without a run: homes that hold every expert within the HBM, idle time, when to move."""

import numpy as np
import pytest
from kit import contiguous, copies_of, placement_view, plan_of, run_layer, wafer_of

from wss.engine.background import BackgroundTransfers
from wss.engine.specs import NETWORKS
from wss.memory.expert_map import ExpertMap
from wss.policies import LoadView
from wss.policies.rebalancing import Every, matched, worthwhile


@pytest.mark.parametrize("seed", range(6))
def test_idle_time_moves_no_more_than_is_left(seed):
    """A layer run and moves together never take more of a resource than it can carry; of each move one is used up."""
    draws = np.random.default_rng(seed)
    wafer = wafer_of((2, 3))
    layer_run = plan_of(*((e, int(draws.integers(6)), 1, int(draws.integers(6)), True) for e in range(20)))
    outcome = run_layer(NETWORKS["fluid"](), wafer, layer_run, 1e6, np.full(20, 1e-6), 2)
    pairs = [(int(s), int(d)) for s, d in draws.integers(6, size=(40, 2)) if s != d]
    moves = plan_of(*((0, die, 1, source, True) for source, die in pairs))
    left = draws.uniform(1e4, 5e6, len(pairs))
    moved = BackgroundTransfers(wafer).move(moves, left, outcome.traffic, outcome.time)
    capacity = np.concatenate([np.full(6, 3.35e12), wafer.link_bandwidth]) * outcome.time
    carried = outcome.traffic
    used = np.concatenate([carried.hbm_read + carried.hbm_written, carried.link_data + carried.link_request])
    on = []
    for (source, die), amount in zip(pairs, moved, strict=True):
        there, back = ([6 + link for link in wafer.routes[way] if link >= 0] for way in ((source, die), (die, source)))
        on.append([source, die, *there, *back])
        for resource in (source, die, *there):
            used[resource] += amount
        for resource in back:
            used[resource] += amount * 0.25
    full = used >= capacity * (1 - 1e-9)
    assert (used <= capacity * (1 + 1e-9)).all()
    assert (moved <= left).all()
    assert 0 < moved.sum() < left.sum()
    for resources, amount, most in zip(on, moved, left, strict=True):
        assert amount == most or full[resources].any()


@pytest.mark.parametrize("seed", range(8))
def test_an_expert_is_always_somewhere_and_no_die_ever_too_full(seed):
    """Random layouts, few free bytes, copies beside them, moves that end in any order: the map keeps its promises."""
    draws = np.random.default_rng(seed)
    layers, experts, dies = 3, 10, 4

    def layout():
        held = draws.random((layers, experts, dies)) < 0.2
        held[:, np.arange(experts), draws.integers(dies, size=experts)] = True
        return held * draws.integers(1, 3, held.shape)  # some twice on a die

    placed = layout()
    usable = float(placed.sum(axis=(0, 1)).max() + 3)
    room = usable - placed.sum(axis=(0, 1))
    copies = copies_of(placed > 0, room, 1.0, capacity=usable)
    homes = ExpertMap(placed, copies)
    moved = 0
    for _ in range(30):
        target = layout()
        homes.set_target(target)
        for _ in range(4):
            layer = int(draws.integers(layers))
            homes.start_transfers(layer, 1.0)
            _copy_something(copies, homes, layer, draws)
            coming = np.argwhere(homes.incoming[layer])
            arrived = coming[draws.random(len(coming)) < 0.5]
            homes.complete_transfers(layer, arrived[:, 0], arrived[:, 1])
            moved += len(arrived)
            assert homes.placed.any(axis=2).all()
            held = np.where(homes.incoming, target, homes.placed).sum(axis=(0, 1))
            np.testing.assert_array_equal(copies.budget.experts, held)
            for each in range(layers):
                assert (copies.holders(each) >= (homes.placed[each] > 0)).all()
                assert homes.placed[each][np.arange(experts), homes.primary_dies(each)].all()
            copied = sum((copies.holders(each) & (homes.placed[each] == 0)).sum(axis=0) for each in range(layers))
            np.testing.assert_array_equal(copied, copies.budget.copies)
            assert (held + copies.budget.copies <= usable).all()
    assert moved > 30


def _copy_something(copies, homes, layer, draws):
    """Let a layer run of *layer* fetch five experts to random dies, all selected for copies."""
    held = copies.holders(layer)
    experts = draws.permutation(len(held))[:5]
    tasks = [(int(e), int(draws.integers(held.shape[1])), 1, int(held[e].argmax())) for e in experts]
    copies.admit(layer, plan_of(*tasks), np.ones(5, np.bool_), np.zeros(held.shape[1]))


def test_a_copy_where_an_expert_is_to_be_placed_becomes_its_home_and_nothing_moves():
    placed = np.array([contiguous(4, 2)])
    copies = copies_of(placed, np.full(2, 3.0), 1.0, capacity=5.0)
    homes = ExpertMap(placed, copies)
    copies.admit(0, plan_of((0, 1, 1, 0)), np.ones(1, np.bool_), np.zeros(2))
    assert copies.budget.copies.tolist() == [0, 1]
    target = placed.copy()
    target[0, 0] = [False, True]
    homes.set_target(target)
    homes.start_transfers(0, 0.0)
    assert not homes.incoming.any()
    assert copies.budget.copies.tolist() == [0, 0]
    np.testing.assert_array_equal(homes.placed, target)
    np.testing.assert_array_equal(copies.holders(0), target[0])


def test_what_is_needed_no_more_stops_on_its_way():
    placed = np.array([contiguous(4, 2)])
    copies = copies_of(placed, np.full(2, 3.0), 1.0, capacity=5.0)
    homes = ExpertMap(placed, copies)
    target = placed.copy()
    target[0, 0] = [False, True]
    homes.set_target(target)
    homes.start_transfers(0, 0.0)
    assert homes.incoming[0, 0].tolist() == [False, True]
    assert copies.budget.experts.tolist() == [2, 3]
    homes.set_target(placed)
    assert not homes.incoming.any()
    assert copies.budget.experts.tolist() == [2, 2]
    np.testing.assert_array_equal(homes.placed, placed)


def test_a_renumbering_of_dies_moves_nothing_and_a_small_gain_is_not_worth_a_move():
    draws = np.random.default_rng(0)
    now = np.array([contiguous(12, 6)[draws.permutation(12)] for _ in range(3)])
    then = np.array([layer[:, draws.permutation(6)] for layer in now])
    np.testing.assert_array_equal(matched(now, then), now)
    one_more = then.copy()
    one_more[0, 0] = ~one_more[0, 0]
    assert np.count_nonzero(matched(now, one_more) & ~now) < np.count_nonzero(one_more & ~now)

    wafer = wafer_of((1, 2))
    apart, together = (np.array([[[1, 0], [0, 1]]], bool), np.array([[[1, 0], [1, 0]]], bool))
    tokens = np.array([[30.0, 10.0]])  # 30 at most apart, 40 together: a quarter less
    history = placement_view(wafer, np.array([[30, 10]]))
    for gain, chosen in [(0.0, apart), (0.24, apart), (0.25, apart), (0.26, together)]:
        np.testing.assert_array_equal(worthwhile(together, apart, tokens, history, gain), chosen)
    np.testing.assert_array_equal(worthwhile(apart, together, tokens, history, 0.0), together)
    halved = np.array([[[1, 1], [0, 1]]], bool)  # 15 on one die, 15 + 10 on the other
    for gain, chosen in [(0.16, halved), (0.17, apart)]:
        np.testing.assert_array_equal(worthwhile(apart, halved, tokens, history, gain), chosen)


def test_the_window_is_of_the_last_steps_as_far_as_there_are_so_many():
    counts = np.arange(12).reshape(6, 1, 2)
    assert Every(steps=3, window=2).rebalance(LoadView(counts=counts)).tolist() == [[8 + 10, 9 + 11]]
    assert Every(steps=3, window=9).rebalance(LoadView(counts=counts)).tolist() == [[30, 36]]
    assert Every(steps=3, window=2).rebalance(LoadView(counts=counts[:5])) is None


def test_reserved_room_is_left_free_and_what_is_on_its_way_is_missing_no_more():
    placed = np.array([contiguous(4, 2)])
    copies = copies_of(placed, np.full(2, 3.0), 1.0, capacity=5.0)
    homes = ExpertMap(placed, copies)
    target = placed.copy()
    target[0, 0] = [False, True]
    homes.set_target(target)
    homes.start_transfers(0, 2.5)
    assert not homes.incoming.any()
    assert np.argwhere(homes.missing).tolist() == [[0, 0, 1]]
    homes.start_transfers(0, 2.0)
    assert np.argwhere(homes.incoming).tolist() == [[0, 0, 1]]
    assert not homes.missing.any()
