"""Tokens of each expert from what a table of MoE layers states."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wss.report.kernels.loads import COLUMNS, loads_of
from wss.traces.columns import Columns, Text


def loads(routing, active, total, most):
    numbers = {"active_experts": active, "token_experts": total, "max_tokens": most}
    columns = Columns(1, {k: np.array([float(v)]) for k, v in numbers.items()}, {}, {"routing": Text.of([routing])})
    tokens, count = loads_of(columns)
    return tokens[0], count[0]


def tiles(tokens, count, rows):
    return float((np.ceil(np.round(tokens, 9) / rows) * count).sum())


def test_balanced_loads_differ_by_one_token_at_most():
    tokens, count = loads("balanced", 32, 100, 4)
    assert [(t, c) for t, c in zip(tokens, count, strict=True) if c] == [(3, 28), (4, 4)]
    tokens, count = loads("balanced", 8, 8, 1)
    assert [(t, c) for t, c in zip(tokens, count, strict=True) if c] == [(1, 8)]


@given(
    st.sampled_from(["balanced", "uniform", "power_law_0.6", "power_law_1.01", "power_law_1", "power_law_1.2", "new"]),
    st.floats(1, 512),
    st.floats(1, 2000),
    st.floats(1, 300),
)
def test_loads_add_up(routing, active, mean, skew):
    total = active * mean
    tokens, count = loads(routing, active, total, min(mean * skew, total))
    assert (tokens * count).sum() == pytest.approx(total, rel=1e-9)
    assert count.sum() == pytest.approx(active)
    assert (tokens >= 0).all()
    assert len(tokens) == COLUMNS


@pytest.mark.parametrize("exponent", [0.6, 1.01, 1.2])
def test_a_power_law_has_the_tiles_of_random_draws_of_it(exponent):
    """On average over draws of 64 experts' loads, of which only count, sum and largest are given."""
    rng = np.random.default_rng(0)
    low, high = 1.0 ** (1 - exponent), 3000.0 ** (1 - exponent)
    draws = np.rint(((high - low) * rng.random((200, 64)) + low) ** (1 / (1 - exponent)))
    mean = (64, draws.sum(axis=1).mean(), draws.max(axis=1).mean())
    for rows in (16, 64, 128):
        expected = np.ceil(draws / rows).sum(axis=1).mean()
        assert tiles(*loads(f"power_law_{exponent}", *mean), rows) == pytest.approx(expected, rel=0.05)


def test_random_routing_has_the_tiles_of_a_poisson_distribution():
    """At 64 tokens an expert, half of the experts need a second tile of 64."""
    draws = np.random.default_rng(0).poisson(64.0, (500, 32))
    found = loads("uniform", 32, 64 * 32, 82)
    assert tiles(*found, 64) == pytest.approx(np.ceil(draws / 64).sum(axis=1).mean(), rel=0.05)
    assert tiles(*loads("balanced", 32, 64 * 32, 64), 64) == 32


def test_unknown_routing_counts_as_balanced():
    tokens, count = loads("zipf", 10, 40, 30)
    assert tokens[count > 0].tolist() == [4]
