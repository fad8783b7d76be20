"""Synthetic routing: each parameter does what it says, and the trace is the same however much of it is made."""

import hashlib
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit import in_plain_python, shared

from wss.errors import ConfigError, TraceError
from wss.models import MODELS, ModelShape
from wss.traces import RequestRouting
from wss.traces.analysis.counts import count_trace
from wss.traces.analysis.fit import fit_to_counts, measure
from wss.traces.analysis.statistics import statistics
from wss.traces.load_dumps import Loads
from wss.traces.load_parquet import write_loads
from wss.traces.loads import read_loads
from wss.traces.reader import TraceReader, write_trace
from wss.traces.schema import fault_of
from wss.traces.synthetic import sampler as routing
from wss.traces.synthetic import spec as module
from wss.traces.synthetic import tables as popularity
from wss.traces.synthetic.spec import SYNTHS, SynthSpec, draws_of, synth_meta, synthesise
from wss.traces.synthetic.tables import KNOTS, exp2

SHAPE = ModelShape(
    name="org/tiny",
    num_layers=9,
    moe_layers=(1, 3, 4, 8),
    num_experts=16,
    top_k=2,
    hidden_size=8,
    moe_intermediate_size=8,
)
ONE = replace(SHAPE, top_k=1)
# Neither skewed nor sticky nor split: a background on which one parameter at a time is seen.
FLAT = SynthSpec(
    skew=0.0,
    skew_spread=0.0,
    clusters=1,
    focus=0.0,
    carry=0.0,
    sticky_first=0.0,
    sticky_last=0.0,
    agreement=1.0,
    subjects=1,
    subject_share=0.0,
    requests=300,
    prompt_min=20,
    prompt_max=20,
    decode_tokens=20,
)


def made(spec: SynthSpec, shape: ModelShape = SHAPE, seed: int = 0) -> list[RequestRouting]:
    return list(synthesise(spec, shape, seed))


def counts(requests: Iterable[RequestRouting], shape: ModelShape, phase: str = "all") -> np.ndarray:
    """Tokens of each expert, [layers, experts]."""
    total = np.zeros((len(shape.moe_layers), shape.num_experts), np.int64)
    for r in requests:
        rows = {"all": r.experts, "prefill": r.experts[: r.num_prefill], "decode": r.experts[r.num_prefill :]}[phase]
        for layer in range(len(total)):
            total[layer] += np.bincount(rows[:, layer].ravel(), minlength=shape.num_experts)
    return total


def peaks(spec: SynthSpec, shape: ModelShape = ONE, seed: int = 0) -> np.ndarray:
    """Largest count over mean, [layers]."""
    found = counts(made(spec, shape, seed), shape)
    return found.max(axis=1) / found.mean(axis=1)


def kept(spec: SynthSpec, shape: ModelShape) -> np.ndarray:
    """Share of a token's experts that the next token of the request has too, [layers]."""
    shares = []
    for r in made(spec, shape):
        before, after = r.experts[:-1, :, :, None], r.experts[1:, :, None, :]
        shares.append((before == after).any(axis=3).mean(axis=(0, 2)))
    return np.mean(shares, axis=0)


def likeness(left: np.ndarray, right: np.ndarray) -> float:
    """Mean rank correlation over layers."""
    ranks = [np.argsort(np.argsort(x, axis=1), axis=1) for x in (left, right)]
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(*ranks, strict=True)]))


# -- the same however much is made -------------------------------------------------------------------------------------

