"""The lower bound worked out by hand, and no kernel below it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import contiguous, simulate, view_of, wafer_of

from wss.hardware import GEMMS
from wss.metrics.bounds import kernel_bound
from wss.models import MODELS
from wss.policies import ALLOCATIONS

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


def test_what_the_llcs_can_hold_is_taken_off():
    """25 LLCs with room for one expert each: of 26 experts one is read, of 25 none need be."""
    wafer = wafer_of((5, 5), llc=1.5 * MODEL.expert_bytes("fp16"))
    assert kernel_bound(np.ones(26, np.int64), MODEL, wafer, "fp16") == pytest.approx(410e-9 + READ, rel=1e-12)
    assert kernel_bound(np.ones(25, np.int64), MODEL, wafer, "fp16") == pytest.approx(TOKEN, rel=1e-12)


def test_the_bound_with_measured_gemms():
    """1000 tokens on some die: two launches, and 0.707 of the peak, less what starting tiles takes."""
    least = 2 * 2.16e-6 + 1000 * 2 * 2048 * (2 * (7168 + 626) + 7168 / 2048 * (2048 + 626)) / (0.707 * 989e12)
    found = kernel_bound(np.array([25_000]), MODEL, wafer_of((5, 5)), "fp16", GEMMS["h800"])
    assert found == pytest.approx(least, rel=1e-12)


@given(st.lists(st.integers(0, 3000), min_size=1, max_size=60).filter(any), st.sampled_from(sorted(ALLOCATIONS)))
def test_no_policys_kernel_beats_it(counts, name):
    wafer = wafer_of((3, 3))
    counts = np.array(counts)
    holders = contiguous(len(counts), wafer.num_dies)
    plan = ALLOCATIONS[name]().allocate(view_of(wafer, counts, holders))
    run = simulate(wafer, plan, MODEL.expert_bytes("fp16"), plan.tokens * TOKEN)
    assert run.time >= kernel_bound(counts, MODEL, wafer, "fp16") * (1 - 1e-12)
