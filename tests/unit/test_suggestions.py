"""What is suggested instead of an unknown name."""

from wss.errors import did_you_mean


def test_a_beginning_comes_before_what_is_merely_close():
    names = ["decode_in1000out1000", "decode_in1800out100"]
    assert did_you_mean("decode_in1000", names) == "did you mean 'decode_in1000out1000'?"
    assert did_you_mean("max_link", ["max_link_utilization", "hops"]) == "did you mean 'max_link_utilization'?"


def test_one_letter_is_no_beginning():
    assert did_you_mean("b", ["base", "ep"]) == "known: base, ep"