specs = st.builds(
    SynthSpec,
    skew=st.floats(0, 8),
    skew_spread=st.floats(0, 1),
    clusters=st.integers(1, 6),
    focus=st.floats(0, 8),
    groups=st.integers(1, 5),
    group_limit=st.integers(1, 5),
    carry=st.floats(0, 1),
    sticky_first=st.floats(0, 1),
    sticky_last=st.floats(0, 1),
    agreement=st.floats(0, 1),
    subjects=st.integers(1, 4),
    subject_share=st.floats(0, 1),
    requests=st.just(8),
    prompt_min=st.integers(1, 3),
    prompt_max=st.integers(3, 6),
    decode_tokens=st.integers(1, 6),
)
shapes = st.builds(
    lambda experts, k: replace(SHAPE, num_experts=experts, top_k=min(k, experts)),
    st.integers(1, 20),
    st.integers(1, 20),
)


@settings(deadline=None, max_examples=60)
@given(spec=specs, shape=shapes, seed=st.integers(0, 2**63 - 1), chunk=st.integers(1, 2000), data=st.data())
def test_less_is_the_beginning_of_more(spec, shape, seed, chunk, data):
    whole = made(spec, shape, seed)
    count, decode = data.draw(st.integers(1, 8)), data.draw(st.integers(1, spec.decode_tokens))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        part = list(synthesise(spec, shape, seed, requests=count, decode_tokens=decode))
    assert [r.request for r in part] == list(range(count))
    for short, long in zip(part, whole, strict=False):
        tokens = long.num_prefill + decode
        assert short.num_prefill == long.num_prefill
        assert np.array_equal(short.position, long.position[:tokens])
        assert np.array_equal(short.experts, long.experts[:tokens])


@settings(deadline=None, max_examples=60)
@given(spec=specs, shape=shapes, seed=st.integers(0, 2**32))
def test_every_request_is_valid(spec, shape, seed):
    meta = synth_meta(spec, shape, seed)
    for r in synthesise(spec, shape, seed):
        assert fault_of(r, meta) is None
        assert r.experts.dtype == np.int16
        assert r.position.dtype == np.int32
        assert spec.prompt_min <= r.num_prefill <= spec.prompt_max
        assert r.num_decode == spec.decode_tokens


@pytest.mark.parametrize(
    "spec", [SynthSpec(requests=3, decode_tokens=4), SynthSpec(skew=8.0, requests=2, decode_tokens=2, carry=0.9)]
)
def test_the_compiled_loop_is_the_plain_one(spec):
    """Bit-equal."""
    shape = replace(SHAPE, top_k=6)
    compiled = made(spec, shape)
    with np.errstate(over="ignore"):
        plain = in_plain_python(made, spec, shape)
    assert all(np.array_equal(a.experts, b.experts) for a, b in zip(compiled, plain, strict=True))


def test_known_bits():
    """Made on x86-64 with numpy 2.4 and numba 0.68 by this test; any other machine must give the same."""
    digest = hashlib.sha256()
    for name in sorted(MODELS):
        for r in synthesise(SYNTHS[name], MODELS[name], 1, requests=3, decode_tokens=2):
            digest.update(r.experts.astype("<i2").tobytes())
    assert digest.hexdigest()[:16] == "bc02558d63df1b61"


def test_seeds_differ():
    assert not np.array_equal(made(FLAT, seed=0)[0].experts, made(FLAT, seed=1)[0].experts)


def test_requests_and_layers_differ():
    a, b = made(FLAT)[:2]
    assert not np.array_equal(a.experts, b.experts)
    assert not np.array_equal(a.experts[:, 0], a.experts[:, 1])


# -- each parameter does what it says ----------------------------------------------------------------------------------


def test_without_skew_all_experts_are_alike():
    """By the binomial law a count lies within 5 deviations of its mean."""
    found = counts(made(FLAT, ONE), ONE)
    mean = found.sum(axis=1)[0] / 16
    assert abs(found - mean).max() < 5 * np.sqrt(mean)


