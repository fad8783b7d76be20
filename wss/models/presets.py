"""Model presets, each with the source of its numbers: its config.json on the Hugging Face Hub."""

from __future__ import annotations

from dataclasses import replace

from wss.models.shape import Attention, ModelShape
from wss.presets import Presets

_LATENT = Attention(
    num_heads=128, q_lora_rank=1536, kv_lora_rank=512, qk_nope_head_dim=128, qk_rope_head_dim=64, v_head_dim=128
)

DEEPSEEK_V3 = ModelShape(
    name="deepseek-ai/DeepSeek-V3",
    num_layers=61,
    moe_layers=tuple(range(3, 61)),
    num_experts=256,
    top_k=8,
    hidden_size=7168,
    moe_intermediate_size=2048,
    expert_matrices=3,
    expert_groups=8,
    attention=_LATENT,
    dense_intermediate_size=18432,
    num_shared_experts=1,
    shared_intermediate_size=2048,
    vocab_size=129280,
    source="DeepSeek-V3 config.json: n_routed_experts 256, num_experts_per_tok 8, first_k_dense_replace 3",
)

QWEN3_235B = ModelShape(
    name="Qwen/Qwen3-235B-A22B",
    num_layers=94,
    moe_layers=tuple(range(94)),
    num_experts=128,
    top_k=8,
    hidden_size=4096,
    moe_intermediate_size=1536,
    expert_matrices=3,
    attention=Attention(num_heads=64, num_kv_heads=4, head_dim=128),
    vocab_size=151936,
    source="Qwen3-235B-A22B config.json: num_experts 128, num_experts_per_tok 8, decoder_sparse_step 1",
)

LLAMA4_MAVERICK = ModelShape(
    name="meta-llama/Llama-4-Maverick-17B-128E-Instruct",
    num_layers=48,
    moe_layers=tuple(range(1, 48, 2)),
    num_experts=128,
    top_k=1,
    hidden_size=5120,
    moe_intermediate_size=8192,
    expert_matrices=3,
    attention=Attention(num_heads=40, num_kv_heads=8, head_dim=128),
    dense_intermediate_size=16384,
    num_shared_experts=1,
    shared_intermediate_size=8192,
    vocab_size=202048,
    source="Llama-4-Maverick config.json: num_local_experts 128, interleave_moe_layer_step 2",
)

KIMI_K2 = replace(
    DEEPSEEK_V3,
    name="moonshotai/Kimi-K2-Instruct",
    moe_layers=tuple(range(1, 61)),
    num_experts=384,
    expert_groups=1,
    attention=replace(_LATENT, num_heads=64),
    vocab_size=163840,
    source="Kimi-K2 config.json: n_routed_experts 384, num_experts_per_tok 8, first_k_dense_replace 1",
)

GPT_OSS_20B = ModelShape(
    name="openai/gpt-oss-20b",
    num_layers=24,
    moe_layers=tuple(range(24)),
    num_experts=32,
    top_k=4,
    hidden_size=2880,
    moe_intermediate_size=2880,
    expert_matrices=3,
    attention=Attention(num_heads=64, num_kv_heads=8, head_dim=64),
    vocab_size=201088,
    source="gpt-oss-20b config.json: num_local_experts 32, num_experts_per_tok 4",
)

_PRESETS: dict[str, ModelShape] = {
    "deepseek_v3": DEEPSEEK_V3,
    "gpt_oss_20b": GPT_OSS_20B,
    "kimi_k2": KIMI_K2,
    "llama4_maverick": LLAMA4_MAVERICK,
    "qwen3_235b": QWEN3_235B,
}
MODELS: Presets[ModelShape] = Presets("MODELS", _PRESETS)
