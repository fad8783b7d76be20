"""The routers of models: of each preset, and of a model from its config.json."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from wss.models.presets import MODELS
from wss.models.router import Router, Score
from wss.models.shape import ModelShape

ROUTERS: dict[str, Router] = {
    # config.json: scoring_func sigmoid, topk_method noaux_tc (the bias), n_group 8, topk_group 4
    "deepseek_v3": Router(score="sigmoid", groups=8, topk_groups=4, needs_bias=True),
    # scoring_func sigmoid, topk_method noaux_tc, n_group 1
    "kimi_k2": Router(score="sigmoid", needs_bias=True),
    # the top 4 of the logits, then a softmax of those
    "gpt_oss_20b": Router(score="softmax"),
    # the top 1 of the logits, then its sigmoid
    "llama4_maverick": Router(score="sigmoid"),
    "qwen3_235b": Router(score="softmax"),
}


# Spellings of a fact in configs.
_SCORES = (
    *("scoring_func", "score_func", "score_function", "moe_router_activation_func", "moe_router_score_function"),
    *("router_scoring_func", "moe_router_activation"),
)
_BIASES = (
    *("use_routing_bias", "moe_router_enable_expert_bias", "use_expert_bias", "use_moe_router_bias"),
    "moe_use_aux_free",
)
_GROUPS = ("n_group", "num_expert_group", "num_expert_groups")
_LIMITS = ("topk_group", "num_limited_groups")
# The code of these models adds a correction bias to such scores, even if their config.json does not say so.
# For some the score is neither a softmax nor a sigmoid.
_BIASED: dict[str, Score | None] = {
    **dict.fromkeys(("deepseek_v3", "deepseek_v32", "kimi_k2", "kimi_linear", "glm4_moe", "glm4_moe_lite"), "sigmoid"),
    **dict.fromkeys(("glm4v_moe", "glm4v_moe_text", "glm_moe_dsa", "dots1", "nemotron_h", "solar_open"), "sigmoid"),
    **dict.fromkeys(("exaone_moe", "mimo_v2_flash", "afmoe", "minimax_m2", "lfm2_moe"), "sigmoid"),
    **dict.fromkeys(("axk1", "axk2", "bailing_hybrid", "beam", "dots3_note", "dots3_note_text", "laguna"), "sigmoid"),
    **dict.fromkeys(("glm5_next", "glm5_next_text", "hy_v3", "hy_v4"), "sigmoid"),
    **dict.fromkeys(("inkling2", "inkling2_text", "inkling2_loop", "inkling2_loop_text"), "sigmoid"),
    **dict.fromkeys(("minimax_m3_vl", "minimax_m3_vl_text", "muse_spark", "muse_spark_text"), "sigmoid"),
    **dict.fromkeys(("step3p5", "step3p7"), "sigmoid"),
    **dict.fromkeys(("deepseek_v4", "kolibri1")),
    **dict.fromkeys(("longcat_flash", "ernie4_5_moe", "ernie4_5_moe_vl"), "softmax"),
}


def router_of(model: ModelShape) -> Router | None:
    """Return *model*'s router, None if it is unknown."""
    if model.router is not None:
        return model.router
    return next((router for name, router in ROUTERS.items() if MODELS[name].name == model.name), None)


def router_in(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the fields of the router in a config.json, None if it does not say how experts are chosen.

    DeepSeek's topk_method: noaux_tc adds a bias, group_limited_greedy ranks groups, greedy does neither.
    """
    method, said = config.get("topk_method"), _first(config, _SCORES)
    known = method in (None, "noaux_tc") and str(config.get("model_type")) in _BIASED
    kind = _BIASED[str(config.get("model_type"))] if known else None
    bias = _first(config, _BIASES)
    groups = (None if method == "greedy" else _count(config, _GROUPS)) or 1
    if said is None and method is None and not known and not bias and groups == 1:
        return None
    score = said if said is not None else kind
    if score is None and method is not None:
        score = "sigmoid" if method == "noaux_tc" else "softmax"
    if bias is None:
        bias = method == "noaux_tc" or (known and kind in (None, score))
    return {
        "score": score if score in ("softmax", "sigmoid") else None,
        "groups": groups,
        "topk_groups": 1 if groups == 1 else _count(config, _LIMITS, groups),
        "needs_bias": bool(bias),
    }


def _first(config: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((config[name] for name in names if config.get(name) is not None), None)


def _count(config: Mapping[str, Any], names: tuple[str, ...], most: float = math.inf) -> int | None:
    """Return a number of groups, None if it is missing or not an integer in 1..*most*."""
    value = _first(config, names)
    return value if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most else None
