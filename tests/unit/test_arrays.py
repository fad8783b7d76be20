"""Sorts of small arrays in compiled code, beside numpy's."""

import numpy as np
import pytest

from wss.arrays import sort_front, stable_order


@pytest.mark.parametrize("size", [0, 1, 2, 15, 16, 17, 33, 100, 257])
def test_the_order_is_that_of_a_stable_sort(size):
    for most in (1, 3, 1000):
        keys = np.random.default_rng([size, most]).integers(0, most, size)
        assert stable_order(keys).tolist() == np.argsort(keys, kind="stable").tolist()


@pytest.mark.parametrize("count", [0, 1, 7, 20])
def test_only_the_front_is_sorted(count):
    values = np.random.default_rng(count).integers(0, 9, 20)
    expected = [*np.sort(values[:count]), *values[count:]]
    sort_front(values, count)
    assert values.tolist() == expected