def test_popularity_is_the_curve_whatever_the_clusters():
    """Sixteen experts, ranks at 1/32, 3/32, ...: a straight line from 2^2 at the first knot to 2^-2 at the last."""
    line = np.interp(KNOTS, (KNOTS[0], KNOTS[-1]), (2.0, -2.0))
    rank = (np.arange(16) + 0.5) / 16
    expected = 2 ** np.interp(rank, KNOTS, line)
    for shape, clusters in ((ONE, 1), (SHAPE, 1), (SHAPE, 8)):
        spec = replace(FLAT, curve=tuple(line), skew=1.0, clusters=clusters, focus=2.0 * (clusters > 1))
        found = np.sort(counts(made(spec, shape), shape), axis=1)[:, ::-1].mean(axis=0)
        assert found / found.sum() == pytest.approx(expected / expected.sum(), rel=0.1)


def test_skew_raises_the_peak():
    low, middle, high = (peaks(replace(FLAT, skew=skew)).mean() for skew in (0.3, 0.8, 1.5))
    assert low < middle < high


def test_spread_makes_layers_differ():
    even = peaks(replace(FLAT, skew=1.0))
    uneven = peaks(replace(FLAT, skew=1.0, skew_spread=0.8))
    assert np.ptp(even) < 0.6
    assert np.ptp(uneven) > 1.5


def figures(**changes):
    spec = replace(FLAT, clusters=8, skew=0.5, requests=200, **changes)
    shape = replace(SHAPE, num_experts=64, top_k=4)
    return statistics(count_trace(synth_meta(spec, shape, 0), synthesise(spec, shape, 0), {}))["pooled"]


def test_focus_makes_experts_meet_and_carry_makes_layers_follow():
    loose, tight, carried = figures(focus=0.0), figures(focus=4.0), figures(focus=4.0, carry=0.9)
    assert tight["pairs_top_10_percent_hold"] > loose["pairs_top_10_percent_hold"] + 0.2
    assert carried["layer_weighted"] > tight["layer_weighted"] + 0.1
    assert carried["token_weighted"] == pytest.approx(tight["token_weighted"], abs=0.02)


def test_a_token_keeps_to_its_groups_of_experts():
    shape = replace(SHAPE, num_experts=32, top_k=4)
    spec = replace(FLAT, clusters=20, groups=8, group_limit=2, focus=1.0)
    groups = np.concatenate([r.experts for r in made(spec, shape)]) // 4
    assert max(len(set(token)) for token in groups.reshape(-1, 4).tolist()) == 2
    assert len(np.unique(groups)) == 8


def test_stickiness_is_linear_in_depth():
    """With one of 16 equally popular experts: kept with s, or drawn again with (1 - s) / 16."""
    sticky = np.linspace(0.1, 0.7, 4)
    found = kept(replace(FLAT, sticky_first=0.1, sticky_last=0.7), ONE)
    assert found == pytest.approx(sticky + (1 - sticky) / 16, abs=0.02)


def test_stickiness_keeps_the_popularity():
    loose, sticky = (peaks(replace(FLAT, skew=1.0, sticky_first=s, sticky_last=s)).mean() for s in (0.0, 0.6))
    assert sticky == pytest.approx(loose, rel=0.15)


@pytest.mark.parametrize("shape", [ONE, SHAPE])
def test_all_kept_or_none(shape):
    assert (kept(replace(FLAT, sticky_first=1.0, sticky_last=1.0), shape) == 1.0).all()


def test_agreement_ties_prefill_to_decode():
    def agreement(value: float) -> float:
        requests = made(replace(FLAT, skew=1.0, clusters=12, focus=4.0, agreement=value))
        return likeness(counts(requests, SHAPE, "prefill"), counts(requests, SHAPE, "decode"))

    none, half, full = map(agreement, (0.0, 0.6, 1.0))
    assert none + 0.05 < half < full
    assert full > 0.9


def test_subjects_differ_by_their_share():
    def likeness_of_requests(share: float) -> float:
        spec = replace(
            FLAT, skew=1.0, clusters=12, focus=4.0, subjects=5, subject_share=share, requests=40, decode_tokens=200
        )
        each = [counts([r], SHAPE) for r in made(spec)]
        return float(np.mean([likeness(each[i], each[i + 1]) for i in range(0, 40, 2)]))

    same, mixed, apart = map(likeness_of_requests, (0.0, 0.5, 1.0))
    assert same > mixed + 0.02
    assert mixed > apart + 0.02


