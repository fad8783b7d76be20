"""Predictions beside measurements: figures, families, rows left out, choice of parameters and of the GPU."""

import json
import time

import numpy as np
import pytest
from kit import shared
from kit.kernels import TABLES, changed, save, without

from wss.errors import ConfigError, KernelError
from wss.hardware.kernels import DEVICES
from wss.hardware.kernels.attention import equal, gqa
from wss.hardware.kernels.collectives import COLLECTIVES
from wss.hardware.kernels.decode_attention import DECODE_ATTENTION, decode_attention_s
from wss.hardware.kernels.dense import DENSE, dense_gemm_s
from wss.hardware.kernels.exchange import EXCHANGES, Call, combine_s
from wss.hardware.kernels.moe_layer import MOE_LAYERS
from wss.hardware.kernels.prefill_attention import PREFILL_ATTENTION, prefill_attention_s
from wss.report.kernels.calls import CALLS, kinds_text, time_call
from wss.report.kernels.check import KINDS, check, kind_of
from wss.report.kernels.devices import chosen_device
from wss.report.kernels.figures import figures_of
from wss.report.kernels.kinds import Rule
from wss.report.kernels.text import check_text
from wss.traces.columns import open_table

GEMM, H100 = TABLES["gemm"], DEVICES["H100-SXM"]


def checked(tmp_path, table, gpu=None):
    return check(save(tmp_path / "k.parquet", table), gpu)


def repeated(table, times):
    return {name: column * times for name, column in table.items()}


def test_figures_of_four_errors():
    """+10%, -20%, 0 and +30%; p90 lies 0.7 of the way from the third to the fourth."""
    found = figures_of(np.array([1.1, 0.8, 1.0, 1.3]), np.ones(4))
    assert found == pytest.approx((4, 0.15, 0.2 + 0.7 * 0.1, 0.3, 0.05))
    assert figures_of(np.array([1.1, 0.5]), np.ones(2)).worst == pytest.approx(-0.5)


@pytest.mark.parametrize("kind", TABLES)
def test_every_kind_is_recognised_and_predicted(tmp_path, kind):
    found = checked(tmp_path, TABLES[kind])
    assert (found["table"], found["rows"]) == (kind, len(TABLES[kind]["time_us"]))
    for row, us in zip(found["each"], TABLES[kind]["time_us"], strict=True):
        assert row["measured_s"] == pytest.approx(us * 1e-6)
        assert 0.2 * us < 1e6 * row["predicted_s"] < 5 * us
        assert row["error"] == pytest.approx(row["predicted_s"] / row["measured_s"] - 1)
        assert row["parameters"]
    assert sum(family["rows"] for family in found["families"]) == found["counted"]
    json.dumps(found, allow_nan=False)


def test_the_prediction_is_that_of_the_model(tmp_path):
    found = checked(tmp_path, GEMM)
    expected = dense_gemm_s(DENSE["cublas_bf16"], DEVICES["H100-SXM"], 128, 2112, 7168)
    assert found["each"][0]["predicted_s"] == float(expected)


def test_a_family_has_the_figures_of_its_rows(tmp_path):
    table = changed(repeated(GEMM, 2), 3, time_us=20.0)
    found = checked(tmp_path, table)
    family = next(family for family in found["families"] if family["precision"] == "bfloat16")
    errors = [found["each"][i]["error"] for i in (0, 3)]
    assert (family["gpu"], family["framework"], family["rows"]) == ("H100-SXM", "trtllm", 2)
    assert family["mean"] == pytest.approx(np.abs(errors).mean())
    assert family["bias"] == pytest.approx(np.mean(errors))
    assert family["worst"] == max(errors, key=abs)
    assert family["parameters"] == "cublas_bf16"
    assert found["all"]["rows"] == 6


