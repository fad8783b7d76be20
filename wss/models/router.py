"""How routers choose experts from logits.

A router turns logits into scores, by softmax over the experts or by a sigmoid of each. It may add a correction bias to
the scores, for the choice alone. It may first rank groups of neighbouring experts and keep the best groups: by the sum
of a group's two best scores with a sigmoid (DeepSeek-V3), by its best score with a softmax (DeepSeek-V2). It then takes
the top k of the remaining experts; ties go to the lower expert.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Le

from wss.errors import CHECKED, of_sound_fields

Score = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, kw_only=True)
class Router:
    """How one model's router chooses.

    Attributes
    ----------
    score
        The score function; None if it is neither, which matters only if a bias or groups need scores.
    groups, topk_groups
        Groups of neighbouring experts, and how many of them a token may use; None if unknown.
    needs_bias
        Whether a correction bias, a weight of the checkpoint, is added to the scores.

    Raises
    ------
    ValueError
        If a token may use no group, or more than there are.
    """

    __pydantic_config__ = CHECKED

    score: Score | None
    groups: Annotated[int, Ge(1), Le(4096)] = 1
    topk_groups: int | None = 1
    needs_bias: bool = False

    @of_sound_fields
    def __post_init__(self) -> None:
        if self.topk_groups is not None and not 1 <= self.topk_groups <= self.groups:
            raise ValueError(f"topk_groups {self.topk_groups} of {self.groups} groups; give 1 to {self.groups}")

    def choose(
        self, logits: npt.NDArray[Any], top_k: int, bias: npt.NDArray[np.float64] | None = None
    ) -> npt.NDArray[np.int64]:
        """Return the chosen experts, best first, [layers, tokens, top_k].

        Parameters
        ----------
        logits, bias
            [layers, tokens, experts]; [layers, experts], added to the scores.

        Raises
        ------
        ValueError
            If the groups do not divide the experts, the groups that a token may use have fewer than top_k experts, or a
            required fact is unknown.
        """
        layers, tokens, experts = logits.shape
        if self.topk_groups is None:
            raise ValueError(f"how many of {self.groups} groups a token may use is unknown; give the number")
        if self.score is None and (bias is not None or self.topk_groups < self.groups):
            raise ValueError("the score function is unknown, and a bias or groups need scores; give it")
        if experts % self.groups:
            raise ValueError(f"{self.groups} groups do not divide {experts} experts; give groups of one size")
        size = experts // self.groups
        if self.topk_groups * size < top_k:
            raise ValueError(
                f"{self.topk_groups} groups have {self.topk_groups * size} experts, fewer than top-{top_k}"
            )
        if bias is None and self.topk_groups == self.groups:
            score = logits  # scores have the order of logits
        else:
            score = self._scores(logits.astype(np.float64))
            score = score if bias is None else score + bias[:, None]
        if self.topk_groups < self.groups:
            grouped = score.reshape(layers, tokens, self.groups, size)
            best = min(2 if self.score == "sigmoid" else 1, size)
            rank = np.sort(grouped, axis=3)[..., -best:].sum(axis=3)
            out = np.argsort(-rank, axis=2, kind="stable")[..., self.topk_groups :]
            grouped = grouped.copy()
            np.put_along_axis(grouped, out[..., None], -np.inf, axis=2)
            score = grouped.reshape(layers, tokens, experts)
        return np.argsort(-score, axis=2, kind="stable")[..., :top_k].astype(np.int64)

    def _scores(self, logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if self.score == "sigmoid":
            small = np.exp(-np.abs(logits))  # never overflows
            return np.where(logits >= 0, 1.0, small) / (1.0 + small)
        weight = np.exp(logits - logits.max(axis=2, keepdims=True))
        scores: npt.NDArray[np.float64] = weight / weight.sum(axis=2, keepdims=True)
        return scores
