"""Unknown keys of a config.json that may say how many experts there are, or in which layers.

A config has many keys that change no routed expert, so most unknown keys are ignored. Those below are not: a
misspelt rule would silently give every layer experts.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

_LAYERS = re.compile(
    r"(moe|expert|sparse|dense|mlp).*layer|layer.*(moe|expert|sparse|dense|mlp)"
    r"|(dense|sparse).*(step|replace|freq|interval|period)"
)
_NORM = re.compile("layer_?norm")


def _set(words: str) -> set[str]:
    return set(words.split())


# Words of a key. A rule has a word of the first and one of the second set, or only words of the third.
_EXPERTS = {"moe", "expert", "experts", "sparse", "dense", "ffn", "mlp"}
_WHERE = _set(
    "freq frequency period interval step steps every stride offset start end first last prefix suffix pattern types "
    "schedule enum list ids idx index indices replace skip skipped interleave only"
)
_ALONE = _set("freq frequency period interval step every stride pattern types schedule interleave")
_GENERIC = _ALONE | _set("layer layers block blocks decoder hybrid first last offset start n k")
_COUNTS = _set("n num number of total moe routed local router active activated selected per tok token k")
# Keys of real models that are no rule for experts: which layers are attention or Mamba, sizes, draft layers.
_HARMLESS = re.compile(
    r"(^|_)(attn|attention|window|rope|vision|audio|mamba|lora|index|size|dim|bias|act|dtype|coef)(_|$)"
)
_OF_DRAFT = re.compile(r"(^|_)(mtp|nextn|scale)(_|$)")
_OF_OTHERS = _set(
    "layer_types hybrid_layer_pattern hybrid_layers_types_block first_layers_types last_layers_types n_groups "
    "share_expert_dims shared_experts_intermediate_size mlp_intermediate_size dense_list"
)
_SWITCHES = ("use_moe", "is_moe", "enable_moe", "enable_moe_block", "has_moe", "moe")
_KINDS = {"moe", "dense", "sparse", "mlp", "ffn", "expert", "experts"}
_GENERATION = _set("top_p temperature do_sample num_beams typical_p repetition_penalty num_return_sequences")
_GENERATION_TOP_K = 50  # transformers' default, which it writes into configs
_ALIKE = 0.9  # similarity from which a key counts as a misspelling
_SPACING = re.compile(r"interval|freq|period|every|step")


def check_keys(config: Mapping[str, Any], known: Iterable[str], num_layers: int, counts: Mapping[str, int]) -> None:
    """Check that no unknown key of *config* may be a rule for layers or a count of experts.

    Parameters
    ----------
    known
        The keys that are read.
    counts
        Number of experts, and of experts per token, each by its key.

    Raises
    ------
    ValueError
        ``key: what is wrong; what would be right``.
    """
    names = set(known)
    for key, value in config.items():
        if key in _SWITCHES and value is False:
            raise ValueError(f"{key}: is false, and {_stated(counts)}; keep the correct one")
        if key in names or value in (None, False, []) or isinstance(value, dict):
            continue
        if key in ("top_k", "topk") and not _is_generation(config, value):
            _check_count(key, value, counts)
        if _is_count(key):
            _check_count(key, value, counts)
        elif _is_rule(key, value, num_layers):
            raise ValueError(
                f"{key}: may say which layers are MoE layers, and is not known; {_meant(key, names)}leave it out if it "
                "does not, or write the model out with num_layers, moe_layers, num_experts, top_k and sizes"
            )
        elif meant := _misspelt(key, names):
            raise ValueError(f"{key}: is not known; did you mean '{meant}'? Leave it out if not")


def _words(key: str) -> set[str]:
    return set(key.lower().split("_"))


def _is_rule(key: str, value: Any, num_layers: int) -> bool:
    """Whether *key* may say which layers have experts; a spacing of 1 skips none."""
    if _OF_DRAFT.search(key) or (value == 1 and _SPACING.search(key)):
        return False
    kinds = {entry.lower() for entry in value if isinstance(entry, str)} if isinstance(value, list) else set()
    if kinds & _KINDS and len(value) == num_layers:
        return True
    if key in _SWITCHES:
        return isinstance(value, list)
    if _LAYERS.search(_NORM.sub("", key)):
        return True
    if key in _OF_OTHERS or _HARMLESS.search(key):
        return False
    words = _words(key)
    return bool(words & _EXPERTS and words & _WHERE) or bool(len(words) > 1 and words <= _GENERIC and words & _ALONE)


def _is_count(key: str) -> bool:
    """Whether *key* may give the number of experts, or of experts per token."""
    words = _words(key)
    return bool(words & {"expert", "experts"}) and words <= _COUNTS | {"expert", "experts"} and len(words) > 1


def _check_count(key: str, value: Any, counts: Mapping[str, int]) -> None:
    """Check that the count *value* equals that of another key."""
    if value not in counts.values():
        mend = "leave it out, or keep the correct one"
        raise ValueError(f"{key}: {value!r} may be a count of experts, and {_stated(counts)}; {mend}")


def _stated(counts: Mapping[str, int]) -> str:
    return " and ".join(f"{name} is {count}" for name, count in counts.items())


def _is_generation(config: Mapping[str, Any], value: Any) -> bool:
    """Whether top_k is the sampling parameter of text generation, as transformers writes it into old configs."""
    return value == _GENERATION_TOP_K or any(key in config for key in _GENERATION)


def _misspelt(key: str, names: Iterable[str]) -> str | None:
    """Return the key that *key* may be a misspelling of; None if there is none."""
    if key in _OF_OTHERS or _OF_DRAFT.search(key):
        return None
    return next(iter(difflib.get_close_matches(key, names, n=1, cutoff=_ALIKE)), None)


def _meant(key: str, names: Iterable[str]) -> str:
    meant = _misspelt(key, names)
    return f"did you mean '{meant}'? Or " if meant else ""