def test_rows_left_out_are_counted_by_reason_and_still_predicted(tmp_path):
    """The last row is both untuned and warm; its first reason counts."""
    found = checked(tmp_path, TABLES["moe_layer"])
    assert found["counted"] == 3
    (left_out,) = found["left_out"]
    assert left_out["rows"] == 2
    assert left_out["reason"].startswith("untuned: ")
    assert [bool(row["left_out"]) for row in found["each"]] == [False, False, False, True, True]
    assert found["each"][4]["predicted_s"] > 0


def test_experts_that_read_weights_faster_than_hbm_can_are_impossible(tmp_path):
    """Weights of 32 experts of 3 · 2048 · 768 bytes take 45.1 us at 3.35 TB/s."""
    for us, left_out in ((45.0, "impossible: "), (45.2, None)):
        found = checked(tmp_path, changed(TABLES["moe_deepep"], time_us=us))
        assert (found["each"][0]["left_out"] or "").startswith(left_out or "")
        assert bool(found["left_out"]) == bool(left_out)


def test_the_fastest_kernel_of_each_shape_is_judged_apart(tmp_path):
    one = {name: column[:1] for name, column in TABLES["moe_layer"].items()}
    table = changed(changed(repeated(one, 3), 1, framework="vllm", time_us=40.0), 2, framework="sglang", untuned=True)
    found = checked(tmp_path, table)
    (fastest,) = found["fastest"]
    assert (fastest["rows"], fastest["precision"]) == (1, "bfloat16")
    assert fastest["worst"] == found["each"][1]["error"]


def test_of_repeated_calls_the_fastest_counts(tmp_path):
    """The packs have collectives twice, with CUDA graphs and without."""
    one = {name: column[2:3] for name, column in TABLES["communication"].items()}
    found = checked(tmp_path, changed(repeated(one, 3), 1, time_us=35.0, notify_us=9.0))
    assert [bool(row["left_out"]) for row in found["each"]] == [True, False, True]
    assert found["left_out"][0]["reason"].startswith("repeated: ")


def test_sizes_that_do_not_apply_have_no_model(tmp_path):
    """-1 stands for what does not apply: a dispatch without tokens, a collective without bytes."""
    table = changed(changed(TABLES["communication"], 0, tokens=-1), 2, bytes=-1)
    found = checked(tmp_path, table)
    assert [row["predicted_s"] is None for row in found["each"]] == [True, False, True, False]
    assert {row["reason"] for row in found["left_out"]} == {
        "no model: library deepep_low_latency, op dispatch, of these sizes",
        "no model: library nccl, op all_reduce, of these sizes",
    }


def test_a_precision_without_parameters_is_left_out_and_named(tmp_path):
    found = checked(tmp_path, changed(GEMM, precision="int3"))
    assert found["left_out"] == [{"reason": "no model: precision int3, framework trtllm", "rows": 1}]
    assert found["each"][0]["predicted_s"] is None
    assert "no model: precision int3, framework trtllm" in check_text(found)


def test_a_gpu_without_units_for_the_precision_is_left_out_and_named(tmp_path):
    found = checked(tmp_path, {**GEMM, "gpu": ["A100-SXM"] * 3})
    assert found["counted"] == 1
    assert {row["reason"] for row in found["left_out"]} == {"no model: A100-SXM: no FLOP/s in 'fp8'; known: bf16"}


def test_an_unknown_framework_is_predicted_by_a_stand_in_with_a_note(tmp_path):
    found = checked(tmp_path, {**GEMM, "framework": ["tgi"] * 3, "kernel": ["x"] * 3, "version": ["9"] * 3})
    assert found["counted"] == 3
    assert "precision fp8, framework tgi: has no parameters of its own; predicted with cutlass_fp8" in found["notes"]
    assert checked(tmp_path, GEMM)["notes"] == []


def test_another_generation_is_predicted_by_its_peaks_with_a_note(tmp_path):
    found = checked(tmp_path, {**GEMM, "gpu": ["L40S"] * 3})
    assert found["counted"] == 3
    assert any("L40S: cublas_bf16 was fitted on Hopper and is scaled by peaks" in note for note in found["notes"])


