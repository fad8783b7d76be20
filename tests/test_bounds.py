"""The lower bound worked out by hand, and no kernel below it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import simulate, view_of, wafer_of

from wss.metrics.bounds import kernel_bound
from wss.models import MODELS
from wss.policies import ALLOCATIONS
from wss.policies.placement import Contiguous

MODEL = MODELS["deepseek_v3"]
READ = 3 * 7168 * 2048 * 2 / 3.35e12
TOKEN = 6 * 7168 * 2048 / 989e12


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param([1] * 25, 410e-9 + READ, id="a read for each die"),
        pytest.param([1] * 26, 410e-9 + 2 * READ, id="some die's HBM serves two"),
        pytest.param([0] * 30 + [1], 410e-9 + READ, id="experts without tokens are not read"),
        pytest.param([25_000], 1000 * TOKEN, id="an equal share of tokens for each die"),
        pytest.param([25_001], 1001 * TOKEN, id="some die computes one more"),
    ],
)
def test_the_bound_worked_out_by_hand(counts, expected):
    assert kernel_bound(np.array(counts), MODEL, wafer_of((5, 5)), "fp16") == pytest.approx(expected, rel=1e-12)


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=60).filter(any), st.sampled_from(sorted(ALLOCATIONS)))
def test_no_policys_kernel_beats_it(counts, name):
    wafer = wafer_of((3, 3))
    counts = np.array(counts)
    holders = Contiguous().place(1, len(counts), wafer.hops)[0]
    plan = ALLOCATIONS[name]().allocate(view_of(wafer, counts, holders))
    run = simulate(wafer, plan, MODEL.expert_bytes("fp16"), plan.tokens * TOKEN)
    assert run.time >= kernel_bound(counts, MODEL, wafer, "fp16") * (1 - 1e-12)
