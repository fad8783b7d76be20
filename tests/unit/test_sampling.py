"""A sample of the layers: who is drawn, what is estimated, and whether the intervals hold what they say."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import ROOT
from scipy.special import stdtrit

from wss.config import load
from wss.errors import ConfigError
from wss.execution import run
from wss.execution.layers import draw_layers
from wss.execution.routing import open_routing
from wss.metrics.figures import FIGURES
from wss.metrics.sampling import LEAST, Sample, Stratum, draw
from wss.traces import TraceReader, write_trace
from wss.traces.synthetic.spec import synth_meta, synthesise
from wss.traces.synthetic.tables import layer_shares

# 24 layers; LLCs of no size, so that layers meet in the room for copies alone, which is short.
CONFIG = """\
model:
  name: small
  num_layers: 24
  moe_layers: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23]
  num_experts: 32
  top_k: 2
  hidden_size: 1024
  moe_intermediate_size: 2048
wafer: {preset: dojo, mesh: [3, 3], die: {llc: {size: 0 B}, hbm: {size: 2.1 GB}}}
trace: {synth: {requests: 128, decode_tokens: 3, prompt_min: 1, prompt_max: 3, clusters: 8}}
batch: 4096
steps: 3
policies: [base, ep, pred, allo, allo_pred]
"""
TRIALS = 50
# What has no interval: neither a sum over layers nor a ratio of such sums.
WITHOUT = {figure.name for figure in FIGURES if figure.measure is None or figure.measure.above is None} | {"ci95"}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The configuration with its routing in a file, so that the seed draws layers and nothing else."""
    folder = tmp_path_factory.mktemp("sampling")
    path = folder / "small.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    made = load(path)
    trace = folder / "t.parquet"
    write_trace(trace, synth_meta(made.trace, made.model, 0), synthesise(made.trace, made.model, 0))
    return path, [f"trace.path={trace}"]


@pytest.fixture(scope="module")
def whole(config):
    path, settings = config
    return run(load(path, settings))


def by_policy(result):
    return {own["policy"]: own for own in result.to_dict()["runs"]}


@pytest.mark.slow
def test_intervals_of_every_figure_cover_what_all_layers_give(config, whole):
    """In 43 of 50 draws of 8 of the 24 layers at least, for every policy."""
    path, settings = config
    experiment, truth = load(path, [*settings, "layers.sample=8"]), by_policy(whole)
    covered: dict[tuple[str, str], int] = {}
    for seed in range(TRIALS):
        for policy, own in by_policy(run(replace(experiment, seed=seed))).items():
            for key, (low, high) in own["ci95"].items():
                slack = 1e-9 * abs(truth[policy][key])
                covered.setdefault((policy, key), 0)
                covered[policy, key] += low - slack <= truth[policy][key] <= high + slack
    assert len(covered) >= 5 * 25
    assert {each: count for each, count in covered.items() if count < 0.85 * TRIALS} == {}


def test_a_total_and_a_ratio_worked_out_by_hand():
    """One layer for certain, and three of six: N (N - n) / n = 6, t of two, the fewest, = 4.302653."""
    sample = Sample((Stratum(layers=(4,), run=(4,)), Stratum(layers=(0, 1, 2, 3, 5, 6), run=(1, 3, 6))))
    assert sample.layers == (1, 3, 4, 6)
    assert sample.weights.tolist() == [2, 2, 1, 2]
    y, x = np.array([1.0, 2.0, 10.0, 3.0]), np.array([1.0, 1.0, 2.0, 2.0])
    half = 4.302653 * math.sqrt(6 * 1.0)
    assert sample.estimate(y) == pytest.approx((22, 22 - half, 22 + half), rel=1e-6)
    # R = 22 / 10; y - R x = -1.2, -0.2, (5.6), -1.4 over a total of 10; s² = 0.41333 / 100
    half = 4.302653 * math.sqrt(6 * 0.41333333 / 100)
    assert sample.estimate(y, x) == pytest.approx((2.2, 2.2 - half, 2.2 + half), rel=1e-6)