@pytest.mark.parametrize(("gpu", "bf16"), [("H200-SXM", "cublas_bf16"), ("B200-SXM", "cublas_bf16_b200")])
def test_dense_products_have_parameters_of_their_framework_and_generation(tmp_path, gpu, bf16):
    """The rows are in BF16, in FP8 with one scale, and in FP8 with scales of blocks."""
    for framework, fp8 in (
        ("trtllm", ["trtllm_fp8", "trtllm_fp8_block"]),
        ("sglang", ["cutlass_fp8", "deepgemm"]),
        ("vllm", ["cutlass_fp8", "deepgemm"]),
    ):
        found = checked(tmp_path, {**GEMM, "framework": [framework] * 3, "gpu": [gpu] * 3})
        assert [row["parameters"] for row in found["each"]] == [bf16, *fp8]


@pytest.mark.parametrize(("gpu", "parameters"), [("H200-SXM", "moe_fp8_block"), ("GB200", "moe_fp8_block_b200")])
def test_moe_layers_have_parameters_of_their_generation(tmp_path, gpu, parameters):
    table = TABLES["moe_layer"]
    found = checked(tmp_path, {**table, "gpu": [gpu] * len(table["gpu"])})
    assert found["each"][2]["parameters"] == parameters


MIXED = {**GEMM, "gpu": ["H100-SXM", "h200_sxm", "MI300X"]}


def test_gpu_chooses_rows_by_any_spelling(tmp_path):
    found = checked(tmp_path, MIXED, "H200")
    assert (found["rows"], found["counted"], [row["row"] for row in found["each"]]) == (3, 1, [2])
    assert found["left_out"] == [{"reason": "of another GPU than --gpu", "rows": 2}]
    assert found["families"][0]["gpu"] == "H200-SXM"
    assert "--gpu" in found["device"] or "H200-SXM: the rows" in found["device"]


def test_an_unknown_gpu_is_a_fault_unless_its_rows_are_not_chosen(tmp_path):
    with pytest.raises(KernelError, match="column gpu: 'MI300X' is not a known GPU"):
        checked(tmp_path, MIXED)
    with pytest.raises(KernelError, match="has no rows of B200-SXM; its column gpu has"):
        checked(tmp_path, MIXED, "B200-SXM")
    with pytest.raises(KernelError, match="--gpu 'H300-SXM' is not a known GPU; did you mean"):
        checked(tmp_path, GEMM, "H300-SXM")


def test_without_a_column_gpu_the_option_says_whose_peaks_are_used(tmp_path):
    bare = without(GEMM, "gpu")
    with pytest.raises(KernelError, match="has no column gpu; give --gpu, such as"):
        checked(tmp_path, bare)
    found = checked(tmp_path, bare, "H200-SXM")
    assert "by --gpu: the file has no column gpu" in found["device"]
    expected = dense_gemm_s(DENSE["cublas_bf16"], DEVICES["H200-SXM"], 128, 2112, 7168)
    assert found["each"][0]["predicted_s"] == float(expected)


def test_the_table_fits_100_columns_and_shows_what_tells_families_apart(tmp_path):
    long = "a_kernel_of_a_very_long_name_that_goes_on_and_on_beyond_the_width_of_any_column_at_all"
    table = {**repeated(GEMM, 2), "kernel": [long] * 3 + [f"{long}_2"] * 3}
    shown = check_text(checked(tmp_path, table)).splitlines()
    assert max(map(len, shown[1:])) <= 100
    assert shown[4].split()[:3] == ["precision", "framework", "kernel"]
    assert "_2" in "".join(shown)
    assert "kernel" not in check_text(checked(tmp_path, GEMM)).splitlines()[4]


def test_a_rule_takes_patterns_of_words():
    assert Rule("a", {"precision": ("fp8", "x")}).fits({"precision": "FP8"}, "hopper")
    assert not Rule("a", {"precision": ("fp8",)}).fits({"precision": "fp8_block"}, "hopper")
    assert Rule("a", {"precision": ("*fp8*",)}).fits({"precision": "my_fp8_2"}, "hopper")
    assert not Rule("a", {}, generation="blackwell").fits({}, "hopper")


