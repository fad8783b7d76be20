"""The decorator of compiled functions: one version for Python, one for compiled code."""

import sys

import numpy as np
import pytest

from wss.compiling import borrowing, compiled


@compiled
def scaled(value, factor):
    """Return the product."""
    return value * factor


@compiled
def scaled_twice(value):
    """Return the sum of two products, whose factors are constants."""
    return scaled(value, 2) + scaled(value, 3)


def test_a_function_gives_the_same_from_python_and_from_compiled_code():
    assert scaled_twice(7) == scaled_twice.py_func(7) == 35
    assert scaled(7, 5) == scaled.py_func(7, 5) == 35, "with a wrapper of its own"


def test_constants_in_compiled_code_do_not_compile_it_again():
    scaled_twice(7)
    assert len(scaled._inner.signatures) == 1


def test_a_function_is_documented_as_it_was_written():
    assert (scaled.__name__, scaled.__doc__) == ("scaled", "Return the product.")
    assert sys.modules[scaled.__module__].scaled is scaled


@borrowing
def head(values):
    """Return a slice, which a borrowing function must not."""
    return values[:1]


@borrowing
def same(values):
    """Return what it only borrows."""
    return values


@compiled
def first_of_same(values):
    """Return the first of what a borrowing function returns."""
    return same(values)[0]


def test_a_borrowing_function_that_returns_an_array_is_refused():
    for wrong, why in ((head, "returning of array"), (first_of_same, "same returns array")):
        with pytest.raises(Exception, match=why):
            wrong(np.arange(3))
