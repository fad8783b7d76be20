"""What an expert costs: two matrices or three, bits of a weight, and experts that cost nothing; layers in ranges."""

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from kit import placement_view, plan_of, wafer_of
from kit.runs import without_host

from wss.cli import cli
from wss.config import json_schema, load
from wss.engine.specs import AllToAllSpec
from wss.engine.token_counts import exact_unique_tokens, expected_unique_tokens
from wss.errors import ConfigError, TraceError
from wss.execution import run
from wss.hardware import GEMMS
from wss.models import MODELS, Attention
from wss.models.layers import layer_numbers
from wss.policies.placement.eplb import Eplb
from wss.records import Routed
from wss.traces import RequestRouting, TraceMeta, TraceReader, write_trace

SMALL = """\
model: {name: tiny, num_layers: 4, moe_layers: [1, 3], num_experts: 8, top_k: 4, hidden_size: 64,
  moe_intermediate_size: 32, expert_matrices: 3}
wafer: {preset: dojo, mesh: [2, 2]}
precision: fp8
trace: {synth: {requests: 64, decode_tokens: 2, prompt_min: 1, prompt_max: 1}}
batch: 64
steps: 1
gemm: ideal
policies: [ep]
baseline: ep
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    return path


def only(result):
    return result.to_dict()["runs"][0]


@pytest.mark.parametrize("matrices", [2, 3])
def test_an_expert_of_two_matrices_is_two_thirds(small, matrices):
    """Every expert of both layers is read once: 2 · 8 · matrices · 64 · 32 weights of a byte."""
    settings = [f"model.expert_matrices={matrices}", "wafer.die.llc.size=0 B"]
    result = run(load(small, settings))
    assert only(result)["local_read_bytes"] == 2 * 8 * matrices * 64 * 32
    tokens = sum(row.tokens for row in result.ledgers[0].decode)
    assert only(result)["compute_share"] * only(result)["decode_time_s"] == pytest.approx(
        2 * matrices * 64 * 32 * tokens / 4 / 1979e12
    )
    shape = load(small, settings).model
    assert shape.flop_per_token == 2 * matrices * 64 * 32
    assert shape.activation_bytes == 2 * (2 * 64 + (matrices - 1) * 32)


def test_gate_and_up_are_one_gemm_and_up_alone_is_half_as_wide():
    die, m, h800 = wafer_of().spec.die, np.array([640.0]), GEMMS["h800"]
    for matrices in (2, 3):
        up, down = (h800.compute_s(m, n, k, die, "fp16")[0] for n, k in (((matrices - 1) * 2048, 4096), (4096, 2048)))
        found = h800.seconds(m, np.array([0]), 4096, 2048, die, "fp16", matrices)[0]
        assert found == pytest.approx(2 * h800.launch_s + up + down, rel=1e-12)
        assert h800.least_seconds(640, 4096, 2048, die, "fp16", matrices) <= found
        assert GEMMS["ideal"].token_s(64, 32, die, "fp16", matrices) == 2 * matrices * 64 * 32 / 989e12


def test_a_model_that_does_not_say_is_noted_or_refused(small):
    unsaid = SMALL.replace(", expert_matrices: 3", "")
    small.write_text(unsaid)
    result = run(load(small))
    assert any("does not give expert_matrices: three per expert" in note for note in result.notes)
    assert "expert_matrices" not in result.to_dict()["provenance"]["config"]["model"]
    small.write_text(SMALL)
    assert not any("expert_matrices" in note for note in run(load(small)).notes)
    sizes = ["model.num_experts=128", "model.hidden_size=2688", "model.moe_intermediate_size=1856"]
    small.write_text(unsaid)
    with pytest.raises(ConfigError, match="expert_matrices is not given, and the experts of Nemotron 3 Nano"):
        load(small, sizes)
    assert load(small, [*sizes, "model.expert_matrices=2"]).model.matrices == 2


EXPERT = 3 * 64 * 32
BITS = {"fp16": 16, "bf16": 16, "fp8": 8, "fp4": 4, "mxfp4": 4.25, "nvfp4": 4.5, "int4": 4.5, "int4_g128": 4.125}


@pytest.mark.parametrize("weights", BITS)
def test_weights_are_read_in_their_bits_and_computed_at_the_stated_peak(small, weights):
    given = f"precision={{weights: {weights}, compute: bf16}}"
    found = only(run(load(small, [given, "wafer.die.llc.size=0 B"])))
    assert found["local_read_bytes"] == 2 * 8 * EXPERT * BITS[weights] / 8
    half = only(run(load(small, ["precision=fp16", "wafer.die.llc.size=0 B"])))
    assert found["compute_share"] * found["decode_time_s"] == pytest.approx(
        half["compute_share"] * half["decode_time_s"]
    )
    assert found["precision"] == f"{weights} weights, bf16 compute"


def test_bf16_is_fp16_by_another_name(small):
    one, other = (without_host(run(load(small, [f"precision={name}"])).to_dict()) for name in ("fp16", "bf16"))
    assert other["provenance"]["config"].pop("precision") == other["runs"][0].pop("precision") == "bf16"
    assert one["provenance"]["config"].pop("precision") == one["runs"][0].pop("precision") == "fp16"
    assert one == other


def test_activations_are_sent_and_buffered_in_their_bytes(small):
    """64 · 4 bytes of a token there, as many back; without a statement FP8 there and BF16 back."""
    stated = "precision={weights: fp8, compute: fp8, activations: fp8}"
    config = load(small, [stated, "dispatch=uniform"])
    assert (config.all_to_all.dispatch_bytes, config.all_to_all.combine_bytes) == (1.0, 1.0)
    assert config.plain()["dispatch"]["combine_bytes"] == 1.0
    assert load(small, ["dispatch=uniform"]).plain()["dispatch"] == {
        "dispatch_bytes": 1.0,
        "combine_bytes": 2.0,
        "once_per": "die",
    }
    assert config.model.buffer_bytes(config.precision) == 2 * 64 + 2 * 32
    usual, less = (only(run(load(small, [*more, "dispatch=uniform"]))) for more in ((), (stated,)))
    assert less["activation_bytes"] == pytest.approx(usual["activation_bytes"] * 2 / 3)
    own = load(small, [stated, "dispatch={combine_bytes: 2}"])
    assert own.all_to_all == AllToAllSpec(dispatch_bytes=1.0, combine_bytes=2.0)
    held = [run(load(small, more)).ledgers[0].decode[0].hbm_used_bytes for more in ((), (stated,))]
    assert held[0] > held[1]


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ("precision=mxfp4", "precision: 'mxfp4' is how weights are stored; give {weights: mxfp4, compute: bf16}"),
        ("precision={weights: mxfp4}", "precision.compute: is missing"),
        ("precision={weights: fp3, compute: bf16}", "precision.weights: 'fp3' is not right"),
        ("precision={weights: fp8, compute: mxfp4}", "precision.compute: 'mxfp4' is not right"),
        ("precision={weights: fp8, compute: fp8, kv: fp8}", "kv is 'fp8', and a fixed batch has no KV cache"),
        ("precision={weights: fp8, compute: fp8, act: fp8}", "precision.act: is not a key here"),
        ("precision={weights: fp4, compute: fp4}", "the die has no peak for 'fp4', only for fp16, fp8"),
        ("precision=fp4", "or store weights in less than they are computed in: {weights: mxfp4, compute: bf16}"),
    ],
)
def test_precisions_that_are_none(small, setting, what):
    with pytest.raises(ConfigError) as error:
        load(small, [setting])
    assert len(error.value.faults) == 1
    assert what in error.value.faults[0]


def test_kv_in_its_default_changes_nothing(small):
    one = run(load(small, ["precision={weights: fp8, compute: bf16}"]))
    other = run(load(small, ["precision={weights: fp8, compute: bf16, kv: bf16}"]))
    assert without_host(one.to_dict()) == without_host(other.to_dict())


# Zero-computation experts: 4 of 12 choices.
FREE = ["model.zero_experts=4", "policies=[base, ep, allo_pred, eplb, separated, balanced]"]


def recorded(tmp_path, choices):
    """A trace of one request a row of *choices* [requests, top_k], the same in prefill and decode, in both layers."""
    chosen = np.array(choices, np.int16)
    meta = TraceMeta(
        model="tiny",
        benchmark="b",
        subject="s",
        moe_layers=(1, 3),
        num_layers=4,
        num_experts=12,
        top_k=chosen.shape[1],
        num_requests=len(chosen),
        source="recorded",
        note="",
    )
    path = tmp_path / "t.parquet"
    requests = (
        RequestRouting(
            request=i,
            position=np.arange(2, dtype=np.int32),
            num_prefill=1,
            experts=np.broadcast_to(row, (2, 2, len(row))).copy(),
        )
        for i, row in enumerate(chosen)
    )
    write_trace(path, meta, requests)
    return path


def test_choices_of_zero_computation_experts_cost_nothing(small, tmp_path):
    """Six of the sixteen choices are of experts 8 to 11."""
    path = recorded(tmp_path, [[0, 1, 8, 9], [0, 2, 3, 10], [4, 5, 11, 6], [7, 1, 8, 11]])
    settings = [*FREE, f"trace={{path: {path}}}", "batch=4"]
    result = run(load(small, settings))
    assert any(note.startswith("37.5% of the router's choices in decode are zero") for note in result.notes)
    for ledger in result.ledgers:
        assert {row.tokens for row in ledger.rows} == {10}
        assert {row.active_experts for row in ledger.rows} == {8}
        assert {row.max_expert_tokens for row in ledger.rows} == {2}
    placed = {r["policy"]: r for r in result.to_dict()["runs"]}["ep"]
    assert placed["local_read_bytes"] + placed["remote_read_bytes"] == 2 * 8 * EXPERT
    with pytest.raises(TraceError, match="has num_experts 12, the model tiny has 8"):
        run(load(small, [*settings, "model.zero_experts=0"]))


@pytest.mark.parametrize("counting", ["expected", "exact"])
def test_tokens_are_sent_where_their_work_is(small, tmp_path, counting):
    path = recorded(tmp_path, [[0, 1, 8, 9], [0, 2, 3, 10], [4, 5, 11, 6], [7, 1, 8, 11]])
    more = [f"trace={{path: {path}}}", "batch=4", f"dispatch={{counting: {counting}}}"]
    for ledger in run(load(small, [*FREE, *more])).ledgers:
        assert all(row.activation_bytes > 0 for row in ledger.decode)


def test_synthetic_routing_chooses_them_too(small):
    result = run(load(small, [*FREE, "layers={sample: 4}", "model.moe_layers=0-3"]))
    (note,) = [note for note in result.notes if "zero-computation" in note]
    tokens = sum(row.tokens for row in result.ledgers[0].decode)
    assert note.startswith(f"{1 - tokens / (4 * 64 * 4):.1%} of")
    assert 0 < tokens < 4 * 64 * 4


def test_a_batch_without_work_is_refused(small, tmp_path):
    path = recorded(tmp_path, [[8, 9, 10, 11]])
    with pytest.raises(TraceError, match="all choices are zero-computation experts; give a larger batch"):
        run(load(small, [*FREE, f"trace={{path: {path}}}", "batch=1"]))


@pytest.mark.parametrize(("experts", "top_k"), [(6, 2), (8, 3)])
def test_zero_choices_are_met_by_no_die(experts, top_k):
    """Every choice of *top_k* experts once, three experts on die 0 and the last two without weights."""
    chosen = list(combinations(range(experts), top_k))
    count = sum(0 in choice for choice in chosen)
    plan = plan_of(*((expert, 0 if expert < 3 else 1, count, 0) for expert in range(experts - 2)))
    expected = [
        sum(min(c) < 3 for c in chosen),
        sum(any(3 <= e < experts - 2 for e in c) for c in chosen),
    ]
    assert expected_unique_tokens(plan, top_k, 2, 2 * count) == pytest.approx(expected)
    routed = Routed(np.array(chosen), np.ones(len(chosen), np.int64))
    assert exact_unique_tokens(plan, routed, 2) == pytest.approx(expected)


def test_groups_are_the_models_own():
    """Eight groups on eight rows, as DeepSeek-V3 has; a model of one group takes the global form."""
    tokens = np.random.default_rng(0).integers(1, 100, (1, 32))
    wafer = wafer_of((3, 8))
    own = placement_view(wafer, tokens, groups=8)
    rows = Eplb(nodes="rows")
    assert np.array_equal(rows.place(own), Eplb(nodes="rows", groups=8).place(own))
    assert rows.note(wafer.coordinates, 8) is None
    one = placement_view(wafer, tokens)
    assert np.array_equal(rows.place(one), Eplb().place(one))
    assert "global form: 8 nodes do not divide the 1 group of experts of the model" in rows.note(wafer.coordinates, 1)
    given = Eplb(nodes="rows", groups=4)
    assert np.array_equal(given.place(own), Eplb().place(own))
    assert "do not divide the 4 groups of experts given" in given.note(wafer.coordinates, 8)
    assert MODELS["deepseek_v3"].expert_groups == 8
    assert {model.expert_groups for name, model in MODELS.items() if name != "deepseek_v3"} == {1}


def test_the_global_form_is_noted_in_a_run(small):
    policies = "policies=[ep, {name: e, preset: eplb, placement: {kind: eplb, nodes: 2}}]"
    assert any("EPLB's global form: 2 nodes do not divide the 1 group" in n for n in run(load(small, [policies])).notes)
    notes = run(load(small, [policies, "model.expert_groups=4"])).notes
    assert not any("global form" in note for note in notes)


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("3-6", (3, 4, 5, 6)),
        ("0, 3-5", (0, 3, 4, 5)),
        ("7", (7,)),
        ([0, "3-4", 9], (0, 3, 4, 9)),
        (["1-2,4"], (1, 2, 4)),
    ],
)
def test_ranges_of_layers(text, layers):
    assert layer_numbers(text) == layers


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ("layers=3-1", "layers: '3-1' is reversed; write 1-3"),
        ("layers=[1-3, 3]", "layers: '3' comes after layer 3; list each layer once"),
        ("layers=[1-2, 2-3]", "layers: '2-3' comes after layer 2"),
        ("layers=1-", "layers: '1-' is not a layer; write such as 3-60"),
        ("layers=0-99999999", "goes beyond layer 9999"),
        ("layers=0-1", "layers: [0] are not MoE layers of the model"),
        ("model.moe_layers=3-1", "model.moe_layers: '3-1' is reversed"),
        ("model.moe_layers=[a]", "model.moe_layers: 'a' is not a layer"),
        ("model.moe_layers=1-4", "moe_layers leave the model"),
    ],
)
def test_ranges_that_are_none(small, setting, what):
    with pytest.raises(ConfigError) as error:
        load(small, [setting])
    assert len(error.value.faults) == 1
    assert what in error.value.faults[0]


def test_layers_may_be_ranges_in_a_file_and_a_setting(small):
    small.write_text(SMALL.replace("moe_layers: [1, 3]", 'moe_layers: ["0-1", 3]') + "layers: 0-1\n")
    config = load(small)
    assert (config.model.moe_layers, config.layers) == ((0, 1, 3), (0, 1))
    assert load(small, ["layers=[0, 3]"]).layers == (0, 3)
    assert load(small, ["model.moe_layers=1-3", "layers=2-3"]).layers == (2, 3)


def test_shapes_that_contradict_themselves():
    shape = MODELS["deepseek_v3"]
    with pytest.raises(ValueError, match="expert_groups 7 do not divide num_experts 256"):
        replace(shape, expert_groups=7)
    with pytest.raises(ValueError, match="top_k 300 exceeds num_experts 256 and zero_experts 8; use at most 264"):
        replace(shape, top_k=300, zero_experts=8)
    with pytest.raises(ValueError, match="neither grouped queries nor latent"):
        Attention(num_heads=8, head_dim=64)
    with pytest.raises(ValueError, match="neither grouped queries nor latent"):
        Attention(num_heads=8, num_kv_heads=2, head_dim=64, kv_lora_rank=512)
    with pytest.raises(ValueError, match="num_kv_heads 3 do not divide num_heads 8"):
        Attention(num_heads=8, num_kv_heads=3, head_dim=64)


def test_facts_for_serving_are_kept(small):
    facts = "num_shared_experts: 1, vocab_size: 99, attention: {num_heads: 4, num_kv_heads: 2, head_dim: 16}"
    small.write_text(SMALL.replace("expert_matrices: 3", f"expert_matrices: 3, {facts}"))
    said = run(load(small)).to_dict()["provenance"]["config"]["model"]
    assert said["attention"] == {"num_heads": 4, "num_kv_heads": 2, "head_dim": 16}
    assert (said["num_shared_experts"], said["vocab_size"]) == (1, 99)
    with pytest.raises(ConfigError, match="attention is neither grouped queries nor latent"):
        load(small, ["model.attention={num_heads: 4}"])


def test_the_schema_follows():
    schema = json_schema()
    layers = schema["properties"]["layers"]["anyOf"]
    assert any(form.get("type") == "string" for form in layers)
    assert "expert_matrices" in schema["$defs"]["ModelShape"]["properties"]
    assert "mxfp4" in json.dumps(schema["$defs"]["Precision"])


def test_commands_take_any_model(small, tmp_path):
    config = tmp_path / "tiny" / "config.json"
    config.parent.mkdir()
    config.write_text(
        json.dumps(
            {"num_hidden_layers": 3, "num_experts": 8, "num_experts_per_tok": 2, "hidden_size": 64}
            | {"moe_intermediate_size": 32, "first_k_dense_replace": 1}
        )
    )
    out = tmp_path / "s.parquet"
    short = ["--requests", "3", "--decode-tokens", "2", "--quiet"]

    def synth(model, *more):
        cli(["trace", "synth", str(model), "--out", str(out), "--force", *short, *more], standalone_mode=False)
        with TraceReader(out) as reader:
            return reader.meta

    assert synth(config, "--preset", "qwen3_235b").moe_layers == (1, 2)
    assert synth(config, "--preset", "qwen3_235b").model == "tiny"
    assert synth(small, "--preset", "qwen3_235b").num_experts == 8
    with pytest.raises(ConfigError, match="without parameters of its own; give --preset"):
        synth(config)
    free = tmp_path / "free.json"
    free.write_text(json.dumps({**json.loads(config.read_text()), "zero_expert_num": 4}))
    assert synth(free, "--preset", "qwen3_235b").num_choices == 12
