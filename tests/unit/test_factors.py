"""Factors such as 2x: what they multiply, where they are text, and what is refused."""

import pickle
from copy import deepcopy

import pytest
from kit.runs import SMALL
from kit.sweeps import TINY, sweep_file

from wss.config import load
from wss.config.factors import over
from wss.config.overrides import python_settings
from wss.config.sweep_file import load_sweep
from wss.errors import ConfigError
from wss.hardware import WAFERS

LINK = WAFERS["dojo"].link


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


MULTIPLIED = {
    "a preset's": (["wafer.link.bandwidth=2x"], lambda e: e.wafer.link.bandwidth, 2 * LINK.bandwidth),
    "once": (["wafer.link.bandwidth=1x"], lambda e: e.wafer.link.bandwidth, LINK.bandwidth),
    "a part set whole": (["wafer.link={bandwidth: .5x}"], lambda e: e.wafer.link.bandwidth, LINK.bandwidth / 2),
    "a preset's table": (["wafer.die.flops.fp8=2x"], lambda e: e.wafer.die.flops["fp8"], 3958e12),
    "a setting's": (["wafer.link.bandwidth=1 TB/s", "wafer.link.bandwidth=2x"], lambda e: e.wafer.link.bandwidth, 2e12),
    "twice": (["wafer.link.bandwidth=2x", "wafer.link.bandwidth=2x"], lambda e: e.wafer.link.bandwidth, 6.8e12),
    "zero": (["wafer.link.latency=0", "wafer.link.latency=2x"], lambda e: e.wafer.link.latency, 0),
    "the file's": (["batch=2x"], lambda e: e.batch, 80),
    "the file's, deeper": (["trace.synth.skew=0.5x"], lambda e: e.trace.skew, 0.6),
    "a default": (["window=1.5x"], lambda e: e.window, 3),
    "a part's default": (["network={kind: packet, chunk: 2x}"], lambda e: e.network.chunk, 131072),
    "a replaced key's": (["layers={sample: 4}", "layers.sample=1.5x"], lambda e: e.layers.sample, 6),
    "a model's": (["model.num_experts=0.5x"], lambda e: e.model.num_experts, 6),
    "a time or a word": (["planning=10 us", "planning=2x"], lambda e: e.planning, 20 * 1e-6),
    "text": (["model.name=2x"], lambda e: e.model.name, "2x"),
    "a policy's name": (["policies=[base, {name: 3x, preset: ep}]", "baseline=3x"], lambda e: e.baseline, "3x"),
}


@pytest.mark.parametrize("case", MULTIPLIED)
def test_a_factor_multiplies_the_value_below_it(small, case):
    settings, of, value = MULTIPLIED[case]
    assert of(load(small, settings)) == value


REFUSED = {
    "nothing below": (["model.top_k=null", "model.top_k=2x"], "'2x' multiplies the value below it, and none is given;"),
    "no whole number": (
        ["batch=0.33x"],
        "batch: '0.33x' of 40 is 13.2, and this takes a whole number; give a factor th",
    ),
    "a word": (
        ["steps=all", "steps=2x"],
        "steps: '2x' multiplies a number, and the value below it is 'all'; give a num",
    ),
    "no quantity": (["planning=2x"], "planning: '2x' multiplies a time, and the value below it is 'free'; give a time"),
    "no unit": (
        ["wafer.link.bandwidth=5", "wafer.link.bandwidth=2x"],
        "multiplies a bandwidth, and the value below it is 5",
    ),
    "none": (
        ["wafer.die.flops.fp4=2x"],
        "wafer.die.flops.fp4: '2x' multiplies the value below it, and none is given; gi",
    ),
    "a list": (["wafer.mesh=2x"], "wafer.mesh: '2x' is not right; it should be a valid list, written [a, b]"),
    "out of range": (["batch=1e9x"], "batch: 40000000000 is not right; it should be less than or equal to 10000000"),
    "hexadecimal": (["batch=0x10"], "batch: '0x10' is not right; it should be a valid integer"),
    "a policy": (["baseline=2x"], "baseline: '2x' is not among the policies"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_factor_with_nothing_to_multiply_is_one_line(small, case):
    settings, line = REFUSED[case]
    with pytest.raises(ConfigError) as error:
        load(small, settings)
    (fault,) = error.value.faults
    assert fault.startswith(f"--set {settings[-1]}: ")
    assert line in fault


def test_an_axis_of_factors_and_what_is_recorded(tmp_path):
    text = TINY + "grid:\n  wafer.link.bandwidth: [0.5x, 1x, 2x]\nvary:\n  batch: [2x]\n"
    points = load_sweep(sweep_file(tmp_path, text)).points
    assert [point.labels["wafer.link.bandwidth"] for point in points[::2]] == ["0.5x", "1x", "2x"]
    recorded = [point.experiment.plain()["wafer"]["link"]["bandwidth"] for point in points[::2]]
    assert recorded == [LINK.bandwidth * factor for factor in (0.5, 1, 2)]
    assert [point.experiment.plain()["batch"] for point in points[:2]] == [8, 16]


def test_a_factor_in_a_file_is_placed(tmp_path):
    path = sweep_file(tmp_path, SMALL + "window: 0.3x\n", "small.yaml")
    with pytest.raises(
        ConfigError, match=r"small\.yaml:15:1: window: '0\.3x' of 2 is 0\.6, and this takes a whole num"
    ):
        load(path)


@pytest.mark.parametrize("copied", [deepcopy, lambda factor: pickle.loads(pickle.dumps(factor))])
def test_a_copy_of_a_factor_keeps_what_is_below(copied):
    factor = copied(over("2x", 4))
    assert (factor, factor.below) == ("2x", 4)


def test_factors_given_in_python_multiply_what_an_experiment_has(small):
    experiment = load(small, ["batch=2x"])
    settings = python_settings({"batch": "0.5x", "wafer.link.bandwidth": "2x"})
    changed = load(experiment, settings)
    assert (experiment.batch, changed.batch) == (80, 40)
    assert changed.wafer.link.bandwidth == 2 * LINK.bandwidth


def test_a_factor_multiplies_the_planning_time_of_an_experiment(small):
    experiment = load(small, ["planning=10 us"])
    assert load(experiment, ["planning=2x"]).planning == pytest.approx(20e-6)
    assert load(experiment, ["planning=2x", "planning=2x"]).planning == pytest.approx(40e-6)


@pytest.mark.parametrize(("key", "factor"), [("model.hidden_size", "1.5x"), ("trace.synth.skew", "0.5x")])
def test_a_multiple_too_large_for_a_number_is_one_line(small, key, factor):
    with pytest.raises(ConfigError, match=r"of the value below it is too large; give a smaller one") as error:
        load(small, python_settings({key: 10**320 + 1}) + python_settings({key: factor}))
    assert len(error.value.faults) == 1
