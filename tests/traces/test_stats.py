"""Statistics of traces: worked out by hand on a few tokens, and as measured elsewhere on real traces."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import shared, wss
from kit.trace_files import save_pt
from kit.traces import meta_of, request_of
from scipy.stats import spearmanr

from wss.report.heatmaps import WITHIN_LAYERS, shown
from wss.report.trace_plots import FIGURES, write_plots
from wss.report.trace_statistics import stats_text, trace_statistics
from wss.traces import write_trace
from wss.traces.analysis.counts import count_trace, spearman
from wss.traces.analysis.statistics import statistics, strengths
from wss.traces.analysis.top_experts import overlap
from wss.traces.schema import Label

LLAMA = "meta-llama__Llama-4-Maverick-17B-128E-Instruct__mmlu__{}.parquet"


def test_figures_worked_out_by_hand():
    """Layer 0 decodes 0 0 1 0 | 0 2 in two requests; layer 1 always takes 4. Five experts: the top 20% is one."""
    first = request_of(0, 1, [[[3], [4]], [[0], [4]], [[0], [4]], [[1], [4]], [[0], [4]]])
    second = request_of(1, 0, [[[0], [4]], [[2], [4]]])
    found = statistics(count_trace(meta_of(), [first, second], {}))
    row = found["layers"][0]
    # 0 is followed by 0, 1 and 2 once each; 1 by 0. The tie goes to one of them.
    assert row["token_coverage"] == pytest.approx(1 / 3)
    assert row["token_weighted"] == pytest.approx(2 / 4)
    assert row["token_popularity"] == pytest.approx(2 / 4)
    # chosen on the first: 0 -> 0 (lower of the tie); of the second's only pair 0 -> 2 none; the other way round none
    assert row["token_held_out"] == 0
    assert row["layer_coverage"] == row["layer_weighted"] == row["layer_held_out"] == 1
    assert row["same_adjacent"] == pytest.approx(1 / 4)
    assert row["same_if_independent"] == pytest.approx((4 / 6) ** 2 + 2 * (1 / 6) ** 2)
    assert row["max_over_mean"] == pytest.approx(5 * 4 / 6)
    assert row["entropy_bits"] == pytest.approx(-(4 / 6) * math.log2(4 / 6) - 2 / 6 * math.log2(1 / 6))
    assert row["top_5_overlap"] == 1
    assert row["distinct_experts_per_request"] == pytest.approx((3 + 2) / 2)
    assert row["reuse_distance_mean"] == pytest.approx((1 + 2) / 2)  # 0 after 1 and after 2 tokens
    assert found["layers"][1]["layer_coverage"] is None
    assert found["pooled"]["layer_coverage"] == 1


def test_pairs_worked_out_by_hand():
    """Four experts have six pairs, of which the top 10% is one: (0, 1) is three of the four co-activations."""
    rows = [[[0, 1]], [[1, 0]], [[2, 3]], [[0, 1]]]
    row = statistics(count_trace(meta_of(4, 2, (0,)), [request_of(0, 0, rows)], {}))["layers"][0]
    assert row["pairs_top_10_percent_hold"] == pytest.approx(3 / 4)
    assert row["pairs_if_independent"] == pytest.approx(9 / (9 + 1 + 4 * 3))
    # over the uniform chance 2/(4·3) of each pair; no pair is expected often enough to be held against independence
    assert row["pair_over_uniform_most"] == pytest.approx(3 / 4 * 6)
    assert row["pair_lift_most"] is None
    assert row["same_adjacent"] == pytest.approx(2 / 6)


def test_pairs_over_independence_worked_out_by_hand():
    """Uses 12, 12, 8, 8: of 20 meetings (0, 1) has 12, where 144 of 144 + 4 · 96 + 64 would be chance."""
    rows = [[[0, 1]]] * 12 + [[[2, 3]]] * 8
    row = statistics(count_trace(meta_of(4, 2, (0,)), [request_of(0, 0, rows)], {}))["layers"][0]
    # the others are expected 3.2 times each, or 2.2: too few to say
    assert row["pair_lift_most"] is None
    row = statistics(count_trace(meta_of(4, 2, (0,)), [request_of(0, 0, rows * 2)], {}))["layers"][0]
    assert row["pair_lift_most"] == pytest.approx(24 / (40 * 144 / 592))
    assert row["pair_over_uniform_most"] == pytest.approx(24 / 40 * 6)


def test_prefill_and_decode_are_compared_by_pairs_of_tokens_and_of_layers():
    """Prefill and decode follow each other alike from token to token, and differ from layer to layer."""
    same = [[[0], [1]], [[2], [3]], [[0], [1]], [[2], [3]]]
    other = [[[0], [4]], [[2], [0]], [[0], [4]], [[2], [0]]]
    found = statistics(count_trace(meta_of(), [request_of(0, 4, same + other)], {}))
    row = found["layers"][0]
    assert row["spearman_pairs"] == pytest.approx(1)
    # 25 pairs; prefill has (0, 1) and (2, 3) twice, decode (0, 4) and (2, 0): none in common
    assert row["spearman_layer_pairs"] == pytest.approx(-2 / 23)
    assert found["layers"][1]["spearman_layer_pairs"] is None, "no layer follows the last"
    assert found["pooled"]["layers_by_correlation"]["spearman_layer_pairs"] == {"strong": 0, "moderate": 0, "weak": 1}
    (text,) = [line for line in stats_text({"files": [{"file": "f", **found, "kind": "trace"}]}, False).splitlines()
               if "moderate" in line]  # fmt: skip
    assert text.endswith("adjacent tokens 1/0/1, adjacent layers 0/0/1")


def test_strengths_are_the_papers():
    assert strengths([0.7, 0.69, 0.4, -0.8, 0.39, math.nan]) == {"strong": 2, "moderate": 2, "weak": 1}


def test_rows_that_are_not_adjacent_do_not_follow():
    rows = [[[0], [0]], [[0], [0]], [[0], [0]]]
    counts = count_trace(meta_of(), [request_of(0, 0, rows, [0, 1, 3])], {})
    assert counts.decode.adjacent == counts.decode.token[:, 0].sum() == 1
    across = count_trace(meta_of(), [request_of(0, 1, rows)], {})
    assert across.decode.adjacent == 1, "prefill and decode are counted apart"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=40))
def test_spearman_is_scipys(pairs):
    x, y = np.array(pairs).T
    if len(set(x)) > 1 and len(set(y)) > 1:
        assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
    else:
        assert math.isnan(spearman(x, y))


def test_subjects_within_a_file_and_between_files(tmp_path):
    rows = [[[0], [1]], [[0], [1]]]
    other = [[[0], [3]], [[2], [3]]]
    counts = count_trace(meta_of(20), [request_of(0, 0, rows), request_of(1, 0, other)], {0: "x", 1: "y"})
    subjects = statistics(counts)["subjects"]
    assert (subjects["groups"], subjects["layer"]) == (2, 1), "the paper shows layer 7; 1 is the nearest"
    assert subjects["top_10"] == {"x": [1], "y": [3]}, "experts that are not used are in no top"
    assert subjects["in_every_top_10_of_the_layer"] == []
    text = stats_text({"files": [{"file": "f", "kind": "trace", **statistics(counts)}]}, per_layer=True)
    assert "in layer 1: none" in text
    assert "x    1\ny    3\n" in text
    paths = []
    for name, tokens in (("a", rows), ("b", other)):
        write_trace(tmp_path / name, meta_of(20), [request_of(0, 0, tokens)])
        paths.append(tmp_path / name)
    found, _ = trace_statistics(paths)
    # top-10 of 20 experts, unused ones by number: layer 0 has 0..9 either way
    assert found["between_files"]["in_every_top_10"] == pytest.approx(10)
    assert "between the 2 files" in stats_text(found, per_layer=True)


def test_the_top_10_of_eight_experts_are_eight():
    """All of them: two workloads of one model with fewer than ten experts agree wholly."""
    assert overlap({"x": np.ones((1, 8), np.int64), "y": np.ones((1, 8), np.int64)})["top_10_overlap"] == 1


def test_layers_that_the_model_has_stand_for_the_papers():
    assert shown((1, 3, 17, 43), WITHIN_LAYERS) == {0: [1], 1: [3], 2: [17], 3: [43]}
    assert shown((3, 4, 16, 18), WITHIN_LAYERS) == {0: [1, 3], 2: [17], 3: [43]}, "the lower of two as near; each once"


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("abstract_algebra", (0.925, 0.922, 0.73, 0.60, 0.65, 0.65, 32.8, 4.39, 0.331)),
        ("anatomy", (0.881, 0.855, 0.69, 0.62, 0.61, 0.64, 29.3, 4.92, 0.332)),
    ],
)
def test_real_llama4_is_as_measured_elsewhere(subject, expected):
    found, _ = trace_statistics([shared("traces", "parquet", LLAMA.format(subject))])
    pooled = found["files"][0]["pooled"]
    keys = ("token_coverage", "layer_coverage", "spearman_frequency", "top_5_overlap", "top_10_overlap",
            "top_20_overlap", "max_over_mean", "entropy_bits", "same_adjacent")  # fmt: skip
    digits = (0.0005, 0.0005, 0.005, 0.005, 0.005, 0.005, 0.05, 0.005, 0.0005)
    for key, value, half in zip(keys, expected, digits, strict=True):
        assert pooled[key] == pytest.approx(value, abs=half * 1.001), key


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (
            "deepseek-ai__DeepSeek-V2-Lite-Chat__puffin__prompts.parquet",
            (0.403, 0.409, 0.277, 0.493, 0.501, 0.276, 0.386, 0.518, 0.267, 0.099, 1.78, 2.61, 0.993, 0.360, 0.172),
        ),
        (
            "mistralai__Mixtral-8x7B-Instruct-v0.1__platform-natural.parquet",
            (0.430, 0.352, 0.365, 0.468, 0.362, 0.365, 0.412, 0.452, 0.362, 0.281, 1.63, 2.19, 0.970, 0.328, 0.209),
        ),
    ],
)
def test_other_real_traces_are_as_measured_elsewhere(file, expected):
    found, _ = trace_statistics([shared("traces", "parquet", file)])
    keys = ("token_coverage", "token_held_out", "token_popularity", "layer_coverage", "layer_held_out",
            "layer_popularity", "token_weighted", "layer_weighted", "same_adjacent", "same_if_independent",
            "max_over_mean", "max_over_mean_most", "entropy_share", "pairs_top_10_percent_hold",
            "pairs_if_independent")  # fmt: skip
    for key, value in zip(keys, expected, strict=True):
        half = 0.005 if value > 1 else 0.0005
        assert found["files"][0]["pooled"][key] == pytest.approx(value, abs=half * 1.01), key


def test_real_deepseek_v3_loads_are_as_measured_elsewhere():
    found, _ = trace_statistics([shared("traces", "deepseek-v3__sglang_ep_statistics.parquet")])
    dumps = {row["dump"]: row for row in found["files"][0]["dumps"]}
    assert len(dumps) == 12
    for name, tokens, mean, least, most, layer, entropy, top in (
        ("decode_in1000out1000", 18.4, 5.56, 2.8, 10.3, 30, 0.959, 0.440),
        ("decode_in2000out100", 3.0, 6.07, 2.6, 10.5, 49, 0.953, 0.456),
        ("prefill_in4096", 8.4, 8.12, 4.0, 13.4, 26, 0.929, 0.519),
    ):
        row = dumps[name]
        assert row["tokens"] / 1e6 == pytest.approx(tokens, abs=0.05)
        assert row["max_over_mean"] == pytest.approx(mean, abs=0.005)
        assert row["max_over_mean_least"] == pytest.approx(least, abs=0.05)
        assert (row["max_over_mean_most"], row["most_skewed_layer"]) == (pytest.approx(most, abs=0.05), layer)
        assert row["entropy_share"] == pytest.approx(entropy, abs=0.0005)
        assert row["top_20_percent_hold"] == pytest.approx(top, abs=0.0005)
    pairs = {row["workload"]: row for row in found["files"][0]["prefill_and_decode"]}
    assert pairs["in500out1500"]["spearman_mean"] == pytest.approx(0.637, abs=0.0005)
    assert pairs["in500out1500"]["layers_with_spearman_at_least_0.7"] == 19
    assert pairs["in1800out100"]["top_5_overlap"] == pytest.approx(0.67, abs=0.005)
    assert "prefill_in4096" in stats_text(found, per_layer=False)


def test_loads_as_json_and_what_is_wrong_with_them(tmp_path):
    path = tmp_path / "loads.json"
    path.write_text(json.dumps({"logical_count": [[0, 0, 0], [1, 2, 3], [5, 5, 5]]}))
    (row,) = trace_statistics([path])[0]["files"][0]["dumps"]
    assert [layer["layer"] for layer in row["layers"]] == [1, 2]
    assert row["layers"][0]["max_over_mean"] == pytest.approx(1.5)


def test_loads_of_sglangs_recorder_are_summed_over_steps(tmp_path):
    counts = np.zeros((3, 2, 4), np.int32)
    counts[:2, 1] = [1, 2, 3, 0], [1, 0, 1, 0]
    path = save_pt(tmp_path / "r.pt", {"rank": 0, "logical_count": counts})
    (row,) = trace_statistics([path])[0]["files"][0]["dumps"]
    assert [layer["layer"] for layer in row["layers"]] == [1]
    assert row["layers"][0]["hottest_share"] == pytest.approx(4 / 8)


BAD_LOADS = (
    '{"logical_count": [[1, 2], [3]]}',
    '{"logical_count": 3}',
    '{"logical_count": [[-1]]}',
    '{"logical_count": [[0]]}',
    '{"logical_count": [',
)


@pytest.mark.parametrize("text", BAD_LOADS)
def test_bad_loads_are_refused_in_one_line(tmp_path, text):
    path = tmp_path / "loads.json"
    path.write_text(text)
    done = wss("trace", "stats", path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "loads.json: " in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "magic"), [("svg", b"<?xml"), pytest.param("png", b"\x89PNG", marks=pytest.mark.slow)]
)
def test_pictures_are_written(tmp_path, kind, magic):
    pytest.importorskip("matplotlib")
    rows = np.random.default_rng(0).permuted(np.tile(np.arange(6), (40, 3, 1)), axis=2)[:, :, :2]
    path = tmp_path / "t.parquet"
    labels = (Label(0, "b", "x"), Label(1, "b", "y"))
    meta = replace(meta_of(6, 2, (3, 4, 31), subject="*"), requests=labels)
    write_trace(path, meta, [request_of(0, 15, rows), request_of(1, 15, rows)])
    assert wss("trace", "stats", path, "--plot", tmp_path / "p", "--format", kind).returncode == 0
    pictures = sorted((tmp_path / "p").glob(f"*.{kind}"))
    assert [picture.stem for picture in pictures] == [f"t_{figure}" for figure in sorted(FIGURES)]
    assert all(picture.read_bytes().startswith(magic) for picture in pictures)
    if kind != "svg":
        return
    texts = {picture.stem: picture.read_text() for picture in pictures}
    assert all("<text " in text for text in texts.values()), "text is text in an SVG, not outlines"
    assert all("mathdefault" not in text for text in texts.values()), "numbers, not mathematics"
    for figure, said in (
        ("fig4_layers", "layers 3 to 4"),
        ("fig4_layers", "layers 4 to 31 (nearest to 30)"),
        ("fig5_tokens", "layer 31 (nearest to 43)"),
        ("fig6_phases_pairs", "expert, next layer"),
        ("fig8b_subjects", "top-10 experts of 2 subjects, layer 4: 6 in every top 10"),
        ("fig9_pairs", "over uniform chance 2/(n(n-1))"),
        ("fig9_pairs", "over independence"),
    ):
        assert said in texts[f"t_{figure}"], figure
    assert all("decode: m, b, 2 subjects" in texts[f"t_{name}"] for name in ("fig4_layers", "fig8b_subjects"))


def test_a_trace_without_prefill_pairs_and_subjects_has_fewer_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    counts = count_trace(meta_of(), [request_of(0, 0, [[[0], [4]], [[1], [4]], [[0], [4]]])], {})
    written = [path.stem for path in write_plots(counts, tmp_path, "t", "svg")]
    assert written == ["t_fig4_layers", "t_fig5_tokens", "t_fig8_skew"]
