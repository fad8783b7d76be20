"""The MoE layers of a Hugging Face config.json.

Models state them in many ways. Every rule in a config must hold, and a list of layers must agree with the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from wss.models.layers import layer_numbers

Layers = frozenset[int]
_LISTS = (
    *("moe_layers", "moe_layers_enum", "mlp_layer_types", "is_moe_layer", "hybrid_override_pattern"),
    "moe_layer_freq",
)
_BLOCKS = ("mamba", "attention", "mlp", "linear_attention", "full_attention", "sliding_attention")


def _every(step: int, offset: int) -> Callable[[int], bool]:
    """Return a test for every *step*-th layer, starting at *offset*."""
    return lambda layer: layer % step == offset


# For each rule, a function of its integer that returns a test of whether a layer may be a MoE layer.
_RULES: dict[str, Callable[[int], Callable[[int], bool]]] = {
    "first_k_dense_replace": lambda dense: lambda layer: layer >= dense,  # DeepSeek, GLM, Kimi
    "num_dense_layers": lambda dense: lambda layer: layer >= dense,  # LFM2-MoE, AFMoE
    "first_last_k_dense_replace": lambda dense: lambda layer: layer >= dense,  # early K-EXAONE
    "moe_layer_num_skipped": lambda dense: lambda layer: layer >= dense,  # Hunyuan
    "moe_layer_freq": lambda step: _every(step, 0),  # DeepSeek
    "moe_layer_frequency": lambda step: _every(step, step - 1),  # Arctic
    "decoder_sparse_step": lambda step: _every(step, step - 1),  # Qwen
    "interleave_moe_layer_step": lambda step: _every(step, step - 1),  # Llama 4
    "moe_layer_start_index": lambda first: lambda layer: layer >= first,  # ERNIE 4.5
    "moe_layer_end_index": lambda last: lambda layer: layer <= last,
    "moe_layer_interval": lambda step: _every(step, step - 1),
    "expert_layer_period": lambda step: lambda layer: True,  # Jamba: with its offset
    "expert_layer_offset": lambda offset: lambda layer: True,
}
# Two rules of one kind must agree: on the number of leading dense layers, or on the step.
_DENSE = (
    *("first_k_dense_replace", "first_last_k_dense_replace", "num_dense_layers", "moe_layer_num_skipped"),
    "moe_layer_start_index",
)
_STEPS = (
    *("moe_layer_freq", "moe_layer_frequency", "decoder_sparse_step", "interleave_moe_layer_step"),
    *("moe_layer_interval", "expert_layer_period"),
)
_FROM_ZERO = {*_DENSE, "expert_layer_offset"}
KNOWN = {*_RULES, *_LISTS, "mlp_only_layers", "layers_block_type"}


def moe_layers(config: Mapping[str, Any], num_layers: int) -> tuple[int, ...]:
    """Return the MoE layers of a model of *num_layers*, ascending.

    Raises
    ------
    ValueError
        ``key: what is wrong; what would be right``.
    """
    rules = _by_rules(config, num_layers)
    lists = {key: layers for key in _LISTS if (layers := _listed(config, key, num_layers)) is not None}
    blocks = config.get("layers_block_type")  # Nemotron-H; Jamba's has no MoE entries
    if isinstance(blocks, list) and "moe" in blocks:
        lists["layers_block_type"] = _flagged("layers_block_type", blocks, num_layers, ("moe",), _BLOCKS)
    _check_agreement(rules, lists)
    found = next(iter(lists.values()), frozenset(range(num_layers)).intersection(*rules.values()))
    if not found:
        raise ValueError("no layer is a MoE layer; give the config of a Mixture-of-Experts model")
    return tuple(sorted(found))


def _check_agreement(rules: Mapping[str, Layers], lists: Mapping[str, Layers]) -> None:
    """Check that lists are equal, that they satisfy all rules, and that rules of one kind are equal."""
    for key, layers in lists.items():
        other = next((name for name, others in lists.items() if others != layers), None)
        other = other or next((name for name, allowed in rules.items() if not layers <= allowed), None)
        if other:
            raise ValueError(f"{key}: contradicts {other}; keep the correct one")
    for kind in (_DENSE, _STEPS):
        stated = [key for key in kind if key in rules]
        for key in stated[1:]:
            if rules[key] != rules[stated[0]]:
                raise ValueError(f"{key}: contradicts {stated[0]}; keep the correct one")


def _by_rules(config: Mapping[str, Any], num_layers: int) -> dict[str, Layers]:
    """Return the layers that satisfy each rule of *config*."""
    rules: dict[str, Layers] = {}
    every = range(num_layers)
    for key, rule in _RULES.items():
        value = config.get(key)
        if value is None or (key == "moe_layer_end_index" and value == -1):
            continue
        if isinstance(value, list | tuple):
            if key in _LISTS:
                continue
            raise ValueError(f"{key}: a list is not supported here; write the model out with moe_layers")
        least = 0 if key in _FROM_ZERO else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{key}: {value!r} is not right; it should be a whole number from {least} on")
        rules[key] = frozenset(filter(rule(value), every))
    period, offset = config.get("expert_layer_period"), config.get("expert_layer_offset")
    if (period is None) != (offset is None):
        raise ValueError("expert_layer_period: goes with expert_layer_offset; give both")
    if period is not None and offset is not None:
        rules["expert_layer_period"] = frozenset(filter(_every(period, offset), every))
    if config.get("mlp_only_layers"):
        rules["mlp_only_layers"] = frozenset(every) - _numbers("mlp_only_layers", config["mlp_only_layers"], num_layers)
    return rules


def _listed(config: Mapping[str, Any], key: str, num_layers: int) -> Layers | None:
    """Return the layers in the list *key*; None if there is none."""
    value = config.get(key)
    if value is None or value == [] or (key in _RULES and not isinstance(value, list)):
        return None
    if key == "hybrid_override_pattern":  # Nemotron-H: Mamba, attention, MLP, experts
        if not isinstance(value, str) or set(value) - set("M*-E"):
            raise ValueError(f"{key}: {value!r} is not right; it should have an M, *, - or E for each layer")
        return _flagged(key, list(value), num_layers, ("E",), tuple("M*-"))
    if key == "mlp_layer_types":
        return _flagged(key, value, num_layers, ("sparse", "moe", "hash_moe"), ("dense",))
    if key in ("is_moe_layer", "moe_layer_freq"):  # MiMo's, MiniMax's
        return _flagged(key, value, num_layers, (1,), (0,))
    return _numbers(key, value, num_layers)


def _flagged(key: str, value: Any, num_layers: int, sparse: tuple[Any, ...], others: tuple[Any, ...]) -> Layers:
    """Return the layers whose entry of *value* is one of *sparse*; all others must be one of *others*."""
    if not isinstance(value, list) or len(value) != num_layers:
        count = f"{len(value)} entries" if isinstance(value, list) else repr(value)
        raise ValueError(f"{key}: has {count} for {num_layers} layers; give one for each")
    known = (*sparse, *others)
    if stray := [entry for entry in value if entry not in known]:
        raise ValueError(f"{key}: {stray[0]!r} is not known; it should be one of {', '.join(map(repr, known))}")
    return frozenset(layer for layer, entry in enumerate(value) if entry in sparse)


def _numbers(key: str, value: Any, num_layers: int) -> Layers:
    """Return the layers whose indices are in *value*, in any order."""
    try:
        if isinstance(value, str):
            numbers = layer_numbers(value)
        elif isinstance(value, list) and all(isinstance(n, int) and not isinstance(n, bool) for n in value):
            numbers = tuple(value)
        else:
            raise ValueError(f"{value!r} is not right; it should be a list of layers")
        if stray := [n for n in numbers if not 0 <= n < num_layers]:
            raise ValueError(f"{stray[0]} is not a layer of the model; there are 0..{num_layers - 1}")
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    return frozenset(numbers)