def test_the_variance_is_pooled_over_strata_with_half_the_degrees_of_freedom():
    """4 and 3 layers are drawn: 3 + 2 degrees of freedom are there, (1 + 5) / 2 = 3 are taken."""
    first, second = (
        Stratum(layers=tuple(range(12)), run=(0, 1, 2, 3)),
        Stratum(layers=tuple(range(12, 23)), run=(12, 13, 14)),
    )
    values = np.array([1.0, 1.0, 3.0, 3.0, 0.0, 1.0, 5.0])
    pooled = (4 * 1.0 + (4.0 + 1.0 + 9.0)) / 5
    scale = 12 * 8 / 4 + 11 * 8 / 3
    half = 3.182446 * math.sqrt(scale * pooled)  # t of three
    value, low, high = Sample((first, second)).estimate(10 + values)
    assert (high - value, value - low) == pytest.approx((half, half), rel=1e-6)


def test_a_policy_that_differs_in_few_layers_is_not_taken_to_differ_in_none():
    """Ratios are alike in most layers drawn: d then spreads a fifth of what independent times would give."""
    sample = Sample((Stratum(layers=(9,), run=(9,)), Stratum(layers=tuple(range(9)), run=(0, 2, 4, 6))))
    before = np.array([10.0, 12.0, 9.0, 11.0, 20.0])
    assert sample.layers == (0, 2, 4, 6, 9)
    total = float(sample.weights @ before)
    value, low, high = sample.speedup(before, before.copy())
    spread = math.sqrt(5 / 3) / total  # of 10, 12, 9, 11
    half = stdtrit(2, 0.975) * math.sqrt(9 * 5 / 4) * 0.2 * math.sqrt(2) * spread
    assert (value, high - value, value - low) == pytest.approx((1, half, half))
    assert sample.speedup(before, before) == (1, 1, 1)
    now = before * np.array([0.5, 1.0, 0.7, 1.5, 1.0])
    assert sample.speedup(before, now) == sample.estimate(before, now)


