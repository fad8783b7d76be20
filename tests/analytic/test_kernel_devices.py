"""Facts that kernel models and energy rest on: devices, the least tile, absorbed MLA, costs, and bounds of runs."""

import math
from dataclasses import replace

import numpy as np
import pytest
from kit import ROOT

from wss.config import load
from wss.execution import run
from wss.hardware import WAFERS
from wss.hardware.energy import COSTS
from wss.hardware.kernels import DEVICES, of_die
from wss.hardware.kernels.attention import mla_absorbed
from wss.hardware.kernels.collectives import COLLECTIVES, all_to_all_s
from wss.hardware.kernels.tiling import Tiling, compute_s
from wss.hardware.layer_overhead import LayerOverhead
from wss.hardware.measured import MEASURED

H100 = DEVICES["H100-SXM"]


def test_a_die_is_a_device_with_its_own_peaks():
    die = WAFERS["dojo"].die
    device = of_die(replace(die, sms=100), link=1e12)
    assert (device.sms, device.hbm, device.hbm_bytes) == (100, die.hbm.bandwidth, die.hbm.size)
    assert (device.l2, device.l2_bytes, device.nvlink) == (die.llc.bandwidth, die.llc.size, 1e12)
    assert device.flops == {"bf16": die.flops["fp16"], "fp8": die.flops["fp8"]}


@pytest.mark.parametrize(
    ("name", "sms", "bf16", "hbm"),
    [
        ("H100-SXM", 132, 989e12, 3.35e12),
        ("H200-SXM", 132, 989e12, 4.8e12),
        ("H20-SXM", 78, 148e12, 4.0e12),
        ("A100-SXM", 108, 312e12, 2.039e12),
        ("L40S", 142, 362e12, 864e9),
        ("B200-SXM", 148, 2250e12, 8e12),
    ],
)
def test_devices_have_the_figures_of_their_datasheets(name, sms, bf16, hbm):
    assert (DEVICES[name].sms, DEVICES[name].flops["bf16"], DEVICES[name].hbm) == (sms, bf16, hbm)


def test_a_tile_of_fewer_rows_computes_as_long_as_one_of_64():
    """A tensor core's instruction has 64 rows; loading tiles is free here."""
    tiling = Tiling(peak="fp8", element_bytes=1, peak_share=0.5, hbm_share=1, load_share=math.inf)
    sixteen, whole, double = (
        compute_s(tiling, H100, np.array([132.0]), (rows, 128.0), np.array([1000.0]))[0] for rows in (16, 64, 128)
    )
    assert sixteen == whole == pytest.approx(132 * 2 * 64 * 128 * 1000 / (0.5 * 1979e12), rel=1e-12)
    assert double == pytest.approx(2 * whole, rel=1e-12)


def test_absorbed_mla_reads_one_latent_of_512_and_64_elements():
    heads = mla_absorbed(128)
    assert (heads.dim_k, heads.dim_v) == (576, 512)
    assert heads.cached == 576


def test_all_to_all_sends_what_is_not_the_gpus_own():
    """Twice the GPUs: 7/8 of the bytes leave a GPU in place of 3/4, beside copies of all in the GPU's own HBM."""
    nccl = COLLECTIVES["nccl"]
    four, eight = (
        float(all_to_all_s(nccl, H100, 2.0**33, gpus) - all_to_all_s(nccl, H100, 2.0**32, gpus)) for gpus in (4, 8)
    )
    assert 1.1 < eight / four < (7 / 8) / (3 / 4)


def test_energy_has_the_costs_of_the_page():
    """docs/model/energy.md: pJ a FLOP, and a byte."""
    pico = {name: cost * 1e12 for name, cost in COSTS.flop.items()}
    assert pico == pytest.approx({"fp16": 0.708, "fp8": 0.354, "fp4": 0.111}, abs=5e-4)
    bytes_ = (COSTS.hbm_byte, COSTS.llc_byte, COSTS.d2d_byte, COSTS.nvlink_byte, COSTS.nic_byte)
    assert [1e12 * cost for cost in bytes_] == pytest.approx([31.2, 1.75, 4, 44, 340])


@pytest.mark.parametrize("precision", MEASURED.products)
def test_the_bound_of_measured_products_is_near_what_full_waves_take(precision):
    """Where tiles compute as long as they load or longer, full waves of full tiles meet the bound within 2%."""
    shape, die = (7168, 2048), replace(WAFERS["dojo"].die, llc=replace(WAFERS["dojo"].die.llc, bandwidth=1e15))
    tokens = 128 * 132.0
    seconds = MEASURED.seconds(np.array([tokens]), np.zeros(1, np.int64), *shape, die, precision)[0]
    least = MEASURED.least_seconds(tokens, *shape, die, precision)
    assert least <= seconds <= 1.02 * least


def test_every_die_routes_an_equal_share_of_the_tokens(monkeypatch):
    """64 tokens on two dies, each of which routes 32, wherever their 4 experts each are computed."""
    given, seconds = [], LayerOverhead.seconds

    def recorded(overhead, tokens, token_experts):
        given.append((tokens, token_experts.sum()))
        return seconds(overhead, tokens, token_experts)

    monkeypatch.setattr(LayerOverhead, "seconds", recorded)
    wafer = "wafer={preset: dojo, mesh: [1, 2], die: {hbm: {size: 1 TB}}}"
    settings = [wafer, "policies=[ep]", "baseline=ep", "gemm=measured", "precision=fp8", "layers=[3]", "steps=1"]
    run(load(ROOT / "configs" / "gpt_oss_20b.yaml", [*settings, "batch=64"]))
    assert given[-1] == (32, 64 * 4)
