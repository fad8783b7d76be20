"""The sizes of a Mixture-of-Experts model.

A routed expert is three matrices (gate, up, down) of hidden x intermediate weights, so it has 3·h·i parameters and
takes 6·h·i FLOP per token (a multiply and an add per weight); or two (up, down: no gate, as with squared ReLU). Sizes
of attention, dense layers, shared experts and vocabulary are facts of the model that a fixed batch does not use.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen

from wss.errors import CHECKED, of_sound_fields
from wss.models.precision import AnyPrecision, Format, stated_activation_bytes, weight_bits
from wss.models.router import Router

Size = Annotated[int, Ge(1), Le(10**6)]
SizeFromZero = Annotated[int, Ge(0), Le(10**6)]


# Experts, hidden and intermediate size of known models with experts of two matrices (mlp_hidden_act relu2 in their
# config.json); Super's experts work on vectors of moe_latent_size.
_TWO_MATRICES = {(128, 2688, 1856): "Nemotron 3 Nano", (512, 1024, 2688): "Nemotron 3 Super"}

_OPTION = {"option": True}  # left out of provenance at its default


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Sizes of attention: grouped queries (num_kv_heads, head_dim), or multi-head latent attention (the others).

    Raises
    ------
    ValueError
        If it is neither, or both.
    """

    __pydantic_config__ = CHECKED

    num_heads: Size
    num_kv_heads: Size | None = field(default=None, metadata=_OPTION)
    head_dim: Size | None = field(default=None, metadata=_OPTION)
    q_lora_rank: Size | None = field(default=None, metadata=_OPTION)
    kv_lora_rank: Size | None = field(default=None, metadata=_OPTION)
    qk_nope_head_dim: Size | None = field(default=None, metadata=_OPTION)
    qk_rope_head_dim: SizeFromZero | None = field(default=None, metadata=_OPTION)
    v_head_dim: Size | None = field(default=None, metadata=_OPTION)

    @of_sound_fields
    def __post_init__(self) -> None:
        grouped = (self.num_kv_heads, self.head_dim)
        latent = (self.kv_lora_rank, self.qk_nope_head_dim, self.qk_rope_head_dim, self.v_head_dim)
        is_grouped = None not in grouped and latent == (None,) * 4 and self.q_lora_rank is None
        is_latent = None not in latent and grouped == (None, None)
        if not is_grouped and not is_latent:
            raise ValueError(
                "attention is neither grouped queries nor latent; give num_heads, num_kv_heads and head_dim, or "
                "num_heads, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim and, if any, q_lora_rank"
            )
        if self.num_kv_heads is not None and self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_kv_heads {self.num_kv_heads} do not divide num_heads {self.num_heads}")


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """One model; layer indices are absolute (as in the checkpoint), from 0.

    Attributes
    ----------
    num_experts
        Routed experts per layer that have weights.
    top_k
        Experts that the router chooses per token, zero-computation experts included.
    expert_matrices
        3 (gate, up, down) or 2 (up, down); None counts as 3.
    zero_experts
        Experts without weights and FLOP, which the router may choose: ids num_experts and above.
    expert_groups
        Groups of neighbouring experts among which the router chooses first (n_group); 1 for none.
    router
        How experts are chosen from logits, if known: used when logits are imported.
    attention, dense_intermediate_size, num_shared_experts, shared_intermediate_size, vocab_size
        Facts that a fixed batch does not use. *shared_intermediate_size* is the total of all shared experts.

    Raises
    ------
    ValueError
        If top_k exceeds the experts, expert_groups do not divide them, moe_layers are not ascending layers of the
        model, or expert_matrices is None and the sizes are those of a model whose experts have two.
    """

    __pydantic_config__ = CHECKED

    name: Annotated[str, MinLen(1)]
    num_layers: Annotated[int, Ge(1), Le(10_000)]
    moe_layers: Annotated[tuple[int, ...], MinLen(1)]
    num_experts: Annotated[int, Ge(1), Le(4096)]
    top_k: Annotated[int, Ge(1)]
    hidden_size: Size
    moe_intermediate_size: Size
    expert_matrices: Literal[2, 3] | None = field(default=None, metadata=_OPTION)
    zero_experts: Annotated[int, Ge(0), Le(4096)] = field(default=0, metadata=_OPTION)
    expert_groups: Annotated[int, Ge(1), Le(4096)] = field(default=1, metadata=_OPTION)
    router: Router | None = field(default=None, metadata=_OPTION)
    attention: Attention | None = field(default=None, metadata=_OPTION)
    dense_intermediate_size: Size | None = field(default=None, metadata=_OPTION)
    num_shared_experts: Annotated[int, Ge(0), Le(4096)] = field(default=0, metadata=_OPTION)
    shared_intermediate_size: Size | None = field(default=None, metadata=_OPTION)
    vocab_size: Annotated[int, Ge(1), Le(10**8)] | None = field(default=None, metadata=_OPTION)
    source: str = "given in the configuration"

    @of_sound_fields
    def __post_init__(self) -> None:
        if self.top_k > self.num_choices:
            free = f" and zero_experts {self.zero_experts}" if self.zero_experts else ""
            raise ValueError(
                f"top_k {self.top_k} exceeds num_experts {self.num_experts}{free}; use at most {self.num_choices}"
            )
        if self.num_experts % self.expert_groups:
            raise ValueError(
                f"expert_groups {self.expert_groups} do not divide num_experts {self.num_experts}; give groups that do"
            )
        sizes = (self.num_experts, self.hidden_size, self.moe_intermediate_size)
        if self.expert_matrices is None and sizes in _TWO_MATRICES:
            raise ValueError(
                f"expert_matrices is not given, and the experts of {_TWO_MATRICES[sizes]}, of the same sizes, have two "
                "(up, down; squared ReLU); give expert_matrices: 2, or 3 with a gate"
            )
        if sorted(set(self.moe_layers)) != list(self.moe_layers):
            raise ValueError("moe_layers are not ascending and distinct; list each MoE layer once, lowest first")
        if not 0 <= self.moe_layers[0] <= self.moe_layers[-1] < self.num_layers:
            raise ValueError(f"moe_layers leave the model; they must lie in 0..{self.num_layers - 1}")

    @property
    def num_choices(self) -> int:
        """Experts per layer that the router can choose: those with weights, and zero-computation experts."""
        return self.num_experts + self.zero_experts

    @property
    def matrices(self) -> int:
        """Number of matrices of an expert."""
        return self.expert_matrices or 3

    @property
    def flop_per_token(self) -> float:
        """FLOP of one expert for one token."""
        return 2.0 * self.matrices * self.hidden_size * self.moe_intermediate_size

    def expert_bytes(self, precision: Format | AnyPrecision) -> float:
        """Bytes of one routed expert's weights."""
        weights = float(self.matrices) * self.hidden_size * self.moe_intermediate_size
        return weights * (weight_bits(precision) / 8)

    @property
    def activation_bytes(self) -> float:
        """Bytes of buffers per token on a die that computes one of its experts.

        These are input and output (hidden) and the outputs of all matrices except down (intermediate each), at 2 bytes
        per element, whatever the precision of the weights.
        """
        return 2.0 * (2 * self.hidden_size + (self.matrices - 1) * self.moe_intermediate_size)

    def buffer_bytes(self, precision: AnyPrecision) -> float:
        """Bytes of the same buffers, in the format of activations if *precision* states it."""
        return self.activation_bytes / 2.0 * (stated_activation_bytes(precision) or 2.0)

    def weight_bytes(self, precision: Format | AnyPrecision) -> float:
        """Bytes of all routed experts of all MoE layers."""
        return len(self.moe_layers) * self.num_experts * self.expert_bytes(precision)
