"""What a MoE layer does around its experts' products: routing, permutation, quantisation, activation, weighted sum.

These small kernels run before and after the products and do not overlap with them. Their time is a fixed part, of all
dies, and a part for the activations of each die's tokens (`wss.hardware.kernels.moe_layer`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from wss.hardware.kernels import of_die
from wss.hardware.kernels.moe_layer import MOE_LAYERS, MoeLayer, activation_s
from wss.hardware.specs import DieSpec, Precision
from wss.records import FloatArray


@dataclass(frozen=True, kw_only=True)
class LayerOverhead:
    """The overhead of a layer, for one shape of experts on one die.

    Attributes
    ----------
    layer
        The measured layer.
    die
        The die.
    hidden, intermediate
        Sizes of an expert.
    """

    layer: MoeLayer
    die: DieSpec
    hidden: int
    intermediate: int

    @property
    def fixed_s(self) -> float:
        """Seconds that every layer takes on every die, however few tokens it has."""
        return self.layer.fixed_s

    def seconds(self, tokens: float, token_experts: FloatArray) -> FloatArray:
        """Return the seconds of each die, [dies].

        *tokens* are those that each die routes, the same number for all; *token_experts* are those that each die
        computes, [dies].
        """
        shape = (self.hidden, self.intermediate)
        return self.fixed_s + activation_s(self.layer, of_die(self.die), tokens, token_experts, *shape)


OVERHEADS: Mapping[Precision, MoeLayer] = {"fp16": MOE_LAYERS["moe_bf16"], "fp8": MOE_LAYERS["moe_fp8_block"]}
