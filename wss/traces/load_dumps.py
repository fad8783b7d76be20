"""The loads of one dump: tokens per expert, a row per layer, and how the rows map to the layers of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from wss.records import FloatArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Loads:
    """The loads of one dump."""

    name: str
    phase: str  # that it counted; "" if unknown
    layers: tuple[int, ...]  # absolute indices; row indices in the file if the rows were not numbered
    counts: FloatArray  # tokens of each expert, [layers, experts]
    top_k: int  # experts per token; 0 if unknown
    numbered: bool = True  # whether the file gives the layer of each row
    said_layers: int | None = None  # number of layers that the file declares for its model
    said_moe_layers: int | None = None  # likewise of MoE layers
    passes: FloatArray | None = None  # counts of each pass, [passes, layers, experts]; None if the file has one

    def by_pass(self) -> list[Loads]:
        """Return the loads of each pass that has tokens, in the order of the file; all together if it has one pass."""
        if self.passes is None:
            return [self]
        return [replace(self, counts=own, passes=None) for own in self.passes if own.any()]

    def with_tokens(self) -> Loads:
        """Return only the rows that have any tokens, passes summed."""
        rows = np.flatnonzero(self.counts.any(axis=1))
        layers = tuple(self.layers[row] for row in rows)
        return replace(self, layers=layers, counts=self.counts[rows], passes=None)

    def of_layers(self, moe_layers: Sequence[int], num_layers: int, num_experts: int) -> FloatArray:
        """Return the rows of a model's MoE layers, [MoE layers, experts]; a layer without tokens is zero.

        Parameters
        ----------
        moe_layers, num_layers, num_experts
            Of the model; *num_layers* includes dense layers, whose rows are skipped (see `dense_note`).

        Raises
        ------
        ValueError
            If the sizes are not the model's, or most of the tokens are in its dense layers.
        """
        rows, experts = self.counts.shape
        if experts != num_experts:
            raise ValueError(f"has loads of {experts} experts a layer, the model has {num_experts}")
        if self.said_layers not in (None, rows, num_layers):
            raise ValueError(f"is of a model of {self.said_layers} layers, as it says, and this one has {num_layers}")
        if self.said_moe_layers not in (None, len(moe_layers)):
            what = f"is of a model of {self.said_moe_layers} MoE layers, as it says"
            raise ValueError(f"{what}, and this one has {len(moe_layers)}")
        if self.numbered:
            return self._numbered(moe_layers)
        if rows == len(moe_layers):
            return self.counts
        if rows != num_layers:
            counted = f"{len(moe_layers)} MoE layers" + f" of {num_layers}" * (num_layers != len(moe_layers))
            raise ValueError(f"has {rows} rows, the model has {counted}; give a row for each of either")
        layers, share = self._dense(moe_layers, num_layers)
        if share > 0.5:
            numbers = ", ".join(map(str, layers[:5])) + (", ..." if len(layers) > 5 else "")
            raise ValueError(f"has {share:.0%} of its tokens in layers that the model says are dense ({numbers})")
        return self.counts[list(moe_layers)]

    def dense_note(self, moe_layers: Sequence[int], num_layers: int) -> str | None:
        """Return a note on tokens in rows of dense layers, which `of_layers` skips; None if there are none."""
        layers, share = self._dense(moe_layers, num_layers)
        if not layers:
            return None
        left, total = self.counts[layers].sum(), self.counts.sum()
        which = f"{len(layers)} layers that the model says are dense, such as {layers[0]}"
        which = which if len(layers) > 1 else f"layer {layers[0]}, which the model says is dense"
        return f"{left:,.0f} of {total:,.0f} tokens ({share:.0%}) are in {which}, and left out"

    def _dense(self, moe_layers: Sequence[int], num_layers: int) -> tuple[list[int], float]:
        """Return the dense layers that have tokens, and their share, if there is an unnumbered row for every layer."""
        if self.numbered or len(self.counts) != num_layers or num_layers == len(moe_layers):
            return [], 0.0
        layers = [layer for layer in range(num_layers) if layer not in moe_layers and self.counts[layer].any()]
        return layers, float(self.counts[layers].sum() / self.counts.sum())

    def _numbered(self, moe_layers: Sequence[int]) -> FloatArray:
        if len(set(self.layers)) < len(self.layers):
            twice = next(layer for layer in self.layers if self.layers.count(layer) > 1)
            raise ValueError(f"has layer {twice} twice")
        at = {layer: row for row, layer in enumerate(self.layers)}
        foreign = [layer for layer in self.layers if layer not in moe_layers and self.counts[at[layer]].any()]
        if foreign:
            raise ValueError(f"has tokens in layer {foreign[0]}, which is no MoE layer of the model")
        missing = [layer for layer in moe_layers if layer not in at]
        if missing:
            raise ValueError(f"lacks layer {missing[0]}, a MoE layer of the model")
        return self.counts[[at[layer] for layer in moe_layers]]
