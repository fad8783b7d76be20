"""JSON in and out: numbers alone."""

import pytest

from wss.files import TwiceError, json_text, parse_json


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}', "1e999", "[" * 100_000, "9" * 400, "{"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match=r"\S"):
        parse_json(text)


def test_numbers_come_out_as_they_went_in():
    value = {"a": [1, -2.5, 1e300, None, True, "NaN"]}
    assert parse_json(json_text(value)) == value


@pytest.mark.parametrize("value", [float("nan"), [float("inf")]])
def test_what_is_no_number_is_never_written(value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_text(value)


@pytest.mark.parametrize("text", ['{"a": 1, "b": 2, "a": 1}', '[{"x": {"a": 1, "a": 2}}]'])
def test_a_key_that_stands_twice_is_refused_by_name(text):
    with pytest.raises(TwiceError, match="has the key 'a' twice; keep one"):
        parse_json(text)
