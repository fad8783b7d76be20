"""The sizes of a Mixture-of-Experts model that its routed experts depend on.

A routed expert is three matrices (gate, up, down) of hidden x intermediate weights, so it holds 3·h·i parameters and
spends 6·h·i FLOP on a token (a multiply and an add a weight).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen

from wss.errors import CHECKED

Precision = Literal["fp16", "fp8", "fp4"]

BYTES_PER_WEIGHT: dict[Precision, float] = {"fp16": 2.0, "fp8": 1.0, "fp4": 0.5}


@dataclass(frozen=True, kw_only=True)
class ModelShape:
    """Routed experts of one model; layer numbers are absolute (as in the checkpoint), counted from 0.

    Raises
    ------
    ValueError
        If top_k exceeds num_experts, or moe_layers are not ascending layers of the model.
    """

    __pydantic_config__ = CHECKED

    name: str
    num_layers: Annotated[int, Ge(1), Le(10_000)]
    moe_layers: Annotated[tuple[int, ...], MinLen(1)]
    num_experts: Annotated[int, Ge(1), Le(4096)]
    top_k: Annotated[int, Ge(1)]
    hidden_size: Annotated[int, Ge(1), Le(10**6)]
    moe_intermediate_size: Annotated[int, Ge(1), Le(10**6)]
    source: str = "given in the configuration"

    def __post_init__(self) -> None:
        if self.top_k > self.num_experts:
            raise ValueError(
                f"top_k {self.top_k} exceeds num_experts {self.num_experts}; use at most {self.num_experts}"
            )
        if sorted(set(self.moe_layers)) != list(self.moe_layers):
            raise ValueError("moe_layers are not ascending and distinct; list each MoE layer once, lowest first")
        if not 0 <= self.moe_layers[0] <= self.moe_layers[-1] < self.num_layers:
            raise ValueError(f"moe_layers leave the model; they must lie in 0..{self.num_layers - 1}")

    @property
    def flop_per_token(self) -> float:
        """FLOP one expert spends on one token."""
        return 6.0 * self.hidden_size * self.moe_intermediate_size

    def expert_bytes(self, precision: Precision) -> float:
        """Bytes of one routed expert's weights."""
        return 3.0 * self.hidden_size * self.moe_intermediate_size * BYTES_PER_WEIGHT[precision]

    @property
    def activation_bytes(self) -> float:
        """Bytes of buffers that one token takes on a die that computes one of its experts.

        Input and output (hidden) and what gate and up give (intermediate each), at 2 bytes an element whatever the
        precision of the weights.
        """
        return 2.0 * (2 * self.hidden_size + 2 * self.moe_intermediate_size)

    def weight_bytes(self, precision: Precision) -> float:
        """Bytes of all routed experts of all MoE layers."""
        return len(self.moe_layers) * self.num_experts * self.expert_bytes(precision)
