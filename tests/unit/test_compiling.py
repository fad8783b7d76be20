"""The decorator of compiled functions: one version for Python, one for compiled code."""

import sys

from wss.compiling import compiled


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