def test_from_a_drift_on_a_share_of_requests_takes_to_other_experts():
    """Nothing before it changes, nor requests that stay; those that drift are as skewed as before, to other experts."""
    spec = replace(FLAT, skew=1.5)
    stay = made(spec)
    for share, least, most in ((0.0, 0, 0), (0.5, 120, 180), (1.0, 300, 300)):
        drifted = made(replace(spec, drift_at=5, drift_share=share))
        gone = [not np.array_equal(a.experts, b.experts) for a, b in zip(stay, drifted, strict=True)]
        assert least <= sum(gone) <= most
        for a, b in zip(stay, drifted, strict=True):
            assert np.array_equal(a.experts[:24], b.experts[:24])  # 20 of prefill, 4 of decode
    later = [replace(r, num_prefill=24) for r in drifted]
    before, after = counts(later, SHAPE, "prefill"), counts(later, SHAPE, "decode")
    assert abs(likeness(before, after)) < 0.4
    assert likeness(counts([replace(r, num_prefill=24) for r in stay], SHAPE, "decode"), before) > 0.9
    np.testing.assert_allclose(np.sort(after / after.sum()), np.sort(before / before.sum()), atol=0.02)


def test_a_trace_that_never_drifts_says_nothing_of_it():
    assert "drift" not in synth_meta(FLAT, SHAPE, 0).note
    assert "drift_at=5, drift_share=1.0" in synth_meta(replace(FLAT, drift_at=5), SHAPE, 0).note


def loads_of(path, dumps: dict[str, np.ndarray], shape: ModelShape = SHAPE) -> str:
    """Write a table of loads; each dump is [layers, experts]."""
    write_loads(path, [Loads(name=n, phase="", layers=shape.moe_layers, counts=c, top_k=2) for n, c in dumps.items()])
    return str(path)


def test_recorded_popularity_is_kept_in_prefill_and_from_a_drift_on(tmp_path):
    """Each expert is taken as often as the tables say, whatever clusters like; layer 1 of the second is of one pair."""
    first = np.random.default_rng(0).integers(20, 200, (4, 16)).astype(float)
    second = first[:, ::-1].copy()
    second[1] = [500, 500, *[0] * 14]
    path = loads_of(tmp_path / "loads.parquet", {"a": first, "b": second})
    spec = replace(FLAT, clusters=4, focus=2.0, carry=0.5, loads=path, workload="a", drift_to="b", drift_at=1)
    requests = made(spec)
    for phase, table in (("prefill", first), ("decode", second)):
        found = counts(requests, SHAPE, phase)
        np.testing.assert_allclose(found / found.sum(axis=1)[:, None], table / table.sum(axis=1)[:, None], atol=0.012)
    steady = made(replace(spec, drift_to="", drift_at=0))
    np.testing.assert_allclose(
        counts(steady, SHAPE) / counts(steady, SHAPE)[0].sum(), first / first.sum(axis=1)[:, None], atol=0.012
    )
    assert f"loads={path}, workload=a, drift_to=b" in synth_meta(spec, SHAPE, 0).note
    assert "loads" not in synth_meta(FLAT, SHAPE, 0).note


def test_clusters_whose_groups_have_no_recorded_token_go_where_there_are_some(tmp_path):
    """Of eight groups of two experts the first two have all tokens, and each cluster may go to one group."""
    load = np.zeros((4, 16))
    load[:, :4] = 100
    path = loads_of(tmp_path / "loads.parquet", {"a": load})
    found = counts(made(replace(FLAT, clusters=8, groups=8, group_limit=1, loads=path, workload="a")), SHAPE)
    assert (found[:, :4] > 0).all()
    assert not found[:, 4:].any()


