"""GEMM times: against published measurements, and what holds for every model."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import ROOT, shared

from wss.config import load
from wss.execution import run
from wss.hardware import GEMMS, WAFERS
from wss.hardware.roofline import H800

DIE = WAFERS["dojo"].die


def test_the_given_measurements_are_met_within_3_percent_on_average_and_10_at_worst():
    rows = json.loads(shared("reference", "gemm_h800.json").read_text())["rows"]
    assert len(rows) == 20
    predicted = [
        H800.gemm_s(np.array([float(r["m_per_group"])]), r["n"], r["k"], DIE, "fp8", 1.0, r["groups"])[0] for r in rows
    ]
    error = np.abs(np.array(predicted) / [r["measured_seconds"] for r in rows] - 1)
    assert error.mean() <= 0.03
    assert error.max() <= 0.10


def test_one_gemm_worked_out_by_hand():
    """128 x 7168 by 7168 x 2112, FP8: 2 · 17 tiles on 132 SMs are a part wave, 34/132 + 0.475 · 98/132 of one."""
    wave = 34 / 132 + 0.475 * 98 / 132
    compute = wave * 132 * 64 * 128 * 2 * (7168 + 626) / (0.707 * 1979e12)
    memory = (128 * 7168 + 7168 * 2112 + 2 * 128 * 2112) / (0.861 * 3.35e12)
    expected = 2.16e-6 + (compute**3 + memory**3) ** (1 / 3)
    assert H800.gemm_s(np.array([128.0]), 2112, 7168, DIE, "fp8", 1.0)[0] == pytest.approx(expected, rel=1e-12)


SIZES = st.integers(1, 8192)


@given(st.sampled_from(sorted(GEMMS)), SIZES, SIZES, st.sampled_from([1024, 4096, 7168]), st.sampled_from([1536, 2048]))
def test_every_model_grows_with_tokens_and_never_beats_the_peak(name, few, more, hidden, intermediate):
    few, more = sorted((few, more))
    seconds = GEMMS[name].seconds(np.array([few, more]) * 1.0, np.array([0, 1]), hidden, intermediate, DIE, "fp16")
    assert 0 < seconds[0] <= seconds[1] * (1 + 1e-12)
    assert (seconds >= np.array([few, more]) * 6 * hidden * intermediate / 989e12 * (1 - 1e-12)).all()
    assert GEMMS[name].token_s(hidden, intermediate, DIE, "fp16") > 0
    assert 0 < GEMMS[name].hbm_share("fp16") <= 1


@given(st.sampled_from(sorted(GEMMS)), st.lists(SIZES, min_size=1, max_size=20), st.integers(1, 5), st.randoms())
def test_no_share_out_of_tokens_beats_least_seconds(name, tokens, num_dies, random):
    dies = np.array([random.randrange(num_dies) for _ in tokens])
    shape = (7168, 2048, DIE, "fp16")
    seconds = GEMMS[name].seconds(np.array(tokens, np.float64), dies, *shape)
    for die in np.unique(dies):
        mine = dies == die
        assert seconds[mine].sum() >= GEMMS[name].least_seconds(np.array(tokens)[mine].sum(), *shape) * (1 - 1e-12)


@given(st.sampled_from(sorted(GEMMS)), SIZES, st.floats(1, 10))
def test_every_model_scales_with_the_peak(name, tokens, c):
    """Launches apart; tiles of measured kernels are loaded at the rate of the L2, which does not scale."""
    fast = replace(DIE, flops={"fp16": 989e12 * c})
    two = np.array([float(tokens)] * 2), np.array([0, 0])
    here, there = (GEMMS[name].seconds(*two, 7168, 2048, die, "fp16")[1] for die in (DIE, fast))
    if name == "measured":
        assert here / c * (1 - 1e-12) <= there <= here
    else:
        assert there * c == pytest.approx(here, rel=1e-12)


def test_a_dies_experts_are_one_grouped_gemm_for_gate_and_up_and_one_for_down():
    """The first task bears the launches, the last one the part-full waves."""
    tokens, dies = np.array([64.0, 128.0, 640.0]), np.array([0, 0, 1])
    waves = [np.array([1, 2, 10]) * tiles / 132 for tiles in (32, 56)]  # gate and up: 4096 / 128; down: 7168 / 128
    spare = [[np.ceil(w[:2].sum()) - w[:2].sum(), np.ceil(w[2]) - w[2]] for w in waves]
    wave_s = [132 * 64 * 128 * 2 * (k + 626) / (0.707 * 989e12) for k in (7168, 2048)]
    expected = sum(w * s for w, s in zip(waves, wave_s, strict=True))
    expected[[1, 2]] += sum(0.475 * np.array(lost) * s for lost, s in zip(spare, wave_s, strict=True))
    expected[[0, 2]] += 2 * 2.16e-6
    assert H800.seconds(tokens, dies, 7168, 2048, DIE, "fp16") == pytest.approx(expected, rel=1e-12)


def test_a_die_pays_two_launches_a_kernel_in_a_run():
    """One die with memory beyond measure: its kernel is its experts' compute times and two launches."""
    config = ROOT / "configs" / "gpt_oss_20b.yaml"
    wafer = "wafer={preset: dojo, mesh: [1, 1], die: {hbm: {bandwidth: 1000000 TB/s, latency: 0, size: 1 TB}}}"
    settings = [wafer, "gemm=h800", "policies=[ep]", "baseline=ep", "layers=[3]", "steps=1", "batch=64"]
    experiment = load(config, settings)
    (row,) = [row for row in run(experiment).ledgers[0].rows if row.step == 1]
    per_task = row.compute_time_s - 2 * H800.launch_s
    assert row.time_s == pytest.approx(row.compute_time_s, rel=1e-9)
    one_each = np.ones(row.active_experts), np.zeros(row.active_experts, np.int64)
    least = H800.seconds(*one_each, 2880, 2880, experiment.wafer.die, "fp16").sum() - 2 * H800.launch_s
    assert least * (1 - 1e-9) <= per_task <= 1.2 * least


def test_tiles_that_fill_waves_exactly_lose_nothing_in_whatever_order():
    """2, 19, 19, 7 and 19 rows of 32 tiles fill 16 waves of 132 SMs; as a float sum of parts they were 17."""
    rows = np.array([2, 19, 19, 7, 19])
    assert np.bincount(np.zeros(5, np.int64), rows * 32 / 132)[0] > 16
    own = replace(H800, launch_s=0.0, tile_overhead=0.0)
    gate_up = 2 * 7168 * 4096 * 64.0 * rows.sum() / (0.707 * 989e12)
    down = rows.sum() * 56 / 132
    down = (down + 0.475 * (np.ceil(down) - down)) * 132 * 64 * 128 * 2 * 2048 / (0.707 * 989e12)
    for order in (np.arange(5), np.arange(5)[::-1], np.argsort(rows)):
        seconds = own.seconds(64.0 * rows[order], np.zeros(5, np.int64), 7168, 2048, DIE, "fp16")
        assert seconds.sum() == pytest.approx(gate_up + down, rel=1e-12)
