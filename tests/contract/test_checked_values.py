"""Objects made in Python are checked as a configuration is, also if an equal one was found sound before."""

from dataclasses import replace

import pytest

from wss.config.document import Document
from wss.config.values import check_value
from wss.hardware import WAFERS
from wss.models import MODELS
from wss.traces.synthetic.spec import SynthSpec


def faults_of(value):
    document = Document("experiment")
    check_value(document, ("here",), value)
    return document.faults


@pytest.mark.parametrize("equal", [True, 1.0])
def test_what_only_equals_a_sound_value_has_errors_each_time(equal):
    """1 is a whole number; True and 1.0, which equal it, are none."""
    sound, other = (replace(MODELS["llama4_maverick"], top_k=top_k) for top_k in (1, equal))
    assert sound == other
    assert faults_of(sound) == []
    first = faults_of(other)
    assert len(first) == 1
    assert "here.top_k: " in first[0]
    assert faults_of(other) == first
    assert faults_of(sound) == []


def test_a_mapping_that_was_changed_is_checked_again():
    spec = WAFERS["dojo"]
    wafer = replace(spec, die=replace(spec.die, flops=dict(spec.die.flops)))
    assert faults_of(wafer) == []
    wafer.die.flops["fp8"] = -1.0
    (fault,) = faults_of(wafer)
    assert "here.die.flops.fp8: " in fault


def test_what_cannot_be_pickled_is_checked_all_the_same():
    (fault,) = faults_of(SynthSpec(requests=lambda: None))
    assert "here.requests: " in fault