def test_every_rule_names_parameters_that_exist():
    """Each kind's models find the parameters of each of its rules."""
    sets = {"gemm": DENSE, "attention": {**DECODE_ATTENTION, **PREFILL_ATTENTION}, "moe_layer": MOE_LAYERS}
    sets |= {"moe_deepep": MOE_LAYERS, "communication": {**EXCHANGES, **COLLECTIVES}}
    for kind in KINDS:
        assert kind.rules
        assert {rule.parameters for rule in kind.rules} <= {*sets[kind.name]}


@pytest.mark.parametrize("kind", TABLES)
def test_what_a_table_misses_is_named_by_its_kind(tmp_path, kind):
    table = without(TABLES[kind], "time_us")
    path = save(tmp_path / "k.parquet", table)
    with pytest.raises(KernelError, match="has no column time_us; a table of") as error:
        kind_of(path, open_table(path, ()))
    assert kind.removesuffix("_deepep").removesuffix("_layer") in str(error.value)


@pytest.mark.parametrize("kind", TABLES)
def test_the_packs_are_predicted_but_for_marked_rows(kind):
    found = check(shared("reference", "kernels", f"{kind}.parquet"))
    reasons = [row["reason"] for row in found["left_out"]]
    unknown = [reason for reason in reasons if reason.startswith("no model")]
    assert all("heads gqa" in reason and "framework trtllm" in reason for reason in unknown)  # groups of over 32
    assert found["all"]["mean"] < 0.15
    assert found["notes"] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", TABLES)