def test_recorded_popularity_that_does_not_fit(tmp_path):
    path = loads_of(tmp_path / "loads.parquet", {"a": np.ones((4, 16))})
    with pytest.raises(TraceError, match="has no dump 'aa'; did you mean 'a'"):
        made(replace(FLAT, loads=path, workload="aa"))
    with pytest.raises(TraceError, match=r"loads.parquet: a: has loads of 16 experts a layer, the model has 256"):
        made(replace(FLAT, loads=path, workload="a"), MODELS["deepseek_v3"])
    few = loads_of(tmp_path / "few.parquet", {"a": np.eye(4, 16)})
    with pytest.raises(TraceError, match=r"few.parquet: a: layer \d+ has tokens on fewer than 2 experts"):
        made(replace(FLAT, loads=few, workload="a"))
    pq.write_table(pa.table({"layer": [1]}), tmp_path / "other.parquet")
    with pytest.raises(TraceError, match="is not a table of loads, as it has no dump, logical_count, phase; give"):
        made(replace(FLAT, loads=str(tmp_path / "other.parquet"), workload="a"))
    with pytest.raises(TraceError, match=r"nope.parquet: is no file; give a file"):
        made(replace(FLAT, loads="nope.parquet", workload="a"))
    with pytest.raises(ValueError, match="loads and workload go together"):
        replace(FLAT, loads=path)
    for odd in ({"drift_at": 3}, {"drift_to": "a"}):
        with pytest.raises(ValueError, match="recorded loads drift to other ones"):
            replace(FLAT, loads=path, workload="a", **odd)
    with pytest.raises(ValueError, match="recorded loads drift to other ones"):
        replace(FLAT, drift_at=3, drift_to="a")


def test_prompts_are_spread_evenly():
    spec = replace(FLAT, prompt_min=3, prompt_max=6, requests=2000, decode_tokens=1)
    found = np.bincount([r.num_prefill for r in made(spec)], minlength=7)
    assert found[:3].tolist() == [0, 0, 0]
    assert found[3:] == pytest.approx(500, abs=100)


TARGETS = {
    "deepseek_v3": {"token_coverage": 0.47, "layer_coverage": 0.50},
    "qwen3_235b": {"token_coverage": 0.62, "layer_coverage": 0.65},
    "llama4_maverick": {"token_coverage": 0.80, "layer_coverage": 0.77},
    "kimi_k2": {"token_coverage": 0.53, "layer_coverage": 0.56},
}


@cache
def counted(name):
    """The counts of 512 requests; other seeds in experiments/traces."""
    spec, shape = replace(SYNTHS[name], requests=512), MODELS[name]
    return count_trace(synth_meta(spec, shape, 0), synthesise(spec, shape, 0), {})


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_presets_are_as_the_paper_reports(name):
    found = statistics(counted(name))
    pooled = found["pooled"]
    for figure, target in TARGETS[name].items():
        assert pooled[figure] == pytest.approx(target, abs=0.03), figure
    assert pooled["spearman_frequency"] >= 0.7
    if name in ("deepseek_v3", "qwen3_235b"):
        assert 0.6 <= pooled["pairs_top_10_percent_hold"] <= 0.8
    if name == "deepseek_v3":
        assert 5.6 <= pooled["max_over_mean"] <= 8
        assert 0.94 <= pooled["entropy_share"] <= 0.96
    if name == "llama4_maverick":
        same = [row["same_adjacent"] for row in found["layers"]]
        assert pooled["max_over_mean_most"] > 16
        assert pooled["same_adjacent"] == pytest.approx(0.33, rel=0.1)
        assert np.polyfit(np.arange(len(same)), same, 1)[0] > 0


