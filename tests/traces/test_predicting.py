"""Predictors: what each names, and that nothing is measured on what it was built from."""

import json

import numpy as np
import pytest
from kit import wss
from kit.traces import meta_of, request_of

from wss.errors import TraceError
from wss.traces import write_trace
from wss.traces.analysis.predictability import PREDICTORS, evaluate


def recall(found, name):
    return [row["recall"] for row in found["predictors"][name]]


def of(rows_by_request, num_prefill=1, budgets=(0.2,), **meta):
    requests = [request_of(i, num_prefill, rows) for i, rows in enumerate(rows_by_request)]
    return evaluate(meta_of(**meta), lambda: requests, budgets, 100.0)


def test_a_cycle_is_foretold_by_the_token_heatmap_alone():
    """Layer 0 goes 0, 1, 2, 3, 4, 0, ...; layer 1 one more, mod 5."""
    rows = [[[t % 5], [(t + 1) % 5]] for t in range(11)]
    found = of([rows, rows])
    assert found["tokens"] == 20
    assert recall(found, "token_heatmap") == [1.0]
    assert recall(found, "last_token") == [0.0]
    assert recall(found, "oracle") == [1.0]
    assert recall(found, "layer_heatmap")[0] == pytest.approx((0.2 + 1.0) / 2)
    (row,) = found["predictors"]["oracle"]
    assert (row["experts"], row["precision"], row["hit_rate"]) == (1, 1.0, 1.0)
    assert row["bytes_saved_per_token"] == pytest.approx(2 * 100.0)


def test_what_only_one_half_knows_does_not_help_itself():
    """Request 0 always uses expert 3, request 1 expert 4: what others did never tells, one's own past does."""
    found = of([[[[3], [3]]] * 6, [[[4], [4]]] * 6])
    assert recall(found, "popularity") == recall(found, "token_heatmap") == [0.0]
    assert recall(found, "prefill") == recall(found, "last_token") == [1.0]


def test_more_room_never_hurts_and_all_room_hits_all():
    rng = np.random.default_rng(0)
    rows = [rng.permuted(np.tile(np.arange(6), (30, 2, 1)), axis=2)[:, :, :2].tolist() for _ in range(4)]
    found = of(rows, budgets=(0.1, 0.4, 1.0), num_experts=6, top_k=2)
    for name in PREDICTORS:
        values = recall(found, name)
        assert values == sorted(values)
        assert values[-1] == 1.0
        assert values[0] <= recall(found, "oracle")[0]


def test_a_trace_without_decode_is_refused():
    with pytest.raises(TraceError, match="no decode tokens"):
        of([[[[3], [3]]] * 6], num_prefill=6)


def test_the_command(tmp_path):
    rows = [[[t % 5], [(t + 1) % 5]] for t in range(11)]
    write_trace(tmp_path / "t", meta_of(), [request_of(i, 1, rows) for i in range(2)])
    command = ["trace", "predict", tmp_path / "t", "--budget", 0.2]
    text = wss(*command).stdout
    assert "token_heatmap         100.0%" in text
    found = json.loads(wss(*command, "--json").stdout)
    assert found["predictors"]["oracle"][0]["bytes_saved_per_token"] is None
