"""Dense products: by hand, and what holds for every set, device and size."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wss.errors import ConfigError
from wss.hardware.kernels import DEVICES
from wss.hardware.kernels.dense import DENSE, LAUNCH_S, DenseGemm, Tile, dense_gemm_s
from wss.hardware.kernels.tiling import Tiling

H100 = DEVICES["H100-SXM"]
PLAIN = Tiling(peak="bf16", element_bytes=2, peak_share=0.8, hbm_share=0.9)
WITH_FP8 = sorted(name for name, device in DEVICES.items() if "fp8" in device.flops)
SETS = st.sampled_from(sorted(DENSE))
DEVICE = st.sampled_from(WITH_FP8).map(DEVICES.__getitem__)
ROWS = st.integers(1, 20000)
SIZE = st.integers(1, 20000)


def test_one_product_worked_out_by_hand():
    """200 x 4096 by 4096 x 4096 in tiles of 128 x 128: 2 · 32 = 64 tiles, one wave."""
    params = DenseGemm(tiling=replace(PLAIN, fill=100, load_share=0.5), tiles=(Tile(128, 128),))
    flop = 2 * 128 * 128 * (4096 + 100) / (0.8 * 989e12 / 132)
    load = 256 * 2 * (4096 + 100) / (0.5 * 8.99e12 / 132)
    memory = (2 * (200 * 4096 + 4096 * 4096) + 2 * 200 * 4096) / (0.9 * 3.35e12)
    assert load > flop
    expected = LAUNCH_S + (load**3 + memory**3) ** (1 / 3)
    assert dense_gemm_s(params, H100, 200, 4096, 4096) == pytest.approx(expected, rel=1e-12)


def test_a_part_full_last_wave_costs_a_full_one_or_its_share():
    """133 tiles on 132 SMs."""
    for part_wave, waves in ((1.0, 2.0), (0.25, 133 / 132 + 0.25 * 131 / 132), (0.0, 133 / 132)):
        tiling = replace(PLAIN, part_wave=part_wave)
        params = DenseGemm(tiling=tiling, tiles=(Tile(128, 128),), launch_s=0.0)
        tile_s = 2 * 128 * 128 * 8192 * 132 / (0.8 * 989e12)
        assert dense_gemm_s(params, replace(H100, hbm=1e20), 128, 128 * 133, 8192) == pytest.approx(
            waves * tile_s, rel=1e-9
        )


def test_a_split_sums_parts_of_k_at_once_and_adds_them_up():
    """8 x 7168 by 7168 x 128 is one tile; in 4 parts, each sums over 1792, and 4 · 8 · 128 sums are moved twice."""
    tiling = replace(PLAIN, corner=math.inf)
    whole, parts = (DenseGemm(tiling=tiling, tiles=(Tile(64, 128, split),)) for split in (1, 4))
    tile_s = 2 * 64 * 128 * 7168 * 132 / (0.8 * 989e12)
    assert dense_gemm_s(whole, H100, 8, 128, 7168) == pytest.approx(LAUNCH_S + tile_s, rel=1e-9)
    adding = LAUNCH_S + 2 * 4 * 4 * 8 * 128 / 3.35e12
    assert dense_gemm_s(parts, H100, 8, 128, 7168) == pytest.approx(LAUNCH_S + tile_s / 4 + adding, rel=1e-9)


def test_quantising_adds_its_start_and_three_bytes_an_activation():
    params = DENSE["deepgemm"]
    alone = replace(params, quantise_s=None)
    extra = dense_gemm_s(params, H100, 512, 7168, 2048) - dense_gemm_s(alone, H100, 512, 7168, 2048)
    assert extra == pytest.approx(params.quantise_s + 512 * 2048 * 3 / (params.tiling.hbm_share * 3.35e12), rel=1e-9)


def test_groups_share_waves_and_one_launch():
    one, four = (dense_gemm_s(DENSE["deepgemm_h800"], H100, 64, 4096, 7168, groups) for groups in (1, 4))
    assert one < four < 4 * one


def test_no_rows_take_no_time_and_shapes_are_common():
    found = dense_gemm_s(DENSE["cublas_bf16"], H100, [[0], [1]], [512, 1024, 2048], 4096)
    assert found.shape == (2, 3)
    assert (found[0] == 0).all()
    assert (found[1] > LAUNCH_S).all()


@given(SETS, DEVICE, ROWS, SIZE, SIZE)
def test_no_product_is_faster_than_the_roofline(name, device, m, n, k):
    params = DENSE[name]
    width = params.tiling.element_bytes
    flop_s = 2.0 * m * n * k / device.peak(params.tiling.peak)
    bytes_s = (width * (m * k + k * n) + 2.0 * m * n) / device.hbm
    assert dense_gemm_s(params, device, m, n, k) >= max(flop_s, bytes_s) * (1 - 1e-12)


@given(SETS, DEVICE, ROWS, SIZE, SIZE)
def test_one_more_row_and_twice_the_rows_never_take_less_time(name, device, m, n, k):
    less, next_up, twice = dense_gemm_s(DENSE[name], device, [m, m + 1, 2 * m], n, k)
    assert next_up >= less * (1 - 1e-12)
    assert twice >= less * (1 - 1e-12)


@given(SETS, DEVICE, ROWS, SIZE, SIZE)
def test_a_wider_or_deeper_product_never_takes_less_time(name, device, m, n, k):
    here, wider, deeper = dense_gemm_s(DENSE[name], device, m, [n, n + 1, n], [k, k, k + 1])
    assert wider >= here * (1 - 1e-12)
    assert deeper >= here * (1 - 1e-12)


@given(SETS, ROWS, SIZE, SIZE, st.floats(1, 4))
def test_a_device_that_is_faster_in_all_shrinks_all_but_the_fixed_costs(name, m, n, k, c):
    fast = replace(H100, flops={p: c * x for p, x in H100.flops.items()}, hbm=c * H100.hbm, l2=c * H100.l2)
    params = replace(DENSE[name], launch_s=0.0, quantise_s=None)
    expected = dense_gemm_s(params, H100, m, n, k) / c
    assert dense_gemm_s(params, fast, m, n, k) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", sorted(DENSE))
def test_ten_thousand_products_in_one_call_are_those_one_by_one(name):
    rng = np.random.default_rng(0)
    m, n, k = (rng.integers(1, 16384, 10_000) for _ in range(3))
    together = dense_gemm_s(DENSE[name], H100, m, n, k)
    for i in range(0, 10_000, 997):
        assert dense_gemm_s(DENSE[name], H100, m[i], n[i], k[i]) == pytest.approx(together[i], rel=1e-12)


@pytest.mark.parametrize(
    ("sizes", "fault"),
    [
        ({"m": -1, "n": 1, "k": 1}, "m: -1.0 is not a size; give a number from 0"),
        ({"m": 1, "n": math.nan, "k": 1}, "n: nan is not a size"),
        ({"m": 1, "n": 1, "k": math.inf}, "k: inf is not a size"),
        ({"m": "many", "n": 1, "k": 1}, "m: 'many' is not a size; give a number or an array of numbers"),
        ({"m": [1, 2], "n": [1, 2, 3], "k": 1}, "sizes differ in shape"),
    ],
)
def test_a_size_that_is_none_is_named_in_one_line(sizes, fault):
    with pytest.raises(ConfigError) as error:
        dense_gemm_s(DENSE["cublas_bf16"], H100, **sizes)
    (line,) = error.value.faults
    assert fault in line


def test_a_device_without_the_precision_is_named():
    with pytest.raises(ConfigError, match="A100-SXM: no FLOP/s in 'fp8'"):
        dense_gemm_s(DENSE["deepgemm"], DEVICES["A100-SXM"], 1, 1, 1)


def test_shares_beyond_the_peak_are_refused():
    with pytest.raises(ConfigError) as error:
        replace(PLAIN, peak_share=1.2, fill=-1, corner=0.5)
    assert [fault.split(":")[0] for fault in error.value.faults] == ["peak_share", "corner", "fill"]