@pytest.mark.slow
def test_the_flat_preset_of_qwen3_is_balanced_on_eight_gpus():
    """Prefill foretells decode and pairs are as reported, and GPUs differ by little; coverage is out of reach."""
    spec, shape = replace(SYNTHS["qwen3_235b_flat"], requests=512), MODELS["qwen3_235b"]
    flat = count_trace(synth_meta(spec, shape, 0), synthesise(spec, shape, 0), {})
    pooled = statistics(flat)["pooled"]
    assert pooled["spearman_frequency"] >= 0.7
    assert 0.6 <= pooled["pairs_top_10_percent_hold"] <= 0.8
    assert pooled["token_coverage"] < 0.45
    most_over_least = {}
    for name, counts in (("flat", flat), ("steep", counted("qwen3_235b"))):
        gpus = counts.decode.freq.reshape(94, 8, 16).sum(axis=2)
        most_over_least[name] = (gpus.max(axis=1) / gpus.min(axis=1)).mean()
    assert most_over_least["flat"] < 1.6 < 2.5 < most_over_least["steep"]


@pytest.mark.slow
def test_deepseeks_popularity_is_the_recorded_one():
    """Mean over layers of the rank-frequency curve, within a tenth of the mean of the recorded loads."""
    dumps = read_loads(shared("traces", "deepseek-v3__sglang_ep_statistics.parquet"))
    real = np.concatenate([dump.counts / dump.counts.mean(axis=1, keepdims=True) for dump in dumps])
    freq = counted("deepseek_v3").decode.freq
    made_ = freq / freq.mean(axis=1, keepdims=True)
    ratio = np.sort(made_, axis=1).mean(axis=0) / np.sort(real, axis=1).mean(axis=0)
    assert ratio.min() > 0.9
    assert ratio.max() < 1.1


@pytest.mark.slow
def test_a_fit_finds_the_parameters_of_a_trace_back():
    """Figures of the fitted trace are those of the given one, which was made with parameters far from the start."""
    shape = replace(SHAPE, num_experts=64, top_k=4, moe_layers=(1, 2, 3, 4, 5, 6))
    spec = SynthSpec(skew=1.3, focus=4.0, carry=0.8, sticky_first=0.1, sticky_last=0.5, requests=200, decode_tokens=40)
    meta = synth_meta(spec, shape, 3)
    counted = count_trace(meta, synthesise(spec, shape, 3), {})
    found = fit_to_counts(counted, shape)
    given, again = (measure(s, shape, 5, 200, 6) for s in (spec, found))
    for figure in ("token_coverage", "layer_coverage", "pairs_top_10_percent_hold", "same_adjacent", "max_over_mean"):
        assert again[figure] == pytest.approx(given[figure], rel=0.1, abs=0.02), figure


# -- the parts ---------------------------------------------------------------------------------------------------------


@given(x=st.lists(st.floats(-60, 60), min_size=1, max_size=5))
def test_exp2(x):
    assert exp2(np.array(x)) == pytest.approx(2.0 ** np.array(x), rel=1e-8)


@given(shares=st.lists(st.floats(0, 1), min_size=4, max_size=60).filter(lambda s: sum(s) > 1e-3), k=st.integers(1, 4))
def test_parts_are_whole_and_none_is_more_than_one(shares, k):
    parts = popularity._in_parts(np.array(shares), k)
    assert parts.sum() == k * routing.WHOLE
    assert 0 <= parts.min() <= parts.max() <= routing.WHOLE


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(4, 30), st.integers(1, 4), st.integers(0, 1000))
def test_scaling_meets_rows_and_columns(clusters, experts, k, seed):
    rng_ = np.random.default_rng(seed)
    base, rows = rng_.random((clusters, experts)) + 0.1, rng_.random(clusters) + 0.1
    columns = 1.0 + rng_.random(experts)
    rows, columns = rows / rows.sum(), columns / columns.sum()
    popularity.scaled(base, rows, columns, k, 60, np.empty(len(columns)))
    assert base.sum(axis=1) == pytest.approx(rows, rel=1e-9)
    assert (base <= rows[:, None] / k * (1 + 1e-9)).all()
    if columns.max() < 0.9 / k:
        assert base.sum(axis=0) == pytest.approx(columns, rel=1e-2)


