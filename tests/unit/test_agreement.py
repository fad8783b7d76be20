"""A layout judged on traffic that it was not made for is told so."""

import json
from dataclasses import replace

import numpy as np
import pytest
from kit import placement_view, wafer_of
from kit.runs import SMALL

from wss.config import load
from wss.execution import run
from wss.policies import POLICIES, Signal
from wss.serving.agreement import Agreement, agreement, agreement_note, loads_behind

BEHIND = np.array([[1.0, 2, 3, 4], [4, 3, 2, 1], [5, 5, 5, 5]])


def test_the_correlation_is_of_ranks_and_the_mean_over_layers():
    served = np.array([[10, 20, 30, 400], [400, 30, 20, 10], [1, 2, 3, 4]])
    same, other = agreement(BEHIND, served), agreement(BEHIND, served[:, ::-1])
    assert (same.correlation, same.layers) == (pytest.approx(1.0), 2), "the third layer has no order behind it"
    assert other.correlation == pytest.approx(-1.0)
    assert agreement(BEHIND[:1], np.array([[1, 2, 4, 3]])).correlation == pytest.approx(0.8)
    assert agreement(BEHIND[2:], served[2:]) is None
    assert agreement(None, served) is None


@pytest.mark.parametrize("uses", [2, 30, 1000])
def test_few_tokens_of_the_same_traffic_are_not_called_other_traffic(uses):
    """Of 200 draws from one distribution few are low; from another's, at 1,000 tokens, all are."""
    generator = np.random.default_rng(0)
    share = generator.dirichlet(np.full(64, 2.0))
    other = generator.permutation(share)
    low, foreign = 0, 0
    for _ in range(200):
        served = generator.multinomial(uses * 8, share)[None]
        low += agreement(1e9 * share[None], served).is_low
        foreign += agreement(1e9 * other[None], served).is_low
    assert low <= 30
    assert uses < 1000 or foreign == 200


def test_shares_are_no_counts_of_few_tokens(tmp_path):
    counts = np.arange(1, 13) * 1000
    served = counts[None, ::-1]
    for behind in (counts / counts.sum(), 2 * counts / counts.sum(), counts * 1e-6):
        found = agreement(behind[None], served)
        assert (found.is_low, found.reach) == (True, agreement(1e12 * behind[None], served).reach)
    assert agreement(np.array([[3.0, 1, 2, 2]]), np.array([[1, 3, 2, 2]])).reach == 0.0, "few tokens, counted"
    content = {"logical_count": [(counts[::-1] / counts.sum()).tolist()] * 3}
    (tmp_path / "shares.json").write_text(json.dumps(content))
    (tmp_path / "small.yaml").write_text(SMALL, encoding="utf-8")
    policy = f"{{name: mine, placement: {{kind: file, path: {tmp_path / 'shares.json'}}}, allocation: even}}"
    result = run(load(tmp_path / "small.yaml", [f"policies=[{policy}]", "baseline=mine"]))
    (note,) = [note for note in result.notes if "rank correlation" in note]
    assert "its layout is judged on traffic that it was not made for" in note


def test_what_is_behind_a_placement():
    load = np.array([[1, 2, 3, 4]])
    view = placement_view(wafer_of((1, 2)), load)
    assert loads_behind(POLICIES["remap"], view).tolist() == [[1, 2, 3, 4]]
    assert loads_behind(POLICIES["ep"], replace(view, signals={})) is None
    assert loads_behind(POLICIES["oracle_best"], replace(view, signals={Signal.DECODE_LOAD: load})) is None
    unknown = placement_view(wafer_of((1, 2)), np.zeros((1, 4), np.int64), tokens=1)
    assert loads_behind(POLICIES["remap"], unknown) is None


def test_low_is_said_with_what_mends_it():
    (said,) = agreement_note(POLICIES["remap"], Agreement(0.49, 1.0, 3))
    assert "0.49 (mean over 3 layers): its prefill does not predict this decode; give policies.remap.history" in said
    assert agreement_note(POLICIES["remap"], Agreement(0.5, 1.0, 3))[0].endswith("0.50 (mean over 3 layers)")
    assert agreement_note(POLICIES["remap"], Agreement(0.3, 0.5, 3))[0].endswith(
        "with so few tokens this is inconclusive"
    )
    assert agreement_note(POLICIES["ep"], None) == []


@pytest.mark.parametrize("how", ["history", "placement"])
def test_loads_of_other_traffic_are_noticed_in_a_run(how, tmp_path):
    """Loads against the order of a run's own are far from it; the run's own are at one with it."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    own = run(load(path, ["policies=[ep]", "baseline=ep"])).to_dict()["runs"][0]
    assert own["placement_load_correlation"] is None
    found = {}
    for name, counts in (("up", np.arange(1, 13)), ("down", np.arange(12, 0, -1))):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps({"logical_count": [counts.tolist()] * 3}))
        part = {
            "history": f"{{name: mine, preset: eplb, history: {{path: {file}}}}}",
            "placement": f"{{name: mine, placement: {{kind: file, path: {file}}}, allocation: even}}",
        }[how]
        result = run(load(path, [f"policies=[{part}]", "baseline=mine"]))
        (notes,) = [note for note in result.notes if "rank correlation" in note]
        found[name] = result.to_dict()["runs"][0]["placement_load_correlation"]
        assert "judged on traffic" not in notes or found[name] < 0.5
    assert found["up"] == pytest.approx(-found["down"])
    assert min(found.values()) < 0.5
