"""The account of each HBM, by hand: two dies of 100 bytes, experts of 10."""

import numpy as np
import pytest

from wss.memory.hbm import HbmBudget


def budget_of(**options):
    return HbmBudget(100.0, np.array([30.0, 70.0]), 10.0, **options)


def test_what_lies_in_an_hbm_adds_up():
    budget = budget_of()
    budget.copies[:] = [2, 1]
    budget.buffers = np.array([5.0, 15.0])
    assert budget.used.tolist() == [30 + 20 + 5, 70 + 10 + 15]
    budget.reserve_experts(np.array([1, -2]))
    assert budget.experts.tolist() == [40, 50]
    assert budget.used.tolist() == [40 + 20 + 5, 50 + 10 + 15]
    assert budget.beside_experts.tolist() == [60, 50]


def test_copies_fit_beside_experts_and_buffers_and_experts_in_the_place_of_copies():
    budget = budget_of()
    assert budget.fitting_copies().tolist() == [7, 3]
    budget.buffers = np.array([5.0, 31.0])
    assert budget.fitting_copies().tolist() == [6, -1], "negative where buffers do not fit"
    budget.copies[:] = [6, 0]
    assert budget.fitting_experts(0.0).tolist() == [7, 3]
    assert budget.fitting_experts(11.0).tolist() == [5, 1]


@pytest.mark.parametrize(
    ("buffers", "fitting"), [([0.0, 0.0], [2, 2]), ([70.0, 30.0], [2, 2]), ([71.0, 30.0], [-1, 2])]
)
def test_a_reserve_holds_as_many_copies_whatever_the_buffers_unless_these_do_not_fit(buffers, fitting):
    budget = budget_of(copy_reserve=25.0)
    budget.buffers = np.array(buffers)
    assert budget.fitting_copies().tolist() == fitting
