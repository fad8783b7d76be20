"""Reading a model from a Hugging Face ``config.json``, with the spellings that models use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wss.errors import ConfigError
from wss.models.layers import MOST_LAYERS
from wss.models.routers import router_in
from wss.models.sparse_layers import KNOWN, moe_layers
from wss.models.strange_keys import check_keys

_NESTED = ("text_config", "llm_config", "language_config", "thinker_config")

_LATENT_ATTENTION = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")

# Our name for a fact, and its spellings in configs; a dot leads into a nested mapping (DBRX).
_SPELLINGS = {
    "num_layers": ("num_hidden_layers", "num_layers", "n_layers", "n_layer"),
    "hidden_size": ("hidden_size", "d_model", "n_embd"),
    "num_experts": (
        *("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts", "num_routed_experts"),
        "ffn_config.moe_num_experts",
    ),
    "top_k": (
        *("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk", "moe_top_k", "moe_k"),
        *("top_k_experts", "num_selected_experts", "ffn_config.moe_top_k"),
    ),
    "moe_intermediate_size": (
        *("moe_intermediate_size", "expert_ffn_hidden_size", "moe_ffn_hidden_size", "expert_intermediate_size"),
        "ffn_config.ffn_hidden_size",
    ),
    "zero_experts": ("zero_expert_num",),
    "expert_groups": ("n_group", "num_expert_group"),
    "num_shared_experts": ("n_shared_experts", "num_shared_experts", "num_shared_expert", "moe_num_shared_experts"),
    "shared_intermediate_size": ("shared_expert_intermediate_size", "shared_intermediate_size", "share_expert_dim"),
    "a_shared_expert": ("moe_shared_expert_intermediate_size",),
    "intermediate_size": ("intermediate_size",),
    "dense_intermediate_size": ("intermediate_size_mlp", "dense_intermediate_size", "ffn_hidden_size"),
    "vocab_size": ("vocab_size",),
    "num_heads": ("num_attention_heads", "n_heads"),
    "num_kv_heads": ("num_key_value_heads", "num_attention_groups", "attn_config.kv_n_heads"),
    "head_dim": ("head_dim", "attention_head_dim"),
    **{name: (name,) for name in ("q_lora_rank", *_LATENT_ATTENTION)},
}


def _keys(*facts: str) -> set[str]:
    """Return the keys of a config.json that may state *facts*."""
    return {spelling.partition(".")[0] for fact in facts for spelling in _SPELLINGS[fact]}


MARKS = {"architectures", "model_type", "num_hidden_layers", *_NESTED, *_keys("num_experts", "top_k")} - {"num_experts"}
_LATENT = ("moe_latent_size", "routed_expert_hidden_size", "moe_hidden_size")
_SHARED = ("num_shared_experts", "shared_intermediate_size", "a_shared_expert")
# Unknown keys that resemble these facts and rules are refused.
_GUARDED = {*KNOWN, *_LATENT, *_keys("num_experts", "top_k", "moe_intermediate_size", "zero_experts", *_SHARED)}
_FROM_ZERO = ("num_experts", "zero_experts", *_SHARED, "qk_rope_head_dim")
# If any of these is given, experts have a size of their own, and intermediate_size is that of dense layers.
_OWN_SIZE = ("n_routed_experts", "first_k_dense_replace", "decoder_sparse_step", "shared_expert_intermediate_size")
# If any of these is given, and none of those, intermediate_size is that of experts.
_ONE_SIZE = ("intermediate_size_mlp", "expert_layer_period", "moe_layer_frequency", "dense_intermediate_size")
_GATED = ("silu", "swish", "swiglu", "swigluoai", "situ", "gelu", "gelu_new", "gelu_pytorch_tanh", "geglu")
_UNGATED = ("relu2", "squared_relu", "relu_squared")


def is_config(mapping: Mapping[str, Any]) -> bool:
    """Whether *mapping* is a config.json, or part of one, rather than a model with wss's keys."""
    return not {"num_layers", "moe_layers", "top_k"} <= set(mapping) and bool(MARKS & set(mapping))