def test_10000_rows_take_less_than_50_ms(kind, tmp_path):
    """The models alone, the best of several times: other processes run beside this one."""
    from wss.report.kernels.predictions import predict  # noqa: PLC0415
    from wss.traces.columns import columns_of  # noqa: PLC0415

    path = save(tmp_path / "k.parquet", repeated(TABLES[kind], 10_000 // len(TABLES[kind]["time_us"])))
    own = next(k for k in KINDS if k.name == kind)
    columns = own.derived(columns_of(path, open_table(path, own.layout.texts), own.layout))
    best = np.inf
    for _ in range(7):
        start = time.perf_counter()
        predict(own, columns)
        best = min(best, time.perf_counter() - start)
    assert best < 0.05


CALL_WORDS = {
    "dense": "128 2112 7168",
    "experts": "4096 7168 128 64 3x32 0",
    "moe_layer": "7168 2048 256 8x32 16 0",
    **dict.fromkeys(("decode_attention", "prefill_attention"), "16 2048 32 8 128"),
    **dict.fromkeys(("decode_mla", "prefill_mla"), "16 2048 16"),
    "elementwise": "3 1000000",
    "dispatch": "128 7168 8 256 64",
    "combine": "128 7168 8 256 64",
    **dict.fromkeys(("all_reduce", "all_gather", "reduce_scatter", "all_to_all"), "1048576 8"),
}


@pytest.mark.parametrize("kind", CALLS)
def test_every_kind_of_call_has_a_time_with_every_set(kind):
    device = chosen_device("H100-SXM", None)
    for parameters in CALLS[kind].sets:
        found = time_call(kind, CALL_WORDS[kind].split(), device, parameters)
        assert 1e-6 < found["seconds"] < 1e-2
        assert (found["parameters"], found["device"]) == (parameters, "H100-SXM")
        json.dumps(found, allow_nan=False)
    assert time_call(kind, CALL_WORDS[kind].split(), device, None)["parameters"] == CALLS[kind].default
    assert f"{kind} {' '.join(CALLS[kind].sizes)}" in kinds_text()


def test_a_wafers_die_is_a_device():
    dojo, enhanced = (chosen_device(None, wafer) for wafer in ("dojo", "dojo_enhanced"))
    slow, fast = (time_call("dense", ["4096", "7168", "7168"], device, None)["seconds"] for device in (dojo, enhanced))
    assert fast < slow / 2


BAD_CALLS = {
    "a size missing": (("dense", ["1", "2"]), "dense: give M N K; 2 sizes are given"),
    "a size too many": (("dense", ["1", "2", "3", "4"]), "dense: give M N K; 4 sizes are given"),
    "no size": (("dense", ["1", "2", "x"]), "dense: give M N K; K 'x' is not a whole number, 1 to 1e+09"),
    "a size of zero": (("dense", ["0", "2", "3"]), "M '0' is not a whole number"),
    "a huge size": (("dense", ["1", "9" * 30, "3"]), "is not a whole number"),
    "no load": (("experts", ["1", "2"]), "experts: give N K LOAD...; 2 sizes are given"),
    "a load that is none": (("experts", ["1", "2", "3x"]), "LOAD... '' is not a whole number, 0 to 1e+09"),
    "too many loads": (("experts", ["1", "2", "99999x1", "9x1"]), "there are more than 100000 experts"),
    "more GPUs than experts' copies": (("dispatch", ["1", "2", "9", "8", "8"]), "top_k must be at most experts"),
    "too many GPUs": (("all_reduce", ["1", "99"]), "gpus must be 1 to 8"),
    "an unknown kind": (("dens", []), "'dens' is not a kind of kernel; did you mean 'dense'?"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_a_bad_call_is_named(case):
    (kind, words), expected = BAD_CALLS[case]
    with pytest.raises(ConfigError) as error:
        time_call(kind, words, DEVICES["H100-SXM"], None)
    (fault,) = error.value.faults
    assert expected in fault


def test_unknown_parameters_gpu_and_wafer_are_named():
    with pytest.raises(ConfigError, match="--set deepgem: dense has no such parameters; did you mean 'deepgemm'"):
        time_call("dense", ["1", "2", "3"], DEVICES["H100-SXM"], "deepgem")
    with pytest.raises(KernelError, match="--wafer 'dojoo' is not a known wafer; did you mean 'dojo'"):
        chosen_device(None, "dojoo")
    with pytest.raises(KernelError, match="--gpu and --wafer: are both given"):
        chosen_device("H100", "dojo")


@pytest.mark.parametrize("kind", sorted(TABLES))
def test_a_flag_leaves_a_row_out_of_every_kind_of_table(tmp_path, kind):
    rows = len(TABLES[kind]["time_us"])
    before, table = checked(tmp_path, TABLES[kind]), TABLES[kind] | {"impossible": [True] + [False] * (rows - 1)}
    found = checked(tmp_path, table)
    assert found["counted"] == before["counted"] - 1
    assert found["each"][0]["left_out"].startswith("impossible")


@pytest.mark.parametrize(
    "loads",
    [
        {"token_experts": 16 * 8 * 2.0},
        {"max_tokens": 40.0},
        {"active_experts": 34.0},
        {"max_tokens": 0.5},
    ],
)
def test_loads_that_contradict_one_another_have_no_model(tmp_path, loads):
    """The first row has 32 token-experts of 16 tokens with 8 experts each, one on each of 32 experts."""
    found = checked(tmp_path, changed(TABLES["moe_layer"], **loads))
    assert found["each"][0]["left_out"].startswith("no model")
    assert found["each"][0]["predicted_s"] is None
    assert found["each"][1]["left_out"] is None


@pytest.mark.parametrize("size", [{"gpus": 12}, {"top_k": 10**7, "experts": 10**9}, {"top_k": 300}])
def test_an_exchange_that_no_model_is_for_is_left_out(tmp_path, size):
    """More GPUs than a node fill whole nodes; the experts of a token are counted one by one."""
    found = checked(tmp_path, changed(TABLES["communication"], **size))
    assert found["each"][0]["left_out"].startswith("no model")
    words = {"gpus": 8, "top_k": 8, "experts": 256} | size
    with pytest.raises(ConfigError, match=r"^exchange: (gpus|top_k) must be"):
        time_call("dispatch", ["128", "7168", *(str(words[name]) for name in ("top_k", "experts", "gpus"))], H100, None)


def test_words_of_software_differ_by_more_than_case(tmp_path):
    table = repeated(GEMM, 2)
    upper = changed(table, 3, framework="TRTLLM", precision="BFLOAT16")
    assert checked(tmp_path, upper)["families"] == checked(tmp_path, table)["families"]


def test_strange_words_and_errors_keep_the_columns_of_the_text_apart(tmp_path):
    text = check_text(checked(tmp_path, changed(GEMM, framework="a\nb\x1b[1m", time_us=1e-4)))
    assert "\x1b" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("bfloat16")]
    assert len(line.split("%")) == 5
    assert all(part[:1] in (" ", "") for part in line.split("%")[1:])


def test_an_empty_gpu_is_refused():
    with pytest.raises(KernelError, match="--gpu '' is not a known GPU"):
        chosen_device("", None)


@pytest.mark.parametrize("gpu", ["H100-SXM", "B200-SXM"])
@pytest.mark.parametrize(
    ("kind", "table", "row"),
    [("dense", "gemm", 0), ("moe_layer", "moe_layer", 2), ("dispatch", "communication", 0)],
)
def test_one_call_has_the_parameters_of_a_row_of_a_table(tmp_path, kind, table, row, gpu):
    found = checked(tmp_path, TABLES[table] | {"gpu": [gpu] * len(TABLES[table]["time_us"])})
    called = time_call(kind, CALL_WORDS[kind].split(), DEVICES[gpu], None)
    assert called["parameters"] == found["each"][row]["parameters"]
    assert bool(called["notes"]) == (gpu == "B200-SXM")
    assert set(called["notes"]) <= set(found["notes"])


def test_parameters_of_another_generation_have_a_note():
    (note,) = time_call("dense", ["128", "2112", "7168"], H100, "cublas_bf16_b200")["notes"]
    assert note == "H100-SXM: cublas_bf16_b200 is meant for Blackwell and is scaled by peaks; not validated on Hopper"
    (note,) = time_call("dense", ["128", "2112", "7168"], chosen_device(None, "dojo"), None)["notes"]
    assert note.endswith("not validated on a wafer")


def test_each_row_of_attention_and_exchange_is_that_of_its_model(tmp_path):
    each = checked(tmp_path, TABLES["attention"])["each"]
    sequences = equal(32, 1, 8191)
    decode = decode_attention_s(DECODE_ATTENTION["fa3"], H100, sequences, gqa(32, 8, 128), replayed=True)
    prefill = prefill_attention_s(PREFILL_ATTENTION["fa3"], H100, equal(32, 8192), gqa(32, 8, 128))
    assert [each[0]["predicted_s"], each[2]["predicted_s"]] == pytest.approx([float(decode), float(prefill)], rel=1e-12)
    each = checked(tmp_path, TABLES["communication"])["each"]
    call = Call(tokens=4096, hidden=7168, top_k=8, experts=256, gpus=8, sms=20)
    expected = float(combine_s(EXCHANGES["deepep_normal"], H100, call))
    assert each[1]["predicted_s"] == pytest.approx(expected, rel=1e-12)


def test_each_call_is_that_of_its_model():
    """Decode attends to TOKENS, the new one included, and reads its cache from HBM."""
    decode = decode_attention_s(DECODE_ATTENTION["fa3"], H100, equal(16, 1, 2047), gqa(32, 8, 128))
    prefill = prefill_attention_s(PREFILL_ATTENTION["fa3"], H100, equal(16, 2048), gqa(32, 8, 128))
    for kind, expected in (("decode_attention", decode), ("prefill_attention", prefill)):
        found = time_call(kind, CALL_WORDS[kind].split(), H100, None)["seconds"]
        assert found == pytest.approx(float(expected), rel=1e-12)
