"""Experts' products and MoE layers: by hand, and what holds for every set, device and distribution of tokens."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wss.errors import ConfigError
from wss.hardware.kernels import DEVICES
from wss.hardware.kernels.experts import ExpertGemm, expert_gemm_s
from wss.hardware.kernels.loads import loads
from wss.hardware.kernels.moe_layer import MOE_LAYERS, activation_s, moe_layer_s
from wss.hardware.kernels.tiling import Tiling

H100 = DEVICES["H100-SXM"]
PLAIN = Tiling(peak="bf16", element_bytes=2, peak_share=0.8, hbm_share=0.9, corner=2.0)
WITH_FP8 = sorted(name for name, device in DEVICES.items() if "fp8" in device.flops)
SETS = st.sampled_from(sorted(MOE_LAYERS)).map(MOE_LAYERS.__getitem__)
DEVICE = st.sampled_from(WITH_FP8).map(DEVICES.__getitem__)
TOKENS = st.lists(st.integers(0, 5000), min_size=1, max_size=8).filter(any)
SIZE = st.integers(64, 8192)


def test_one_grouped_product_worked_out_by_hand():
    """Experts with 100, 0 and 300 tokens in tiles of 128 x 256: 1 + 3 rows of tiles, 16 columns: one wave."""
    params = ExpertGemm(tiling=PLAIN, tiles=((128, 256),), expert_s=1e-6)
    tile_s = 2 * 128 * 256 * 2048 * 132 / (0.8 * 989e12)
    memory = (2 * 2048 * (400 + 2 * 4096) + 2 * 400 * 4096) / (0.9 * 3.35e12)
    expected = ((tile_s + 3e-6) ** 2 + memory**2) ** 0.5
    assert expert_gemm_s(params, H100, [[100, 0, 300]], 4096, 2048) == pytest.approx([expected], rel=1e-12)


def test_one_layer_worked_out_by_hand():
    params = replace(MOE_LAYERS["moe_bf16"], token_bytes=3.0, routed_bytes=5.0, inner_bytes=7.0, fixed_s=1e-5)
    tokens = [[100, 0, 300]]
    first = expert_gemm_s(params.gemm, H100, tokens, 2 * 768, 2048)
    second = expert_gemm_s(params.gemm, H100, tokens, 2048, 768)
    around = 1e-5 + (3 * 1000 * 2048 + 400 * (5 * 2048 + 7 * 768)) / 3.35e12
    found = moe_layer_s(params, H100, tokens, 2048, 768, layer_tokens=1000)
    assert found == pytest.approx(around + first + second, rel=1e-12)


def test_a_layer_without_a_gate_has_a_first_product_of_half_the_columns():
    params = MOE_LAYERS["moe_bf16"]
    gated, plain = (moe_layer_s(params, H100, [[64] * 8], 2048, 768, 64, matrices=m) for m in (3, 2))
    products = [expert_gemm_s(params.gemm, H100, [[64] * 8], n, 2048) for n in (2 * 768, 768)]
    assert gated - plain == pytest.approx(products[0] - products[1], rel=1e-9)


def test_a_column_may_stand_for_several_experts():
    params = MOE_LAYERS["moe_fp8_block"]
    each = moe_layer_s(params, H100, [[70] * 6 + [9] * 2 + [0] * 4], 7168, 2048, 438)
    together = moe_layer_s(params, H100, [[70, 9, 0]], 7168, 2048, 438, count=[[6, 2, 4]])
    assert together == pytest.approx(each, rel=1e-12)


def test_a_rank_without_token_experts_still_routes():
    params = MOE_LAYERS["moe_fp8_block"]
    around = params.fixed_s + activation_s(params, H100, 100, 0, 7168, 2048)
    assert moe_layer_s(params, H100, [[0, 0]], 7168, 2048, 100) == pytest.approx([float(around)], rel=1e-12)
    assert moe_layer_s(params, H100, [[0, 0]], 7168, 2048, 0) == [0]


@given(SETS, DEVICE, TOKENS, SIZE, SIZE)
def test_no_layer_is_faster_than_the_roofline(params, device, tokens, hidden, intermediate):
    tiling, total, active = params.gemm.tiling, sum(tokens), sum(count > 0 for count in tokens)
    flop_s = 6.0 * total * hidden * intermediate / device.flops[tiling.peak]
    read_s = tiling.element_bytes * 3 * active * hidden * intermediate / device.hbm
    assert moe_layer_s(params, device, [tokens], hidden, intermediate, total)[0] >= max(flop_s, read_s)


@given(SETS, DEVICE, TOKENS, SIZE, SIZE)
def test_more_tokens_never_take_less_time(params, device, tokens, hidden, intermediate):
    more = [tokens, [count + (i == 0) for i, count in enumerate(tokens)], [2 * count for count in tokens]]
    padded = np.array(more, float)
    time = moe_layer_s(params, device, padded, hidden, intermediate, padded.sum(axis=1))
    assert time[0] <= time[1] * (1 + 1e-12)
    assert time[0] <= time[2] * (1 + 1e-12)


@given(st.integers(1, 64), st.integers(0, 64), st.integers(1, 500), st.floats(1, 50))
def test_loads_add_up_to_what_is_stated(active, idle, mean, skew):
    total, most = active * mean, min(mean * skew, active * mean)
    tokens, count = loads([active + idle], active, total, most)
    assert (tokens * count).sum() == pytest.approx(total, rel=1e-9)
    assert count.sum() == pytest.approx(active + idle, rel=1e-12)
    assert tokens[0, -1] == 0
    assert count[0, -1] == idle


def test_even_loads_are_exact_and_skewed_ones_fall_from_the_most():
    tokens, count = loads([8, 8], 8, [20, 160], [3, 100])
    assert dict(zip(tokens[0, :2], count[0, :2], strict=True)) == {2: 4, 3: 4}
    falling = tokens[1, :-1]
    assert falling[1:] / falling[:-1] == pytest.approx(falling[1] / falling[0])
    assert 60 < falling[0] < 100  # the eighth of the experts with most


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (([5, 6], 2048, 768, 5), "tokens: 1 dimensions are not right; give an array [calls, experts]"),
        (([[-1]], 2048, 768, 5), "tokens: -1.0 is not a size; give a number from 0"),
        (([[1]], 2048, 768, np.nan), "layer_tokens: nan is not a size; give a number from 0"),
    ],
)
def test_bad_sizes_are_refused(arguments, fault):
    with pytest.raises(ConfigError) as error:
        moe_layer_s(MOE_LAYERS["moe_bf16"], H100, *arguments)
    assert error.value.faults == (fault,)


def test_a_layer_has_two_or_three_matrices():
    with pytest.raises(ConfigError, match="matrices: 4 is not right; give 3, or 2 without a gate"):
        moe_layer_s(MOE_LAYERS["moe_bf16"], H100, [[1]], 2048, 768, 1, matrices=4)


def test_ten_thousand_layers_take_little_time():
    tokens, count = loads(np.full(10000, 16), 14, np.arange(10000) + 14.0, np.arange(10000) + 1.0)
    arguments = MOE_LAYERS["moe_fp8_block"], H100, tokens, 7168, 2048, 4096, count
    moe_layer_s(*arguments)
    start = time.process_time()
    moe_layer_s(*arguments)
    assert time.process_time() - start < 0.15  # 0.02 s on an idle core
