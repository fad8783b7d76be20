"""Hugging Face config.json files as models: every spelling, and one line for what is no such model."""

import json
from dataclasses import replace

import pytest

from wss.config import load
from wss.config.models import model_of
from wss.errors import ConfigError
from wss.models import MODELS, Attention
from wss.models.router import Router
from wss.models.routers import router_of

HEADS = {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "hidden_act": "silu"}
LATENT = {"kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}
SMALL = {"num_hidden_layers": 6, "num_experts": 8, "num_experts_per_tok": 2, "hidden_size": 64}
PLAIN = {**SMALL, "moe_intermediate_size": 32}

# Sizes are of the models' files on the hub; below: (layers, MoE layers, experts, top_k, hidden, intermediate), others.
CASES = {
    "GLM-4.5": (
        {"n_routed_experts": 160, "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3}
        | {"num_hidden_layers": 92, "hidden_size": 5120, "intermediate_size": 12288, "moe_intermediate_size": 1536}
        | {"n_group": 1, "topk_group": 1, "num_nextn_predict_layers": 1, **HEADS},
        (92, range(3, 92), 160, 8, 5120, 1536),
        {"dense_intermediate_size": 12288, "num_shared_experts": 1, "shared_intermediate_size": 1536},
    ),
    "MiniMax-M2": (
        {"num_local_experts": 256, "num_experts_per_tok": 8, "num_hidden_layers": 62, "hidden_size": 3072}
        | {"intermediate_size": 1536, "shared_intermediate_size": 0, "layernorm_mlp_beta": 1.0, **HEADS},
        (62, range(62), 256, 8, 3072, 1536),
        {"num_shared_experts": 0, "dense_intermediate_size": None},
    ),
    "Jamba": (
        {"num_experts": 16, "num_experts_per_tok": 2, "num_hidden_layers": 32, "hidden_size": 4096}
        | {"intermediate_size": 14336, "expert_layer_period": 2, "expert_layer_offset": 1, "attn_layer_period": 8},
        (32, range(1, 32, 2), 16, 2, 4096, 14336),
        {},
    ),
    "DBRX": (
        {"n_layers": 40, "d_model": 6144, "n_heads": 48, "attn_config": {"kv_n_heads": 8}, "vocab_size": 100352}
        | {"ffn_config": {"ffn_act_fn": {"name": "silu"}, "ffn_hidden_size": 10752}}
        | {"ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4}},
        (40, range(40), 16, 4, 6144, 10752),
        {"attention": Attention(num_heads=48, num_kv_heads=8, head_dim=128), "vocab_size": 100352},
    ),
    "Qwen2-MoE with gaps": (
        {"num_experts": 60, "num_experts_per_tok": 4, "num_hidden_layers": 24, "hidden_size": 2048}
        | {"intermediate_size": 5632, "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632}
        | {"decoder_sparse_step": 2, "mlp_only_layers": [1, 5]},
        (24, [3, *range(7, 24, 2)], 60, 4, 2048, 1408),
        {"num_shared_experts": 1, "shared_intermediate_size": 5632, "dense_intermediate_size": 5632},
    ),
    "ERNIE 4.5": (
        {"moe_num_experts": 64, "moe_k": 8, "num_hidden_layers": 54, "hidden_size": 8192, "intermediate_size": 28672}
        | {"moe_intermediate_size": 3584, "moe_layer_start_index": 3, "moe_layer_end_index": -1}
        | {"moe_layer_interval": 1, "moe_num_shared_experts": 0},
        (54, range(3, 54), 64, 8, 8192, 3584),
        {},
    ),
    "Hunyuan-A13B": (
        {"num_experts": 64, "moe_topk": [8] * 32, "num_hidden_layers": 32, "hidden_size": 4096}
        | {"moe_intermediate_size": [3072] * 32, "intermediate_size": 3072, "num_shared_expert": [1] * 32}
        | {"moe_layer_num_skipped": 0, "n_group": False},
        (32, range(32), 64, 8, 4096, 3072),
        {"num_shared_experts": 1, "shared_intermediate_size": 3072},
    ),
    "Step3": (
        {
            "vision_config": {"hidden_size": 1792, "num_hidden_layers": 63},
            "text_config": {"num_hidden_layers": 61, "moe_num_experts": 48, "moe_top_k": 3, "hidden_size": 7168}
            | {"moe_intermediate_size": 5120, "share_expert_dim": 5120, "intermediate_size": 18432}
            | {"moe_layers_enum": ",".join(map(str, range(4, 60))), "num_attention_heads": 64}
            | {"num_attention_groups": 1, "head_dim": 256},
        },
        (61, range(4, 60), 48, 3, 7168, 5120),
        {"attention": Attention(num_heads=64, num_kv_heads=1, head_dim=256), "num_shared_experts": 1},
    ),
    "LongCat-Flash": (
        {"model_type": "longcat_flash", "num_layers": 28, "num_hidden_layers": 56, "n_routed_experts": 512}
        | {"moe_topk": 12, "zero_expert_num": 256, "hidden_size": 6144, "ffn_hidden_size": 12288}
        | {"expert_ffn_hidden_size": 2048, "num_attention_heads": 64, **LATENT},
        (28, range(28), 512, 12, 6144, 2048),
        {"zero_experts": 256, "attention": Attention(num_heads=64, **LATENT), "dense_intermediate_size": 12288},
    ),
    "Nemotron 3 Nano": (
        {"model_type": "nemotron_h", "num_hidden_layers": 9, "hybrid_override_pattern": "MEMEM*EM-"}
        | {"n_routed_experts": 128, "num_experts_per_tok": 6, "hidden_size": 2688, "moe_intermediate_size": 1856}
        | {"moe_shared_expert_intermediate_size": 3712, "n_shared_experts": 1, "n_groups": 8, "n_group": 1}
        | {"mlp_hidden_act": "relu2", "mamba_hidden_act": "silu", "hidden_act": "silu"},
        (9, [1, 3, 6], 128, 6, 2688, 1856),
        {"expert_matrices": 2, "shared_intermediate_size": 3712, "expert_groups": 1},
    ),
    "Llama 4": (
        {
            "text_config": {"model_type": "llama4_text", "num_hidden_layers": 48, "num_local_experts": 128}
            | {"num_experts_per_tok": 1, "interleave_moe_layer_step": 2, "moe_layers": list(range(1, 48, 2))}
            | {"hidden_size": 5120, "intermediate_size": 8192, "intermediate_size_mlp": 16384, "top_k": 50},
        },
        (48, range(1, 48, 2), 128, 1, 5120, 8192),
        {"num_shared_experts": 1, "shared_intermediate_size": 8192, "dense_intermediate_size": 16384},
    ),
    "Nemotron 3 as transformers 5 writes it, without a count of layers": (
        {"model_type": "nemotron_h", "n_routed_experts": 8, "num_experts_per_tok": 2, "mlp_hidden_act": "relu2"}
        | {"layers_block_type": ["linear_attention", "moe", "full_attention", "mlp", "moe"]}
        | {"hidden_size": 4096, "moe_intermediate_size": 7688},
        (5, [1, 4], 8, 2, 4096, 7688),
        {"expert_matrices": 2},
    ),
    "DeepSeek-V4 as transformers 5 writes it, its first layers routed by the token": (
        {"model_type": "deepseek_v4", "num_hidden_layers": 5, "n_routed_experts": 256, "num_experts_per_tok": 6}
        | {"mlp_layer_types": ["hash_moe"] * 3 + ["moe"] * 2, "hidden_size": 4096, "moe_intermediate_size": 2048},
        (5, range(5), 256, 6, 4096, 2048),
        {"router": Router(score=None, needs_bias=True)},
    ),
    "K-EXAONE, its first config.json": (
        {"model_type": "exaone_moe", "num_hidden_layers": 4, "num_experts": 128, "num_experts_per_tok": 8}
        | {"first_last_k_dense_replace": 1, "is_moe_layer": [False, True, True, True]}
        | {"hidden_size": 6144, "moe_intermediate_size": 2048, "intermediate_size": 18432},
        (4, range(1, 4), 128, 8, 6144, 2048),
        {"dense_intermediate_size": 18432},
    ),
    "GLM-5-Next, no rotary part": (
        {"model_type": "glm5_next_text", "n_routed_experts": 288, "num_experts_per_tok": 8, "num_hidden_layers": 4}
        | {"num_attention_heads": 64, **LATENT, "qk_rope_head_dim": 0, "first_k_dense_replace": 3}
        | {"hidden_size": 4096, "moe_intermediate_size": 2048, "intermediate_size": 12288},
        (4, [3], 288, 8, 4096, 2048),
        {"attention": Attention(num_heads=64, **LATENT | {"qk_rope_head_dim": 0})},
    ),
    "MiMo, a list of flags": (
        {"num_hidden_layers": 4, "n_routed_experts": 256, "num_experts_per_tok": 8, "moe_layer_freq": [0, 1, 1, 0]}
        | {"hidden_size": 4096, "moe_intermediate_size": 2048, "n_group": 8},
        (4, [1, 2], 256, 8, 4096, 2048),
        {"expert_groups": 8},
    ),
}


def write(tmp_path, config, name="config.json"):
    path = tmp_path / name
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return str(path)


@pytest.mark.parametrize("case", CASES)
def test_configs_of_many_models(tmp_path, case):
    config, (layers, moe, experts, top_k, hidden, size), others = CASES[case]
    model = model_of(write(tmp_path, config))
    assert (model.num_layers, model.moe_layers) == (layers, tuple(moe))
    assert (model.num_experts, model.top_k, model.hidden_size, model.moe_intermediate_size) == (
        (experts, top_k, hidden, size)
    )
    expected = {"expert_matrices": 3, "zero_experts": 0, **others}
    assert {key: getattr(model, key) for key in expected} == expected


def test_a_preset_has_the_facts_of_its_config(tmp_path):
    """DeepSeek-V3's config.json, by its public values."""
    config = {"model_type": "deepseek_v3", "num_hidden_layers": 61, "hidden_size": 7168, "intermediate_size": 18432}
    config |= {"moe_intermediate_size": 2048, "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8}
    config |= {"first_k_dense_replace": 3, "moe_layer_freq": 1, "n_group": 8, "topk_group": 4, "vocab_size": 129280}
    config |= {"num_attention_heads": 128, "num_key_value_heads": 128, "hidden_act": "silu", **LATENT}
    found, preset = vars(model_of(write(tmp_path, config))), vars(MODELS["deepseek_v3"])
    assert {key: value for key, value in found.items() if key not in ("name", "source", "router")} == {
        key: value for key, value in preset.items() if key not in ("name", "source", "router")
    }
    assert found["router"] == router_of(MODELS["deepseek_v3"])


REFUSED = {
    "a dense model": ({"num_hidden_layers": 6, "hidden_size": 64}, "is a dense model"),
    "one expert": ({**PLAIN, "num_experts": 1}, "is a dense model with 1 expert"),
    "two counts": ({**PLAIN, "n_routed_experts": 16}, "n_routed_experts is 16 and num_experts is 8"),
    "unlike layers": ({**PLAIN, "num_experts": [8, 8, 4]}, "num_experts: differs from layer to layer"),
    "text": ({**PLAIN, "hidden_size": "64"}, "hidden_size: '64' is not right; it should be a whole number"),
    "a fraction": ({**PLAIN, "num_experts_per_tok": 1.5}, "num_experts_per_tok: 1.5 is not right"),
    "true": ({**PLAIN, "num_experts": True}, "num_experts: True is not right"),
    "below zero": ({**PLAIN, "moe_intermediate_size": -1}, "moe_intermediate_size: -1 is not right"),
    "too many experts a token": ({**PLAIN, "num_experts_per_tok": 9}, "top_k 9 exceeds num_experts 8"),
    "no top-k": (
        {"num_hidden_layers": 6, "num_experts": 8, "hidden_size": 64},
        "how many experts a token has is missing",
    ),
    "no size": (SMALL, "the size of an expert is missing"),
    "a dense size alone": (
        {**SMALL, "intermediate_size": 99, "first_k_dense_replace": 1},
        "the size of an expert is missing; give moe_intermediate_size",
    ),
    "groups that do not divide": ({**PLAIN, "n_group": 3}, "3 groups (n_group) do not divide 8 experts"),
    "no MoE layer": ({**PLAIN, "first_k_dense_replace": 6}, "no layer is a MoE layer"),
    "a list against a step": (
        {**PLAIN, "interleave_moe_layer_step": 2, "moe_layers": [0, 2]},
        "moe_layers: contradicts interleave_moe_layer_step",
    ),
    "a list against a count": (
        {**PLAIN, "first_k_dense_replace": 2, "moe_layer_freq": [0, 1, 1, 1, 1, 1]},
        "moe_layer_freq: contradicts first_k_dense_replace",
    ),
    "two lists": (
        {**PLAIN, "mlp_layer_types": ["sparse"] * 6, "moe_layer_freq": [0, 1, 1, 1, 1, 1]},
        "mlp_layer_types: contradicts moe_layer_freq",
    ),
    "two counts of dense layers": (
        {**PLAIN, "first_k_dense_replace": 2, "num_dense_layers": 3},
        "num_dense_layers: contradicts first_k_dense_replace",
    ),
    "a misspelt rule": ({**PLAIN, "first_k_dense_replac": 3}, "did you mean 'first_k_dense_replace'?"),
    "a misspelt fact": ({**PLAIN, "n_shared_expert": 1}, "n_shared_expert: is not known; did you mean"),
    "no experts": ({**PLAIN, "use_moe": False}, "use_moe: is false, and num_experts is 8"),
    "another count": ({**PLAIN, "n_experts": 64}, "n_experts: 64 may be a count of experts, and num_experts is 8"),
    "another top-k": (
        {**PLAIN, "top_k": 4},
        "top_k: 4 may be a count of experts, and num_experts is 8 and num_experts_",
    ),
    "kinds of layers": ({**PLAIN, "layer_kinds": ["dense", *["moe"] * 5]}, "layer_kinds: may say which layers"),
    "a rule that is not known": ({**PLAIN, "moe_every_n_layers": 2}, "moe_every_n_layers: may say which layers"),
    "a layer too many": ({**PLAIN, "mlp_only_layers": [6]}, "mlp_only_layers: 6 is not a layer of the model"),
    "a short pattern": ({**PLAIN, "hybrid_override_pattern": "ME"}, "has 2 entries for 6 layers"),
    "a pattern of other letters": ({**PLAIN, "hybrid_override_pattern": "MEXMEM"}, "'MEXMEM' is not right"),
    "flags beyond 0 and 1": ({**PLAIN, "moe_layer_freq": [0, 1, 2, 1, 1, 1]}, "moe_layer_freq: 2 is not known"),
    "half a rule": ({**PLAIN, "expert_layer_period": 2}, "goes with expert_layer_offset"),
    "a step of zero": ({**PLAIN, "decoder_sparse_step": 0}, "decoder_sparse_step: 0 is not right"),
    "an activation": ({**PLAIN, "hidden_act": "relu"}, "hidden_act: 'relu' does not say"),
    "latent experts": ({**PLAIN, "moe_latent_size": 16}, "moe_latent_size: experts work on vectors of 16, not of 64"),
    "latent experts of another name": (
        {**PLAIN, "moe_hidden_size": 32},
        "moe_hidden_size: experts work on vectors of 32, not of 64",
    ),
    "half of MLA": ({**PLAIN, "num_attention_heads": 4, "kv_lora_rank": 8}, "qk_nope_head_dim is missing"),
    "two counts, nested": ({**PLAIN, "text_config": {**PLAIN, "num_experts": 4}}, "text_config: has 4 experts"),
    "an encoder": ({**PLAIN, "is_encoder_decoder": True}, "is_encoder_decoder: an encoder is not modelled"),
    "a million layers": ({**PLAIN, "num_hidden_layers": 10**9}, "1000000000 layers are more than any model has"),
    "a list": ("[1]", "is not a mapping"),
    "not JSON": ("{", "config.json:1:2: not JSON"),
    "a key twice": ('{"num_experts": 8, "num_experts": 9}', "num_experts: is given twice"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_such_model_is_one_line(tmp_path, case):
    config, what = REFUSED[case]
    with pytest.raises(ConfigError) as error:
        model_of(write(tmp_path, config))
    (fault,) = error.value.faults
    assert what in fault
    assert "config.json" in fault


RULE_LIKE = (
    "moe_frequency moe_period layer_freq dense_first first_dense dense_prefix moe_start hybrid_pattern ffn_types "
    "block_types interleave_step moe_expert_interval dense_mlp_idx"
)


@pytest.mark.parametrize("key", RULE_LIKE.split())
def test_a_key_that_looks_like_a_rule_is_refused(tmp_path, key):
    with pytest.raises(ConfigError, match=f"{key}: may say which layers are MoE layers, and is not known"):
        model_of(write(tmp_path, {**PLAIN, key: 3}))


def test_a_spacing_of_one_layer_leaves_none_out(tmp_path):
    """Skywork and Step3 have such keys of their own."""
    plain = model_of(write(tmp_path, PLAIN))
    assert model_of(write(tmp_path, {**PLAIN, "moe_expert_interval": 1, "moe_every_n_layer": 1})) == plain


# Keys of real configs (transformers 5.24, sglang 0.5.23, the hub's MiniMax-M2) that say nothing of routed experts.
HARMLESS = (
    "attn_layer_period attn_layer_offset block_size block_ff_dim full_attention_interval hybrid_layer_pattern "
    "hybrid_block_size no_rope_layers no_rope_layer_interval global_attn_every_n_layers index_topk index_topk_freq "
    "interval layer_group_size max_window_layers mlp_bias moe_capacity moe_group_experts moe_router_activation_func "
    "moe_router_enable_expert_bias mtp_hybrid_override_pattern mtp_mlp_layer_types n_groups n_hash_layers "
    "norm_topk_prob num_hash_layers num_kv_shared_layers num_mtp_modules num_nextn_predict_layers "
    "output_router_logits prefix_dense_intermediate_size rope_interleave router_aux_loss_coef router_jitter_noise "
    "share_expert_dims sliding_window_pattern time_step_rank topk_group topk_method use_expert_bias use_mixed_mlp_moe "
    "use_moe zero_expert_type o_lora_rank mlp_intermediate_size dense_list"
)


def test_keys_that_say_nothing_of_experts_are_passed_over(tmp_path):
    config = {**PLAIN, **{key: 7 for key in HARMLESS.split()}, "layer_types": ["full_attention"] * 6}
    plain = model_of(write(tmp_path, PLAIN))
    for generation in ({"top_k": 50}, {"top_k": 20, "top_p": 0.9}, {"use_moe": True}):
        found = model_of(write(tmp_path, config | generation))
        assert replace(found, router=None) == plain, "how experts are chosen is another matter"


def test_rules_that_hold_together(tmp_path):
    """DeepSeek's frequency counts from 0, Arctic's and Qwen's step from 1."""
    both = {**PLAIN, "first_k_dense_replace": 1, "moe_layer_freq": 2}
    assert model_of(write(tmp_path, both)).moe_layers == (2, 4)
    assert model_of(write(tmp_path, {**PLAIN, "moe_layer_frequency": 2})).moe_layers == (1, 3, 5)
    assert model_of(write(tmp_path, {**PLAIN, "is_moe_layer": [False, True] * 3})).moe_layers == (1, 3, 5)
    kinds = ["dense", "sparse", "sparse", "sparse", "sparse", "dense"]
    assert model_of(write(tmp_path, {**PLAIN, "mlp_layer_types": kinds})).moe_layers == (1, 2, 3, 4)
    assert model_of(write(tmp_path, {**PLAIN, "num_dense_layers": 4})).moe_layers == (4, 5)


EXPERIMENT = """\
model: MODEL
wafer: dojo
precision: fp8
trace: {synth: qwen3_235b}
policies: [ep]
baseline: ep
"""


def experiment(tmp_path, model):
    path = tmp_path / "x.yaml"
    path.write_text(EXPERIMENT.replace("MODEL", str(model)))
    return path


def test_a_config_stands_wherever_a_model_does(tmp_path):
    folder = tmp_path / "tiny-moe"
    folder.mkdir()
    config = write(folder, {**PLAIN, "first_k_dense_replace": 2})
    by_file = load(experiment(tmp_path, config)).model
    assert by_file == load(experiment(tmp_path, folder)).model
    assert (by_file.name, by_file.moe_layers) == ("tiny-moe", (2, 3, 4, 5))
    inline = load(experiment(tmp_path, json.dumps({**PLAIN, "first_k_dense_replace": 2}))).model
    assert inline.moe_layers == by_file.moe_layers
    changed = load(experiment(tmp_path, config), ["model.top_k=4", "model.moe_layers=3-5"]).model
    assert (changed.top_k, changed.moe_layers) == (4, (3, 4, 5))
    assert model_of(str(experiment(tmp_path, config))) == by_file
    written = write(
        tmp_path,
        "{name: y, num_layers: 9, moe_layers: 3-8, num_experts: 4, top_k: 1, hidden_size: 8, moe_intermediate_size: 8}",
        "own.yaml",
    )
    assert model_of(written).moe_layers == (3, 4, 5, 6, 7, 8)


def test_files_that_are_none(tmp_path):
    for name, what in (
        ("nowhere/config.json", "there is no such file"),
        ("deepseek-ai/DeepSeek-V3", "there is no such file; give the config.json of a model"),
        ("deepsek_v3", "did you mean 'deepseek_v3'"),
    ):
        with pytest.raises(ConfigError, match=what):
            model_of(name)
    path = experiment(tmp_path, tmp_path / "x.yaml")
    with pytest.raises(ConfigError, match="is named by a file that another names"):
        load(path)
    with pytest.raises(ConfigError) as error:
        load(experiment(tmp_path, write(tmp_path, {**PLAIN, "num_experts": -8})))
    (fault,) = error.value.faults
    assert fault.startswith(f"{tmp_path / 'x.yaml'}:1:1: model: {tmp_path / 'config.json'}: num_experts: -8 is not")