# -- metadata and errors -----------------------------------------------------------------------------------------------


def test_it_says_that_it_is_synthetic(tmp_path):
    spec = replace(FLAT, requests=5, skew=0.25)
    path = tmp_path / "t.parquet"
    write_trace(path, synth_meta(spec, SHAPE, 42), synthesise(spec, SHAPE, 42))
    with TraceReader(path) as reader:
        assert reader.meta.synthetic
        assert reader.meta.source == "synthetic: wss trace synth, seed 42"
        assert "skew=0.25, " in reader.meta.note
        assert "requests=5" in reader.meta.note
        assert (reader.meta.model, reader.meta.moe_layers) == (SHAPE.name, SHAPE.moe_layers)
        assert len(list(reader.requests())) == 5
    assert "requests=3" in synth_meta(spec, SHAPE, 42, 3).note


def test_a_range_upside_down():
    with pytest.raises(ValueError, match="prompt_min 30 exceeds prompt_max 24"):
        SynthSpec(prompt_min=30)


@pytest.mark.parametrize("sizes", [{"requests": 0}, {"decode_tokens": 0}, {"requests": -1}])
def test_nothing_asked_for_is_refused_at_once(sizes):
    with pytest.raises(ConfigError, match="at least 1"):
        synthesise(FLAT, SHAPE, 0, **sizes)


def test_presets_are_named_after_models():
    assert set(SYNTHS) == {*MODELS, "qwen3_235b_flat"}


def test_each_request_has_the_name_of_its_subject(tmp_path):
    spec = replace(FLAT, requests=30, subjects=12)
    path = tmp_path / "t.parquet"
    write_trace(path, synth_meta(spec, SHAPE, 4), synthesise(spec, SHAPE, 4))
    drawn = draws_of(spec, SHAPE, 4, 30).subject
    with TraceReader(path) as reader:
        assert reader.subjects() == {number: f"subject_{subject:02}" for number, subject in enumerate(drawn.tolist())}
        assert len(set(reader.subjects().values())) > 6
        assert {label.benchmark for label in reader.meta.requests} == {"synthetic"}
    longer = synth_meta(spec, SHAPE, 4, 50).requests
    assert longer[:30] == synth_meta(spec, SHAPE, 4).requests, "a shorter trace is the beginning of a longer one"
    assert not synth_meta(replace(spec, subjects=1), SHAPE, 4).requests


@pytest.mark.slow
def test_speed_and_memory():
    """4096 requests of DeepSeek-V3, about 20 tokens each: 38 million draws; 2 s where this was written."""
    shape = MODELS["deepseek_v3"]
    next(synthesise(SYNTHS["deepseek_v3"], shape, 0, requests=1, decode_tokens=4))  # compiles
    start = time.process_time()
    largest = max(r.experts.nbytes for r in synthesise(SYNTHS["deepseek_v3"], shape, 0, decode_tokens=4))
    assert time.process_time() - start < 12  # a wide margin: only a loop that is not compiled fails
    assert largest == (24 + 4) * 58 * 8 * 2


def test_tables_are_made_in_the_layers_that_are_run_alone():
    """Of four layers the second and the last, before and after the drift."""
    spec = replace(FLAT, skew=1.0, focus=2.0, clusters=3, drift_at=5)
    whole, part = (draws_of(spec, SHAPE, 4, 3, layers).tables for layers in (None, (1, 3)))
    for one, other in zip(whole[1:3] + whole[4:], part[1:3] + part[4:], strict=True):
        assert len(one) == len(other) == 8
        assert np.array_equal(one[1::2], other[1::2])
        assert one[::2].any()
        assert not other[::2].any()