# Times of layers of made-up policies: long-tailed, with a trend in skew, rare gains, and one that hardly differs.
def made_up(layers: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    skew = np.sort(random.uniform(2, 8, layers))[::-1]
    base = 100 + 3 * random.standard_normal(layers) + 4 * skew
    rare = base / np.where(random.random(layers) < 0.3, 1 + 0.06 * random.random(layers), 1.0)
    return skew, {
        "base": base,
        "trend": 30 + 4 * skew + 5 * random.exponential(1, layers),
        "tail": 40 * np.exp(0.1 * random.standard_normal(layers)),
        "alike": base * (1 + 0.002 * random.standard_normal(layers)),
        "rare": rare,
    }


@pytest.mark.parametrize(("layers", "seed"), [(24, 2), (58, 2)])
def test_of_200_draws_the_interval_of_a_speedup_covers_183_to_198(layers, seed):
    skew, times = made_up(layers, seed)
    covered = dict.fromkeys(set(times) - {"base"}, 0)
    for number in range(200):
        sample = draw(range(layers), skew, 8, number)
        drawn = list(sample.layers)
        for policy in covered:
            _, low, high = sample.speedup(times["base"][drawn], times[policy][drawn])
            covered[policy] += low <= times["base"].sum() / times[policy].sum() <= high
    assert all(183 <= count <= 198 for count in covered.values()), covered


def test_intervals_do_not_go_below_zero_and_nothing_over_nothing_is_zero():
    sample = Sample((Stratum(layers=(0, 1, 2, 3, 4), run=(0, 1, 2)),))
    assert sample.estimate(np.array([0.0, 0.0, 1.0]))[1] == 0
    assert sample.estimate(np.zeros(3), np.zeros(3)) == (0, 0, 0)


def test_the_jackknife_takes_the_bias_off_a_square():
    """Of the square of a mean, the bias is the variance of the mean, (1 - f) s² / n; the jackknife gives just that."""
    sample = Sample((Stratum(layers=tuple(range(9)), run=(0, 4, 8)),))
    y = np.array([1.0, 2.0, 6.0])
    assert sample.bias(lambda weights: float(weights @ y / 9) ** 2) == pytest.approx(6 / 9 * y.var(ddof=1) / 3)


@given(st.lists(st.sampled_from([1.0, 1.5, 2.0, 7.0]), min_size=5, max_size=90), st.data())
def test_a_draw_is_stratified_and_holds_the_most_skewed(skews, data):
    skew, layers = np.array(skews), [3 + 2 * i for i in range(len(skews))]
    count = data.draw(st.integers(LEAST, len(skews) - 1))
    seed = data.draw(st.integers(0, 10))
    sample = draw(layers, skew, count, seed)
    assert len(set(sample.layers)) == count
    assert sorted(layer for stratum in sample.strata for layer in stratum.layers) == layers
    assert sample.weights.sum() == pytest.approx(len(layers))
    of = dict(zip(layers, skews, strict=True))
    for first, second in zip(sample.strata, sample.strata[1:], strict=False):
        assert min(of[layer] for layer in first.layers) >= max(of[layer] for layer in second.layers)
        assert len(second.run) >= 3
        assert set(second.run) <= set(second.layers)
    assert sample.strata[0].run == sample.strata[0].layers
    assert len(sample.strata[0].run) == max(1, count // 8)
    assert draw(layers, skew, count, seed) == sample


def test_every_layer_is_drawn_as_often_as_its_stratum_says():
    """10 of 40 layers, 2,000 times; a layer of a stratum of n of N comes n / N of the time."""
    skew, seen = np.arange(40.0)[::-1], np.zeros(40)
    for seed in range(2000):
        sample = draw(range(40), skew, 10, seed)
        seen[list(sample.layers)] += 1
    expected = np.concatenate([np.full(len(s.layers), len(s.run) / len(s.layers)) for s in sample.strata])
    assert np.abs(seen / 2000 - expected).max() < 0.05


def test_the_most_skewed_layer_of_a_recorded_trace_is_in(config):
    path, settings = config
    experiment = load(path, [*settings, "layers.sample=4", "batch=128", "steps=2", "policies=[base, ep]"])
    with TraceReader(Path(experiment.trace.path)) as reader:
        rows = np.concatenate([r.experts[r.num_prefill : r.num_prefill + 2] for r in reader.requests()])
    most = [np.bincount(rows[:, layer].ravel(), minlength=32).max() for layer in range(24)]
    drawn = [by_policy(run(replace(experiment, seed=seed)))["ep"]["layers_sampled"] for seed in range(5)]
    assert all(int(np.argmax(most)) in layers for layers in drawn)
    assert len({tuple(layers) for layers in drawn}) > 1


def test_every_figure_is_for_all_layers_and_has_its_interval(config, whole):
    """Where no copies are kept, a layer runs in a sample just as it does among all."""
    path, settings = config
    result = run(load(path, [*settings, "layers={sample: 8}"]))
    assert result.to_dict()["provenance"]["config"]["layers"] == {"sample": 8}
    rows = {ledger.policy: ledger.rows for ledger in whole.ledgers}
    for ledger in result.ledgers:
        own = by_policy(result)[ledger.policy]
        assert own["layers_run"] == 8 == len(own["layers_sampled"])
        assert {row.layer for row in ledger.rows} == set(own["layers_sampled"])
        assert own["layers_total"] == 24
        run_time = sum(row.time_s for row in ledger.rows if row.step > 0)
        assert 2.5 * run_time < own["decode_time_s"] < 3.2 * run_time
        assert own["throughput_tokens_per_s"] == pytest.approx(3 * 4096 / own["decode_time_s"])
        assert own["speedup"] == pytest.approx(by_policy(result)["base"]["decode_time_s"] / own["decode_time_s"])
        if ledger.policy in ("base", "ep", "allo"):
            assert ledger.rows == [row for row in rows[ledger.policy] if row.layer in own["layers_sampled"]]
        assert set(own) - WITHOUT == set(own["ci95"])
        for key, (low, high) in own["ci95"].items():
            assert 0 <= low <= own[key] <= high
    assert by_policy(result)["base"]["ci95"]["speedup"] == [1, 1]
    assert all("ci95" not in own for own in whole.to_dict()["runs"])


def test_no_fewer_than_all_layers_is_all_layers(config, whole):
    path, settings = config
    for count in (24, 25):
        assert run(load(path, [*settings, f"layers.sample={count}"])).to_dict()["runs"] == whole.to_dict()["runs"]


def test_sampled_layers_have_their_share_of_the_room_for_copies(config):
    """With all of it, nothing would be given up."""
    path, settings = config
    sampled = by_policy(run(load(path, [*settings, "layers.sample=8"])))["pred"]
    given_ = by_policy(run(load(path, [*settings, f"layers={sampled['layers_sampled']}"])))["pred"]
    assert given_["evictions"] == 0 < sampled["evictions"]
    assert sampled["hbm_peak_bytes"] <= 0.9 * 2.1e9


def test_synthetic_routing_is_sampled_by_its_parameters(config):
    path, _ = config
    experiment = load(path, ["layers.sample=4", "batch=64", "policies=[base, ep]"])
    share = [layer_shares(experiment.trace, experiment.model, 0, layer).max() for layer in range(24)]
    own = by_policy(run(experiment))["ep"]
    assert len(own["layers_sampled"]) == 4
    assert int(np.argmax(share)) in own["layers_sampled"]


def test_the_bias_of_the_busiest_links_utilization_is_taken_off(config):
    """The busiest of few layers' links is busier than that of many: the jackknife, written out here, is taken off."""
    path, settings = config
    result = run(load(path, [*settings, "layers.sample=8", "policies=[base]"]))
    own, ledger = by_policy(result)["base"], result.ledgers[0]
    layers = own["layers_sampled"]
    used = np.array([ledger.layer_links[layer] for layer in layers]) / result.wafer.link_bandwidth
    time = np.array([sum(row.time_s for row in ledger.decode if row.layer == layer) for layer in layers])
    sample = draw_layers(load(path, [*settings, "layers.sample=8"]), open_routing)[1]
    assert list(sample.layers) == layers

    def busiest(weights):
        return float((weights @ used).max() / (weights @ time))

    plain, bias = busiest(sample.weights), 0.0
    for stratum in sample.strata:
        drawn, size = len(stratum.run), len(stratum.layers)
        for left_out in stratum.run if drawn < size else ():
            fewer = sample.weights.copy()
            for layer in stratum.run:
                fewer[layers.index(layer)] = 0.0 if layer == left_out else size / (drawn - 1)
            bias += (1 - drawn / size) * (drawn - 1) / drawn * (busiest(fewer) - plain)
    assert bias > 0
    assert own["max_link_utilization"] == pytest.approx(plain - bias, rel=1e-9)


def test_the_papers_physics_can_be_sampled():
    configs = ROOT / "configs"
    settings = ["physics=paper", "layers.sample=4", "batch=16", "steps=1", "policies=[base, ep]"]
    own = by_policy(run(load(configs / "llama4_maverick.yaml", settings)))["base"]
    assert set(own) - WITHOUT == set(own["ci95"])
    assert own["hops"] >= 0


def test_the_table_shows_the_interval_and_says_what_is_estimated(config):
    path, settings = config
    result = run(load(path, [*settings, "layers.sample=8", "policies=[base, ep]"]))
    own, table = by_policy(result)["ep"], result.table()
    low, high = own["ci95"]["speedup"]
    lines = [line.split() for line in table.splitlines()]
    row = next(number for number, line in enumerate(lines) if line and line[0] == "ep")
    assert f"{own['speedup']:.2f}x" in lines[row]
    assert lines[row + 1][:2] == ["95%,", "layers"]
    assert f"[{low:.2f}, {high:.2f}]" in table.splitlines()[row + 1]
    assert f"8 of 24 MoE layers, sampled: {', '.join(map(str, own['layers_sampled']))}" in table
    assert "all figures are estimated for all 24 layers from 8" in table


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{sample: 3}", "layers.sample: 3 is not right; it should be greater than or equal to 4"),
        ("{sample: eight}", "layers.sample: 'eight' is not right; it should be a valid integer"),
        ("{smaple: 8}", "layers.smaple: is not a key here; did you mean 'sample'?"),
        ("8", "layers: 8 is not right; it should be 'all', a list of MoE layers, such as [3, 4] or 3-60"),
    ],
)
def test_what_is_no_sample_is_refused(config, value, said):
    path, _ = config
    with pytest.raises(ConfigError) as error:
        load(path, [f"layers={value}"])
    assert any(said in fault for fault in error.value.faults)
