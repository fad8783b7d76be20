"""Copies stay within capacity, are given up least recently used first, and serve from the next step on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import copies_of, plan_of

from wss.errors import CapacityError


def one_die(slots, num_layers=2, num_experts=6, num_dies=2):
    """All experts live on die 0; die 1 has room for *slots* copies of 10 bytes, and 9 bytes to spare."""
    placed = np.zeros((num_layers, num_experts, num_dies), np.bool_)
    placed[:, :, 0] = True
    return copies_of(placed, np.array([0.0, 10.0 * slots + 9]), 10.0)


def fetch(copies, layer, *experts):
    """Die 1 reads *experts* from die 0 and would keep all."""
    plan = plan_of(*((e, 1, 1, 0) for e in experts))
    return copies.admit(layer, plan, np.ones(len(experts), np.bool_), np.zeros(2)).tolist()


def use(copies, layer, *experts):
    plan = plan_of(*((e, 1, 1, 1) for e in experts))
    copies.admit(layer, plan, np.zeros(len(experts), np.bool_), np.zeros(2))


def held(copies, layer):
    return np.flatnonzero(copies.holders(layer)[:, 1]).tolist()


def test_what_is_fetched_and_wanted_is_held_next():
    copies = one_die(3)
    assert held(copies, 0) == []
    assert fetch(copies, 0, 4, 1) == [True, True]
    assert held(copies, 0) == [1, 4]
    assert held(copies, 1) == []
    assert copies.budget.copies.tolist() == [0, 2]


def test_the_least_recently_used_goes_first_whatever_its_layer():
    copies = one_die(3)
    fetch(copies, 0, 0)
    fetch(copies, 1, 1)
    fetch(copies, 0, 2)
    use(copies, 0, 0)
    fetch(copies, 1, 3)
    assert (held(copies, 0), held(copies, 1)) == ([0, 2], [3])
    fetch(copies, 1, 4)
    assert (held(copies, 0), held(copies, 1)) == ([0], [3, 4])
    assert copies.evictions == 2


def test_what_the_kernel_itself_reads_is_not_given_up_for_what_it_fetches():
    copies = one_die(2)
    fetch(copies, 0, 0, 1)
    plan = plan_of((0, 1, 1, 1), (1, 1, 1, 1), (2, 1, 1, 0))
    assert copies.admit(0, plan, np.array([False, False, True]), np.zeros(2)).tolist() == [False, False, False]
    assert held(copies, 0) == [0, 1]


def test_a_kernel_that_fetches_more_than_fits_keeps_the_first():
    assert fetch(one_die(2), 0, 5, 3, 1) == [True, True, False]


def test_without_room_nothing_is_kept():
    copies = one_die(0)
    assert fetch(copies, 0, 1) == [False]
    assert copies.holders(0)[:, 1].sum() == 0


@given(
    st.integers(0, 4),
    st.lists(
        st.tuples(st.integers(0, 1), st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True)), max_size=30
    ),
)
def test_capacity_is_never_exceeded_and_the_count_is_right(slots, layer_runs):
    copies = one_die(slots)
    for layer, experts in layer_runs:
        own = copies.holders(layer)[experts, 1]
        plan = plan_of(*((e, 1, 1, 1 if o else 0) for e, o in zip(experts, own, strict=True)))
        admitted = copies.admit(layer, plan, plan.remote, np.zeros(2))
        assert not admitted[~plan.remote].any()
        assert copies.holders(layer)[np.array(experts)[admitted | own], 1].all()
        now = sum(len(held(copies, at)) for at in (0, 1))
        assert now == copies.budget.copies[1] <= slots


def test_slots_are_whole_experts():
    assert one_die(3).budget.fitting_copies().tolist() == [0, 3]
    with pytest.raises(IndexError):
        one_die(1).holders(5)


def test_activation_buffers_push_copies_out_oldest_first_and_what_is_read_stays():
    copies = one_die(3)
    fetch(copies, 0, 0, 1, 2)
    use(copies, 0, 2)
    plan = plan_of((0, 1, 1, 1))
    copies.admit(0, plan, np.zeros(1, np.bool_), np.array([0.0, 15.0]))
    assert (held(copies, 0), copies.evictions, copies.budget.fitting_copies()[1]) == ([0, 2], 1, 2)
    copies.admit(0, plan, np.zeros(1, np.bool_), np.array([0.0, 29.0]))
    assert held(copies, 0) == [0]
    with pytest.raises(CapacityError, match="die 1: 31 bytes of activation buffers and 10 bytes of copies"):
        copies.admit(0, plan, np.zeros(1, np.bool_), np.array([0.0, 31.0]))


def test_buffers_that_do_not_fit_beside_the_weights_are_refused():
    with pytest.raises(CapacityError, match="die 1: 10 bytes of activation buffers and 0 bytes"):
        one_die(0).admit(0, plan_of((0, 1, 1, 0)), np.zeros(1, np.bool_), np.array([0.0, 10.0]))


def test_a_copy_that_another_die_reads_is_used_and_stays():
    """Die 1 has room for two; die 0 reads expert 0 from it in the layer run in which die 1 fetches another."""
    placed = np.zeros((1, 4, 3), np.bool_)
    placed[0, :, 2] = True
    copies = copies_of(placed, np.array([0.0, 20.0, 0.0]), 10.0)
    copies.admit(0, plan_of((0, 1, 1, 2)), np.array([True]), np.zeros(3))
    copies.admit(0, plan_of((1, 1, 1, 2)), np.array([True]), np.zeros(3))
    plan = plan_of((0, 0, 1, 1), (2, 1, 1, 2))
    assert copies.admit(0, plan, np.array([False, True]), np.zeros(3)).tolist() == [False, True]
    assert held(copies, 0) == [0, 2]


def test_what_a_die_holds_is_not_copied_again():
    copies = one_die(3)
    assert fetch(copies, 0, 1) == [True]
    assert fetch(copies, 0, 1) == [False]
    assert copies.budget.copies.tolist() == [0, 1]