def facts_of(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the fields of a `ModelShape` named *name* from *config*.

    Raises
    ------
    ConfigError
        With one line per error, ``key: what; what would be right``; without the key if the error has none.
    """
    try:
        return _Facts(_text_part(config)).fields(name)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    except RecursionError:
        raise ConfigError("is nested too deeply; give the config.json of a model") from None


def _text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of *config* that describes the language model."""
    for key in _NESTED:
        if not isinstance(inner := config.get(key), Mapping):
            continue
        inner = _text_part(inner)
        outer, own = (_Facts(part).find("num_experts") for part in (config, inner))
        if outer is not None and own is not None and outer != own:
            raise ValueError(f"{key}: has {own} experts, and the config around it {outer}; keep the correct one")
        if own is not None or outer is None:
            return inner
    return config


class _Facts:
    """Reads facts from a config."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config

    def _at(self, spelling: str) -> Any:
        value: Any = self._config
        for step in spelling.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        return value

    def find(self, fact: str) -> int | None:
        """Return an integer, None if it is not given; raise ValueError if it is not one, or contradictory."""
        found: dict[str, int] = {}
        least = 0 if fact in _FROM_ZERO else 1
        for spelling in _SPELLINGS[fact]:
            value = self._at(spelling)
            if fact == "expert_groups" and value in (False, 0):
                continue
            if isinstance(value, list) and value:
                value = _alike(spelling, value)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{spelling}: {value!r} is not right; it should be a whole number from {least} on")
            found[spelling] = value
        if len(set(found.values())) > 1:
            said = " and ".join(f"{spelling} is {value}" for spelling, value in found.items())
            raise ValueError(f"{next(iter(found))}: contradicts itself: {said}; keep the correct one")
        return next(iter(found.values()), None)

    def _key(self, fact: str) -> str:
        """Return the key of a fact that is given."""
        return next(spelling for spelling in _SPELLINGS[fact] if self._at(spelling) is not None)

    def need(self, fact: str, what: str) -> int:
        """Return an integer that must be given."""
        value = self.find(fact)
        if value is None:
            raise ValueError(f"{what} is missing; give {' or '.join(_SPELLINGS[fact][:3])}")
        return value

    def fields(self, name: str) -> dict[str, Any]:
        """Return all fields."""
        if self._config.get("is_encoder_decoder"):
            raise ValueError("is_encoder_decoder: an encoder is not modelled; give a decoder")
        experts, zero = self.find("num_experts"), self.find("zero_experts") or 0
        if experts is None or experts < 2:
            said = "" if experts is None else f" with {experts} expert{'s' if experts != 1 else ''}"
            raise ValueError(
                f"is a dense model{said}: no {', '.join(_SPELLINGS['num_experts'][:4])} above 1; "
                "give a Mixture-of-Experts model"
            )
        hidden, layers = self.need("hidden_size", "the size of a token's vector"), self._num_layers()
        top_k = self.need("top_k", "how many experts a token has")
        counts = {self._key("num_experts"): experts, self._key("top_k"): top_k}
        check_keys(self._config, _GUARDED, layers, counts)
        sparse = moe_layers(self._config, layers)
        for key in _LATENT:
            if self._config.get(key) not in (None, hidden):
                width = self._config[key]
                raise ValueError(
                    f"{key}: experts work on vectors of {width}, not of {hidden}; "
                    f"write the model out, with hidden_size: {width}"
                )
        size = self._expert_size(all_sparse=len(sparse) == layers)
        groups = self.find("expert_groups") or 1
        if experts % groups:
            raise ValueError(f"{groups} groups (n_group) do not divide {experts} experts; give groups that do")
        fields = {
            "name": name,
            "num_layers": layers,
            "moe_layers": list(sparse),
            "num_experts": experts,
            "top_k": top_k,
            "hidden_size": hidden,
            "moe_intermediate_size": size,
            "expert_matrices": self._matrices(),
            "zero_experts": zero,
            "expert_groups": groups,
            "router": router_in(self._config),
            "attention": self._attention(hidden),
            "dense_intermediate_size": self._dense_size(all_sparse=len(sparse) == layers),
            **self._shared(size),
            "vocab_size": self.find("vocab_size"),
            "source": self._source(),
        }
        return {key: value for key, value in fields.items() if value is not None}

    def _num_layers(self) -> int:
        """Return the number of layers. LongCat's have two attentions each, which some files count as layers."""
        if str(self._config.get("model_type", "")).startswith("longcat") and "num_layers" in self._config:
            return _Facts({"num_layers": self._config["num_layers"]}).need("num_layers", "how many layers there are")
        blocks = self._config.get("layers_block_type")  # transformers 5 writes no other count for Nemotron-H
        if isinstance(blocks, list) and self.find("num_layers") is None:
            return len(blocks)
        count = self.need("num_layers", "how many layers there are")
        if count > MOST_LAYERS:
            raise ValueError(f"{count} layers are more than any model has; give at most {MOST_LAYERS}")
        return count

    def _expert_size(self, *, all_sparse: bool) -> int:
        """Return the intermediate size of an expert; the model's own if there is no other."""
        own, general = self.find("moe_intermediate_size"), self.find("intermediate_size")
        if own is not None:
            return own
        is_dense = any(self._config.get(key) is not None for key in _OWN_SIZE)
        alike = all_sparse or any(self._config.get(key) is not None for key in _ONE_SIZE)
        if general is None or is_dense or not alike:
            raise ValueError(f"the size of an expert is missing; give {_SPELLINGS['moe_intermediate_size'][0]}")
        return general

    def _dense_size(self, *, all_sparse: bool) -> int | None:
        own = self.find("dense_intermediate_size")
        return own if own is not None or all_sparse else self.find("intermediate_size")

    def _shared(self, size: int) -> dict[str, int]:
        """Return the number of shared experts, and their total width."""
        count, width = self.find("num_shared_experts"), self.find("shared_intermediate_size")
        each = self.find("a_shared_expert")
        if str(self._config.get("model_type", "")).startswith("llama4"):
            count, each = 1, size
        if count is None:
            count = 1 if width or each else 0
        if count == 0:
            return {}
        return {"num_shared_experts": count, "shared_intermediate_size": width or count * (each or size)}

    def _matrices(self) -> int:
        """Return 3 for gated experts, 2 for others."""
        act = self._config.get("mlp_hidden_act") or self._at("ffn_config.ffn_act_fn.name")
        act = act or self._config.get("hidden_act") or self._config.get("hidden_activation")
        if act in _UNGATED:
            return 2
        if act is None and self._config.get("model_type") == "nemotron_h":
            return 2
        if act is None or act in _GATED:
            return 3
        raise ValueError(
            f"hidden_act: {act!r} does not say whether experts have a gate; write the model out with expert_matrices"
        )

    def _attention(self, hidden: int) -> dict[str, int] | None:
        """Return the sizes of attention, if all layers share them."""
        if any(isinstance(self._at(s), list) for s in (*_SPELLINGS["num_heads"], *_SPELLINGS["num_kv_heads"])):
            return None
        heads = self.find("num_heads")
        if heads is None:
            return None
        if self.find("kv_lora_rank") is not None:
            sizes = {name: self.need(name, f"beside kv_lora_rank, {name}") for name in _LATENT_ATTENTION}
            query = self.find("q_lora_rank")
            return {"num_heads": heads, **({} if query is None else {"q_lora_rank": query}), **sizes}
        width = self.find("head_dim") or (hidden // heads if hidden % heads == 0 else None)
        if width is None:
            return None
        return {"num_heads": heads, "num_kv_heads": self.find("num_kv_heads") or heads, "head_dim": width}

    def _source(self) -> str:
        kind = self._config.get("model_type")
        quantized = self._config.get("quantization_config")
        method = quantized.get("quant_method") if isinstance(quantized, Mapping) else None
        stored = f"; its checkpoint is quantized ({method}), what runs is the experiment's precision" if method else ""
        return f"Hugging Face config.json{f' of {kind}' if isinstance(kind, str) else ''}{stored}"


def _alike(spelling: str, values: list[Any]) -> Any:
    """Return the one value that all layers share."""
    if any(value != values[0] for value in values):
        raise ValueError(
            f"{spelling}: differs from layer to layer, {str(values[:4])[1:-1]}...; one value for all layers is modelled"
        )
    return values[0]
