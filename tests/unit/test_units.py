import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wss import units


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("1.7 TB/s", "bandwidth", 1.7e12),
        ("1.7TB/s", "bandwidth", 1.7e12),
        ("400 Gbit/s", "bandwidth", 50e9),
        ("2 GiB/s", "bandwidth", 2 * 2.0**30),
        ("200 ns", "time", 200e-9),
        ("0.2 us", "time", 0.2e-6),
        ("0.2 µs", "time", 0.2e-6),
        ("64 MiB", "size", 64 * 2.0**20),
        ("64 MB", "size", 64e6),
        ("16 B", "size", 16.0),
        ("8 bit", "size", 1.0),
        ("989 TFLOPS", "compute rate", 989e12),
        ("1 PFLOP/s", "compute rate", 1e15),
        ("1e3 GFLOPS", "compute rate", 1e12),
        (0, "time", 0.0),
    ],
)
def test_text_becomes_si(text, dimension, value):
    assert units.parse(text, dimension) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "dimension", "hint"),
    [
        ("1.7 TB", "bandwidth", "unit of size"),
        ("400 Gb/s", "bandwidth", "not a known unit; give a bandwidth, such as '1.7 TB/s'; bits are 'Gbit/s'"),
        ("3 GHz", "bandwidth", "not a known unit"),
        ("200", "time", "has no unit"),
        (200, "time", "give a number and a unit"),
        (True, "time", "give a number and a unit"),
        (None, "size", "give a number and a unit"),
        ("fast", "compute rate", "give a number and a unit"),
        ("1e400 s", "time", "not finite"),
        ("nan s", "time", "give a number and a unit"),
    ],
)
def test_what_is_no_quantity_is_refused_with_an_example(text, dimension, hint):
    with pytest.raises(ValueError, match=hint) as error:
        units.parse(text, dimension)
    assert units._EXAMPLES[dimension] in str(error.value)


def test_a_field_refuses_what_is_out_of_range():
    with pytest.raises(ValueError, match="more than 0"):
        units.Quantity("bandwidth").parse("0 B/s")
    with pytest.raises(ValueError, match="at least 0"):
        units.Quantity("time", zero=True).parse("-1 ns")
    assert units.Quantity("time", zero=True).parse("0 ns") == 0.0


@given(st.floats(1e-9, 1e3), st.sampled_from(["time", "size", "bandwidth", "compute rate"]))
def test_what_is_shown_reads_back(value, dimension):
    value = value if dimension == "time" else value * 1e12
    assert math.isclose(units.parse(units.show(value, dimension, 17), dimension), value, rel_tol=1e-12)
