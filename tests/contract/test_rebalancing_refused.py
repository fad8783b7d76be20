"""Rebalancing that cannot be, and rules that answer wrongly: one line each."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from kit.runs import SMALL

from wss.config import load
from wss.errors import ConfigError
from wss.execution import run
from wss.policies import POLICIES, Rebalancing


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


REFUSED = {
    "a placement that looks at no load": ("{kind: every}", {"placement": "contiguous"}, "its own reads no signal"),
    "one that reads co-activation": (
        "{kind: every}",
        {"placement": "separated"},
        "its own reads prefill_load and coactivation",
    ),
    "an oracle": ("{kind: every}", {"placement": "oracle_best"}, "its own reads decode_load"),
    "circuits": ("{kind: every}", {"placement": "eplb", "network": "circuit"}, "give how: blocking"),
    "no steps": ("{kind: every, steps: 0}", {"placement": "eplb"}, "greater than or equal to 1"),
    "another way": ("{kind: every, how: slowly}", {"placement": "eplb"}, "'blocking' or 'background'"),
    "another name": ("sometimes", {"placement": "eplb"}, "is not a known rebalancing"),
    "a parameter of none": ("{gain: 0.1}", {"placement": "eplb"}, "gain: is not a key here; there are no choices"),
    "another parameter": ("{kind: every, step: 3}", {"placement": "eplb"}, "did you mean 'steps'"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_cannot_be_rebalanced_is_refused_in_one_line(small, case):
    rule, rest, said = REFUSED[case]
    settings = [f"policies=[{{name: it, preset: eplb, placement: {rest['placement']}, rebalancing: {rule}}}]"]
    settings += ["baseline=it", *([f"network={rest['network']}"] if "network" in rest else [])]
    with pytest.raises(ConfigError, match=said) as error:
        run(load(small, settings))
    assert len(error.value.faults) == 1


@pytest.mark.parametrize("answer", [np.zeros((3, 11), int), np.full((3, 12), -1), np.zeros((3, 12)), "nothing"])
def test_a_rule_that_answers_wrongly_is_named_in_one_line(small, answer):
    @dataclass(frozen=True, kw_only=True)
    class Wrong(Rebalancing):
        def rebalance(self, view):
            return answer

    policy = replace(POLICIES["eplb"], name="it", rebalancing=Wrong())
    with pytest.raises(ConfigError, match="policy it: its rebalancing") as error:
        run(replace(load(small), policies=(policy,), baseline="it"))
    assert len(error.value.faults) == 1


def test_a_rule_cannot_write_to_what_it_sees(small):
    @dataclass(frozen=True, kw_only=True)
    class Writing(Rebalancing):
        def rebalance(self, view):
            view.counts[0] = 0

    policy = replace(POLICIES["eplb"], name="it", rebalancing=Writing())
    with pytest.raises(ConfigError, match="read-only"):
        run(replace(load(small), policies=(policy,), baseline="it"))


@pytest.mark.parametrize("part", ["a tenth", -1])
def test_a_gain_that_is_no_number_is_named_in_one_line(small, part):
    @dataclass(frozen=True, kw_only=True)
    class Mine(Rebalancing):
        gain: object = part

        def rebalance(self, view):
            return None

    policy = replace(POLICIES["eplb"], name="it", rebalancing=Mine())
    with pytest.raises(ConfigError) as error:
        run(replace(load(small), policies=(policy,), baseline="it"))
    assert error.value.faults == (
        f"policy it: its rebalancing's gain is {part!r}; it should be a number of at least 0",
    )


def test_a_history_that_is_none_is_named_in_one_line(small):
    @dataclass(frozen=True, kw_only=True)
    class Mine(Rebalancing):
        history: object = 3

        def load_history(self):
            return self.history

        def rebalance(self, view):
            return view.history

    policy = replace(POLICIES["eplb"], name="it", rebalancing=Mine())
    with pytest.raises(ConfigError) as error:
        run(replace(load(small), policies=(policy,), baseline="it"))
    assert len(error.value.faults) == 1
    assert error.value.faults[0].startswith(
        "policy it: its rebalancing's history is 3; give a wss.policies.LoadHistorySpec"
    )
