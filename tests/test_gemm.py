"""GEMM times: against published measurements, and what holds for every model."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import shared

from wss.config import load
from wss.errors import ConfigError
from wss.hardware import GEMMS, WAFERS
from wss.hardware.gemm import H800
from wss.report.gemm import predict_rows, read_rows
from wss.run import run

DIE = WAFERS["dojo"].die


def test_the_given_measurements_are_met_within_8_percent_on_average_and_20_at_worst():
    found = predict_rows(read_rows(shared("reference", "gemm_h800.json")), DIE, "fp8")
    assert len(found["rows"]) == 20
    assert found["mean_abs_error"] <= 0.03
    assert found["worst_abs_error"] <= 0.10


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
    seconds = GEMMS[name].seconds(np.array([float(few), float(more)]), hidden, intermediate, DIE, "fp16")
    assert 0 < seconds[0] <= seconds[1]
    assert (seconds >= np.array([few, more]) * 6 * hidden * intermediate / 989e12 * (1 - 1e-12)).all()
    assert GEMMS[name].launch() >= 0


@given(st.sampled_from(sorted(GEMMS)), SIZES, st.floats(1, 10))
def test_every_model_scales_with_the_peak(name, tokens, c):
    fast = replace(DIE, flops={"fp16": 989e12 * c})
    here, there = (GEMMS[name].seconds(np.array([float(tokens)]), 7168, 2048, die, "fp16")[0] for die in (DIE, fast))
    assert there * c == pytest.approx(here, rel=1e-12)


BAD = {
    "not JSON": ("{", "is not readable JSON"),
    "no rows": ("{}", "has no rows"),
    "rows of numbers": ('{"rows": [1]}', "has no rows"),
    "a size missing": ('{"rows": [{"n": 1, "k": 1}]}', "rows.0.m_per_group: None is not right"),
    "a negative size": ('{"rows": [{"m_per_group": 1, "n": -1, "k": 1}]}', "rows.0.n: -1 is not right"),
    "a size not a number": ('{"rows": [{"m_per_group": 1, "n": NaN, "k": 1}]}', "rows.0.n: nan is not right"),
    "groups as text": ('{"rows": [{"m_per_group": 1, "n": 1, "k": 1, "groups": "2"}]}', "rows.0.groups: '2'"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_a_bad_file_is_named(tmp_path, case):
    text, expected = BAD[case]
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ConfigError) as error:
        read_rows(tmp_path / "x.json")
    (fault,) = error.value.faults
    assert fault.startswith(str(tmp_path / "x.json"))
    assert expected in fault


def test_predictions_stand_beside_measurements(tmp_path):
    rows = [
        {"m_per_group": 64, "n": 2112, "k": 7168, "measured_seconds": 1e-5, "kind": "dense"},
        {"m_per_group": 8, "n": 8, "k": 8},
    ]
    (tmp_path / "x.json").write_text(json.dumps({"rows": rows}))
    found = predict_rows(read_rows(tmp_path / "x.json"), DIE, "fp8")
    assert found["rows"][0]["kind"] == "dense"
    assert found["rows"][0]["error"] == pytest.approx(found["rows"][0]["predicted_seconds"] / 1e-5 - 1)
    assert "error" not in found["rows"][1]


def test_an_expert_is_gate_and_up_together_and_down():
    tokens = np.array([7.0, 300.0])
    parts = H800.compute_s(tokens, 4096, 7168, DIE, "fp16") + H800.compute_s(tokens, 7168, 2048, DIE, "fp16")
    assert H800.seconds(tokens, 7168, 2048, DIE, "fp16") == pytest.approx(parts, rel=1e-15)


def test_a_die_pays_two_launches_a_kernel_in_a_run():
    """One die with memory beyond measure: its kernel is its experts' compute times and two launches."""
    config = Path(__file__).parents[1] / "configs" / "gpt_oss_20b.yaml"
    wafer = "wafer={preset: dojo, mesh: [1, 1], die: {hbm: {bandwidth: 1000000 TB/s, latency: 0, size: 1 TB}}}"
    settings = [wafer, "gemm=h800", "policies=[ep]", "baseline=ep", "layers=[3]", "steps=1", "batch=64"]
    experiment = load(config, settings)
    (row,) = [row for row in run(experiment).ledgers[0].rows if row.step == 1]
    per_task = row.compute_time_s - 2 * H800.launch_s
    assert row.time_s == pytest.approx(row.compute_time_s, rel=1e-9)
    least = row.active_experts * H800.seconds(np.array([1.0]), 2880, 2880, experiment.wafer.die, "fp16")[0]
    assert least * (1 - 1e-9) <= per_task <= 1.2 * least
